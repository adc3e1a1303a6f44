"""The WebSocket protocol (RFC 6455) against clients that misbehave: every byte is sent by hand."""

import asyncio
import base64
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from app.connections import Connection
from app.wheel import Wheel
from tests.conftest import Start
from tests.support import SECONDS, Message, Scene, eventually, new_fingerprint

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 0x1, 0x2, 0x8, 0x9, 0xA, 0x0


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """A frame as a client sends it, or as it should not."""
    first, mask = (0x80 if fin else 0) | reserved << 4 | opcode, 0x80 if masked else 0
    head = bytes([first])
    if len(payload) < 126:
        head += bytes([mask | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([mask | 126]) + len(payload).to_bytes(2)
    else:
        head += bytes([mask | 127]) + len(payload).to_bytes(8)
    if not masked:
        return head + payload
    key = secrets.token_bytes(4)
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


class RawSocket:
    """A client that says exactly the bytes it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, scene: Scene, behind: bytes = b"", **query: str) -> "RawSocket":
        """Upgrade, with `behind` in the segment of the request, and read the server's 101."""
        host, port = scene.http.base_url.host, scene.http.base_url.port
        raw = cls(*await asyncio.open_connection(host, port))
        fp = query.pop("fp", "") or new_fingerprint()
        extra = "".join(f"&{key}={value}" for key, value in query.items())
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        raw.writer.write(
            f"GET /ws?fp={fp}{extra} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            + behind
        )
        head = await asyncio.wait_for(raw.reader.readuntil(b"\r\n\r\n"), SECONDS)
        assert head.startswith(b"HTTP/1.1 101 "), head
        return raw

    def say(self, *frames: bytes) -> None:
        """Send the bytes in one piece."""
        self.writer.write(b"".join(frames))

    async def hear_frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame, which a server sends whole and unmasked."""
        async with asyncio.timeout(SECONDS):
            first, second = await self.reader.readexactly(2)
            assert first & 0xF0 == 0x80
            size = second
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2))
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8))
            return first & 0xF, await self.reader.readexactly(size)

    async def hear(self) -> Message:
        """The next message."""
        opcode, payload = await self.hear_frame()
        assert opcode == TEXT
        return cast(Message, json.loads(payload))

    async def close_code(self) -> int:
        """The code of the server's close frame, and the end of the connection behind it."""
        opcode, payload = await self.hear_frame()
        while opcode != CLOSE:
            opcode, payload = await self.hear_frame()
        assert await asyncio.wait_for(self.reader.read(), SECONDS) == b""
        return int.from_bytes(payload[:2])

    async def is_cut(self) -> bool:
        """Wait for the end of the connection; True where no close frame came before it."""
        try:
            while (await self.hear_frame())[0] != CLOSE:
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            return True
        finally:
            self.writer.transport.abort()
        return False


Open = Callable[..., Any]


@pytest.fixture
async def opened(scene: Scene) -> AsyncIterator[Open]:
    """Opens raw sockets, reads their first status, and cuts them at the end."""
    sockets: list[RawSocket] = []

    async def open_one(behind: bytes = b"", **query: str) -> RawSocket:
        raw = await RawSocket.open(scene, behind, **query)
        sockets.append(raw)
        assert (await raw.hear())["code"] in (200, 401)
        return raw

    yield open_one
    for raw in sockets:
        raw.writer.transport.abort()


UNKNOWN = b'{"command": "fly", "id": 1}'


async def test_a_message_in_fragments_is_one_message(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, UNKNOWN[:5], fin=False), frame(CONTINUATION, b"", fin=False), frame(CONTINUATION, UNKNOWN[5:]))
    assert (await raw.hear())["id"] == 1


async def test_a_ping_between_fragments_is_answered_and_disturbs_nothing(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, UNKNOWN[:5], fin=False), frame(PING, b"still there?"), frame(CONTINUATION, UNKNOWN[5:]))
    heard = [await raw.hear_frame(), await raw.hear_frame()]
    assert (PONG, b"still there?") in heard
    assert any(opcode == TEXT and json.loads(payload)["id"] == 1 for opcode, payload in heard)


async def test_a_character_that_is_split_between_fragments_is_whole(opened: Open) -> None:
    raw = await opened()
    text = '{"command": "fly", "id": "é"}'.encode()
    cut = text.index("é".encode()) + 1
    raw.say(frame(TEXT, text[:cut], fin=False), frame(CONTINUATION, text[cut:]))
    assert (await raw.hear())["id"] == "é"


async def test_endless_empty_fragments_close_with_1009(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, b"", fin=False), *[frame(CONTINUATION, b"", fin=False)] * 100)
    assert await raw.close_code() == 1009


async def test_fragments_that_are_too_large_together_close_with_1009(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, b"x" * 40000, fin=False), frame(CONTINUATION, b"x" * 40000))
    assert await raw.close_code() == 1009


@pytest.mark.parametrize("text", [b"\xff", b'{"id": "\xc3"}', b"\xed\xa0\x80", b"\xc0\xaf"])
async def test_what_is_not_utf8_closes_with_1007(opened: Open, text: bytes) -> None:
    raw = await opened()
    raw.say(frame(TEXT, text))
    assert await raw.close_code() == 1007


async def test_what_is_not_utf8_over_fragments_closes_with_1007(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, b"\xc3", fin=False), frame(CONTINUATION, b"x"))
    assert await raw.close_code() == 1007


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(frame(TEXT, b"{}", masked=False), id="unmasked"),
        pytest.param(frame(TEXT, b"{}", reserved=1), id="rsv3"),
        pytest.param(frame(TEXT, b"{}", reserved=2), id="rsv2"),
        pytest.param(frame(TEXT, b"{}", reserved=4), id="compressed, which nobody agreed on"),
        pytest.param(frame(0x3), id="unknown opcode"),
        pytest.param(frame(0xB), id="unknown control opcode"),
        pytest.param(frame(CONTINUATION, b"{}"), id="continuation of nothing"),
        pytest.param(frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), id="text inside a fragmented text"),
        pytest.param(frame(PING, b"x" * 126), id="large ping"),
        pytest.param(frame(PING, b"x", fin=False), id="fragmented ping"),
        pytest.param(frame(CLOSE, b"\x03"), id="close of one byte"),
        pytest.param(frame(CLOSE, (1005).to_bytes(2)), id="close with a code that is never sent"),
    ],
)
async def test_bad_framing_closes_with_1002(opened: Open, wrong: bytes) -> None:
    raw = await opened()
    raw.say(wrong)
    assert await raw.close_code() == 1002


@pytest.mark.parametrize("size", [65537, 1 << 31, 1 << 62, 1 << 63, (1 << 64) - 1])
async def test_a_length_that_is_too_large_closes_before_its_bytes_come(opened: Open, size: int) -> None:
    raw = await opened()
    raw.say(bytes([0x80 | TEXT, 0x80 | 127]) + size.to_bytes(8) + b"mask")
    assert await raw.close_code() in (1009, 1002)


async def test_nothing_behind_bad_framing_is_served(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(0x3), frame(TEXT, UNKNOWN))
    opcode, _ = await raw.hear_frame()
    assert opcode == CLOSE
    assert await asyncio.wait_for(raw.reader.read(), SECONDS) == b""


async def test_a_ping_is_answered_with_its_own_payload(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(PING, b"\x00\xffhello"))
    assert await raw.hear_frame() == (PONG, b"\x00\xffhello")


async def test_an_unasked_pong_is_no_fault(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(PONG, b"?"), frame(TEXT, UNKNOWN))
    assert (await raw.hear())["id"] == 1


@pytest.mark.parametrize("payload", [b"", (1000).to_bytes(2), (1001).to_bytes(2) + b"bye", (4000).to_bytes(2)])
async def test_a_close_is_echoed_and_the_connection_ends(scene: Scene, opened: Open, payload: bytes) -> None:
    raw = await opened()
    raw.say(frame(CLOSE, payload))
    opcode, echoed = await raw.hear_frame()
    assert (opcode, echoed[:2]) == (CLOSE, payload[:2])
    assert await asyncio.wait_for(raw.reader.read(), SECONDS) == b""
    raw.writer.close()
    await eventually(lambda: len(scene.context.connections) == 0)


async def test_a_close_inside_a_fragmented_message_is_echoed(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, b"{", fin=False), frame(CLOSE, (1000).to_bytes(2)))
    assert await raw.close_code() == 1000


async def test_a_message_in_the_segment_of_the_upgrade_request_is_served(opened: Open) -> None:
    raw = await opened(frame(TEXT, UNKNOWN))
    assert (await raw.hear())["id"] == 1


async def test_bytes_that_come_one_by_one_are_one_message(opened: Open) -> None:
    raw = await opened()
    for byte in frame(TEXT, UNKNOWN):
        raw.say(bytes([byte]))
        await asyncio.sleep(0)
    assert (await raw.hear())["id"] == 1


async def test_a_client_that_hangs_up_without_a_close_is_gone(scene: Scene, opened: Open) -> None:
    raw = await opened()
    raw.writer.transport.abort()
    await eventually(lambda: len(scene.context.connections) == 0)


async def test_a_client_that_says_no_more_is_gone(scene: Scene, opened: Open) -> None:
    raw = await opened()
    raw.writer.write_eof()
    await eventually(lambda: len(scene.context.connections) == 0)


async def test_a_client_that_does_not_answer_a_close_is_cut(scene: Scene, opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, b"\xff"))
    assert await raw.close_code() == 1007
    await eventually(lambda: len(scene.context.connections) == 0)


async def test_a_plain_get_is_426_and_says_what_to_upgrade_to(scene: Scene) -> None:
    answer = await scene.http.get("/ws", params={"fp": new_fingerprint()})
    assert (answer.status_code, answer.json()["code"]) == (426, 426)
    assert answer.headers["upgrade"] == "websocket"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Sec-WebSocket-Version": "12"}, id="old version"),
        pytest.param({"Sec-WebSocket-Key": "short"}, id="bad key"),
        pytest.param({"Connection": "keep-alive"}, id="no upgrade"),
    ],
)
async def test_a_bad_handshake_is_refused(scene: Scene, headers: dict[str, str]) -> None:
    good = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    }
    answer = await scene.http.get("/ws", params={"fp": new_fingerprint()}, headers=good | headers)
    assert answer.status_code in (400, 426)
    assert answer.json()["code"] == answer.status_code


async def test_compression_is_never_agreed_on(scene: Scene) -> None:
    device = await scene.connect()
    assert device.socket.protocol.extensions == []


# Dead sockets


async def test_a_client_that_does_not_answer_pings_is_cut(start: Start) -> None:
    scene = await start()
    scene.context.wheel.stop()
    scene.context.wheel = wheel = Wheel(every=2, within=1, speed=20)
    wheel.start()
    raw = await RawSocket.open(scene)
    alive = await scene.connect()
    await alive.hear()
    assert await raw.is_cut()
    await eventually(lambda: len(scene.context.connections) == 1)
    await alive.hears_nothing()


async def test_a_client_that_answers_pings_stays(start: Start) -> None:
    scene = await start()
    scene.context.wheel.stop()
    scene.context.wheel = wheel = Wheel(every=2, within=1, speed=20)
    wheel.start()
    raw = await RawSocket.open(scene)
    for _ in range(5):
        opcode, payload = await raw.hear_frame()
        while opcode != PING:
            opcode, payload = await raw.hear_frame()
        raw.say(frame(PONG, payload))
    assert len(scene.context.connections) == 1
    raw.writer.transport.abort()


# Faults of our own


async def test_a_fault_while_a_message_is_served_closes_with_1011(
    scene: Scene, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(connection: Connection, message: bytes) -> None:
        raise ZeroDivisionError

    raw = await opened()
    scene.context.signaling.receive = fail  # type: ignore[assignment, method-assign]
    raw.say(frame(TEXT, UNKNOWN))
    with caplog.at_level(logging.CRITICAL):
        assert await raw.close_code() == 1011
    await eventually(lambda: len(scene.context.connections) == 0)
