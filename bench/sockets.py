"""What sockets cost: `python -m bench.sockets`, with a server and a store of its own.

The CPU time is the server's alone, for messages of 800 bytes between devices of a book. The runs take turns, and the
median is shown with the least and the most.
"""

import argparse
import asyncio
import json
import os
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from statistics import median

import uvloop

from bench.load import LoadPeer, Relay, connect_all
from bench.pages import cpu_seconds, resident, show
from bench.scaling import BOOK, a_server, new_books, pairs_in, peers_of
from tests.process import redis_server

SIZE = 800
MESSAGES = 16_000
RUNS = 5
_SETTLE = 12  # seconds after which all is told that is told late
_KINDS = ("candidate", "offer")
_BURSTS = (1, 8)


class Talker(LoadPeer):
    """A peer that counts offers as well."""

    def _take(self, opcode: int, payload: bytes) -> None:
        if b'"offer":' in payload:
            self.heard()
        else:
            super()._take(opcode, payload)


def message(source: LoadPeer, target: LoadPeer, kind: str) -> bytes:
    """A message of 800 bytes as it travels, in a masked frame (RFC 6455, section 5.2)."""
    pairs = ":".join(source.fp[at : at + 2] for at in range(0, len(source.fp), 2))
    sdp = (
        "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n"
        f"a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 {pairs}\r\na=setup:actpass\r\na=mid:0\r\n"
    )
    value = (
        {"type": "offer", "sdp": sdp} if kind == "offer" else {"candidate": "candidate:842163049 1 udp", "sdpMid": "0"}
    )
    text = json.dumps({"target": target.fp, kind: value | {"more": ""}})
    text = json.dumps({"target": target.fp, kind: value | {"more": "x" * (SIZE - len(text))}})
    assert len(text) == SIZE
    return b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text.encode()


async def main(idle: int, seconds: float) -> None:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store_url = await stack.enter_async_context(redis_server())
        server = await stack.enter_async_context(a_server(store_url, folder, 0))
        os.sched_setaffinity(0, {1 % (os.cpu_count() or 1)})
        books = [[Talker(peer.fp, peer.uid) for peer in book] for book in await new_books(store_url, 20)]
        await connect_all([peer for book in books for peer in book], server.url)
        pairs = pairs_in([list[LoadPeer](book) for book in books])
        cost: dict[tuple[str, int], list[float]] = {(kind, burst): [] for kind in _KINDS for burst in _BURSTS}
        rate: dict[tuple[str, int], list[float]] = {each: [] for each in cost}
        for _ in range(RUNS):
            for kind, burst in cost:
                before = cpu_seconds(server.pid)
                took = await Relay(pairs, MESSAGES, burst=burst, at_once=10, frame_of=partial(message, kind=kind)).run()
                cost[kind, burst].append((cpu_seconds(server.pid) - before) / MESSAGES * 1e6)
                rate[kind, burst].append(MESSAGES / took)
        show([("", "", "target")])
        for (kind, burst), costs in cost.items():
            spread = f"{median(costs):.1f} µs ({min(costs):.1f} to {max(costs):.1f})"
            show([(f"a relayed {kind} of {SIZE} bytes, {burst} at once: server CPU", spread, "")])
            show([("  rate", f"{median(rate[kind, burst]):.0f}/s", "")])
        before_memory = resident(server.pid)
        crowd = peers_of(await new_books(store_url, idle // BOOK))
        await connect_all(crowd, server.url)
        await asyncio.sleep(_SETTLE)
        grown = resident(server.pid) - before_memory
        before = cpu_seconds(server.pid)
        await asyncio.sleep(seconds)
        share = (cpu_seconds(server.pid) - before) / seconds
        show(
            [
                (f"{len(crowd)} idle verified devices", "", ""),
                ("  memory for each, its book and presence included", f"{grown / len(crowd) / 1000:.1f} KB", "<= 6 KB"),
                ("  memory of the process", f"{resident(server.pid) / 1e6:.0f} MB", "<= 120 MB"),
                (f"  CPU with their pings, over {seconds:.0f} s", f"{share:.2%} of a core", "<= 3 %"),
            ]
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=int, default=10_000, help="how many idle devices")
    parser.add_argument("--seconds", type=float, default=50, help="for how long nobody says anything")
    given = parser.parse_args()
    uvloop.run(main(given.idle, given.seconds))
