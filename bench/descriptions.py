"""What the fingerprint check costs: `python -m bench.descriptions`, on usual offers and on the worst that fit a message."""

import base64
import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator
from statistics import median

from app.descriptions import check_description
from app.errors import ForgedDescription
from app.messages import encode
from app.peers import Fingerprint
from tests.descriptions import CHROMIUM, FP, attribute, sdp

SIZE = 65_536
RUNS = 200
_USUAL = 2_000

Grow = Callable[[int], object]


def usual() -> Iterator[tuple[str, bytes]]:
    """Offers as applications send them: 800 bytes for a data channel, 5 KB for audio and video."""
    media = sdp(*(f"a=rtpmap:{number} H264/90000" for number in range(96, 256)), attribute())
    for name, description in (("data channel", CHROMIUM), ("audio and video", CHROMIUM + media)):
        offer = {"type": "offer", "sdp": description}
        yield f"{name}, an object", encode({"offer": offer})
        yield f"{name}, JSON", encode({"offer": json.dumps(offer)})
        yield f"{name}, base64 of JSON", encode({"offer": base64.b64encode(json.dumps(offer).encode()).decode()})


def in_base64(times: int, text: str) -> Grow:
    """So much of this text, so many times in base64."""

    def grow(size: int) -> str:
        data = (text * (size // len(text))).encode()
        for _ in range(times):
            data = base64.b64encode(data)
        return data.decode()

    return grow


def in_json(times: int, text: str) -> Grow:
    """So much of this text, so many times a JSON string."""

    def grow(size: int) -> str:
        value = text * (size // len(text))
        for _ in range(times):
            value = json.dumps(value)
        return value

    return grow


def strings(text: str) -> Grow:
    """So many of this string."""
    return lambda size: [text] * (size // len(text))


WORST: dict[str, Grow] = {
    "blanks": in_json(0, " "),
    "nearly fingerprints": in_json(0, "=fingerprint;:"),
    "honest fingerprints": in_json(0, f"{attribute()}\r\n"),
    "nearly media": in_json(0, "v=0\r\nm=audio 0m=video 0m=application 0:"),
    "quotes": in_json(0, '"'),
    "backslashes": in_json(0, "\\"),
    "letters of others": in_json(0, "é漢\U0001f600"),
    "numbers": lambda size: [1] * (size // 2),
    "objects": lambda size: [{}] * (size // 3),
    "empty strings": strings(" "),
    "short strings": strings("a" * 197),
    "long strings": strings("a" * 200),
    "long strings of escapes": strings("\n\r\t:" * 50),
    "long strings of base64": strings("dj0w" * 100),
    "long strings of base64 with hyphens": strings("-dj0w" * 80),
    "noise in base64": lambda size: base64.b64encode(random.Random(1).randbytes(size)).decode(),
    "JSON of noise in base64": lambda size: base64.b64encode(b'{"' + random.Random(1).randbytes(size)).decode(),
    "UTF-32 in base64": lambda size: base64.b64encode(('{"' + "é" * (size // 4)).encode("utf-32")).decode(),
    **{f"{times} x base64": in_base64(times, "v=0\r\na=b:") for times in (1, 2, 3, 5, 9)},
    **{f"{times} x JSON of escapes": in_json(times, "\n") for times in (1, 2, 3, 4)},
    **{f"{times} x JSON of letters": in_json(times, "a:") for times in (1, 2, 3, 4)},
}


def fill(grow: Grow) -> bytes:
    """The longest message of its kind."""
    low, high = 0, 2 * SIZE
    while high - low > 16:
        middle = (low + high) // 2
        low, high = (middle, high) if len(encode({"offer": grow(middle)})) <= SIZE else (low, middle)
    return encode({"offer": grow(low)})


def measure(frame: bytes, runs: int) -> list[float]:
    """The CPU time of each check in microseconds: what else runs on the machine does not count."""
    took = []
    for _ in range(runs):
        start = time.thread_time_ns()
        with contextlib.suppress(ForgedDescription):
            check_description(frame, Fingerprint(FP), None)
        took.append((time.thread_time_ns() - start) / 1000)
    return took


def main() -> None:
    print(f"{'the check of an offer':<42}{'bytes':>7}{'median':>11}{'worst':>11}")
    for name, frame in usual():
        show(name, frame, measure(frame, _USUAL))
    medians = []
    for name, grow in WORST.items():
        frame = fill(grow)
        took = measure(frame, RUNS)
        show(name, frame, took)
        medians.append(median(took))
    print(f"  slowest median: {max(medians):.0f} µs, target <= 1000 µs")


def show(name: str, frame: bytes, took: list[float]) -> None:
    print(f"  {name:<40}{len(frame):>7}{median(took):>8.0f} µs{max(took):>8.0f} µs")


if __name__ == "__main__":
    main()
