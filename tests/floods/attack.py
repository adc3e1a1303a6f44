"""Attackers in a process of their own: `python -m tests.floods.attack <what> <url> <count> <speed>`.

Each connection attacks until the server cuts it. At the end one line says how that went: how many were cut, and after how
many seconds the last one was, or how the server answered. `speed`: how much faster than usual the server's wheel turns.
"""

import asyncio
import json
import os
import random
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import cast
from urllib.parse import urlsplit

import uvloop

from tests.crowds import upgrade
from tests.support import new_fingerprint

PATIENCE = 60.0
_MASK = bytes(4)  # changes nothing
_CHUNK = 1 << 16


def frame(first: int, payload: bytes = b"") -> bytes:
    """A frame as a client sends it."""
    size = len(payload)
    if size < 126:
        return bytes([first, 0x80 | size]) + _MASK + payload
    if size < 1 << 16:
        return bytes([first, 0x80 | 126]) + size.to_bytes(2, "big") + _MASK + payload
    return bytes([first, 0x80 | 127]) + size.to_bytes(8, "big") + _MASK + payload


def many(piece: bytes) -> bytes:
    """So many that they fill what a server reads at once."""
    return piece * (_CHUNK // len(piece))


class Attacker(asyncio.Protocol):
    """One connection. It says `flood` every `pause` seconds, where there is room for it, and reads if it `reads`."""

    def __init__(self, flood: bytes, pause: float, *, reads: bool) -> None:
        loop = asyncio.get_running_loop()
        self.heard = b""
        self.cut: asyncio.Future[float] = loop.create_future()
        self.answered: asyncio.Future[bytes] = loop.create_future()
        self.transport: asyncio.Transport
        self._flood = flood
        self._pause = pause
        self._reads = reads
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard = (self.heard + data)[-4096:]
        if not self.answered.done() and (head := re.match(rb"HTTP/1.1 (\d+)", self.heard)):
            self.answered.set_result(head[1])

    def eof_received(self) -> None:
        if self._began:
            self.transport.abort()

    def attack(self, first: bytes = b"") -> None:
        """Begin."""
        self._began = time.monotonic()
        if not self._reads:
            self.transport.pause_reading()
        self.transport.write(first)
        self._go_on()

    def _go_on(self) -> None:
        if self.transport.is_closing():
            return
        loop = asyncio.get_running_loop()
        if self._flood and self.transport.get_write_buffer_size() < _CHUNK:
            self.transport.write(self._flood)
        self._timer = loop.call_later(self._pause, self._go_on)

    async def fate(self) -> str:
        """How its request was answered: `waits`, or the code with which it was refused, before the upgrade or after it."""
        answer = (await self.answered).decode()
        while answer == "101" and b'"code":' not in self.heard and not self.cut.done():  # noqa: ASYNC110 - in its process
            await asyncio.sleep(0.01)
        return "waits" if b'"code":401' in self.heard else "503" if b'"code":503' in self.heard else answer

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        if not self.answered.done():
            self.answered.set_result(b"0")
        if not self.cut.done():
            self.cut.set_result(time.monotonic() - self._began)


class Attack:
    """What an attack knows: where the server is, how many attack it, how fast its wheel turns; and peers of books."""

    def __init__(self, url: str, count: int, speed: float) -> None:
        self.url = url
        self.count = count
        self.speed = speed
        self.host, _, port = urlsplit(url).netloc.partition(":")
        self.port = int(port)

    async def dial(
        self, flood: bytes = b"", pause: float = 0.002, *, reads: bool = True, small: bool = False
    ) -> Attacker:
        """A connection on which nothing was said. `small`: the system keeps as little as it can for its reader."""
        near = socket.socket()
        near.setblocking(False)
        if small:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(near, (self.host, self.port))
        _, attacker = await loop.create_connection(lambda: Attacker(flood, pause, reads=reads), sock=near)
        return attacker

    def request(self, network: str = "", **query: str) -> bytes:
        """An upgrade from that address, another one each time if it is not given."""
        network = network or f"198.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(256)}"
        head = upgrade(self.url, **query)
        return head.replace(b"\r\n\r\n", f"\r\nX-Forwarded-For: {network}\r\n\r\n".encode())

    async def sockets(
        self, flood: bytes, first: bytes = b"", *, reads: bool = True, pause: float = 0.002
    ) -> list[Attacker]:
        """Strangers with an open WebSocket who all begin at the same time, when the test says so."""
        attackers = []
        for _ in range(self.count):
            attacker = await self.dial(flood, pause, reads=reads)
            attacker.transport.write(self.request())
            assert await attacker.answered == b"101", attacker.heard
            attackers.append(attacker)
        await start_signal()
        for each in attackers:
            each.attack(first)
        return attackers

    async def device(self, fp: str, uid: str, attacker: Attacker) -> Attacker:
        """This one opens a WebSocket as that device."""
        attacker.transport.write(self.request(fp=fp, uid=uid))
        assert await attacker.answered == b"101", attacker.heard
        return attacker

    async def requests(self, begin: bytes, drip: bytes) -> list[Attacker]:
        """Connections that speak HTTP, slowly."""
        attackers = [await self.dial(drip, 1 / self.speed) for _ in range(self.count)]
        await start_signal()
        for each in attackers:
            each.attack(begin)
        return attackers


async def start_signal() -> str:
    """Say that all is ready, and wait for the test's line."""
    print("ready", flush=True)  # noqa: T201 - the test reads it
    return await asyncio.to_thread(sys.stdin.readline)


async def all_cut(attackers: list[Attacker]) -> str:
    """Wait until all are cut."""
    done, late = await asyncio.wait([each.cut for each in attackers], timeout=PATIENCE)
    seconds = max((each.result() for each in done), default=0)
    return f"cut {len(done)} of {len(attackers)} in {seconds:.2f} s" + (", the others never" if late else "")


async def pings(attack: Attack) -> str:
    """Pings, whose answers nobody reads."""
    return await all_cut(await attack.sockets(many(frame(0x89, b"x" * 100)), reads=False))


async def empty_fragments(attack: Attack) -> str:
    """A message that never ends, of nothing."""
    return await all_cut(await attack.sockets(many(frame(0x00)), frame(0x01)))


async def small_fragments(attack: Attack) -> str:
    """A message that never ends, of single bytes."""
    return await all_cut(await attack.sockets(many(frame(0x00, b"x")), frame(0x01, b"x")))


async def huge_lengths(attack: Attack) -> str:
    """Frames that say they are 2^63 bytes long."""
    head = bytes([0x81, 0xFF]) + (1 << 63).to_bytes(8, "big") + _MASK
    return await all_cut(await attack.sockets(bytes(_CHUNK), head))


async def deep_json(attack: Attack) -> str:
    """Devices that are in send messages that are nested 16,000 deep."""
    text = frame(0x81, b'{"target":' + b"[" * 16000 + b"]" * 16000 + b"}")
    attackers = []
    for fp, uid in json.loads(await start_signal())[: attack.count]:
        attackers.append(await attack.device(fp, uid, await attack.dial(text)))
    for each in attackers:
        each.attack()
    return await all_cut(attackers)


async def slow_heads(attack: Attack) -> str:
    """Heads of requests, a byte a second."""
    return await all_cut(await attack.requests(b"GET / HTTP/1.1\r\nHost: book\r\nX-Slow: ", b"x"))


async def slow_bodies(attack: Attack) -> str:
    """Bodies of requests, a byte a second."""
    head = b"POST /verify HTTP/1.1\r\nHost: book\r\nContent-Length: 60000\r\n\r\n{"
    return await all_cut(await attack.requests(head, b" "))


async def half_open(attack: Attack) -> str:
    """Connections that say nothing."""
    return await all_cut(await attack.requests(b"", b""))


async def storm(attack: Attack) -> str:
    """Connect, ask for the upgrade and hang up, as fast as it goes, a hundred at the same time."""
    left = attack.count
    await start_signal()
    began = time.monotonic()

    async def dial_on() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            attacker = await attack.dial()
            attacker.transport.write(attack.request())
            if left % 2:
                await attacker.answered
            attacker.transport.abort()

    await asyncio.gather(*(dial_on() for _ in range(100)))
    return f"{attack.count} came and went in {time.monotonic() - began:.2f} s"


async def one_address(attack: Attack) -> str:
    """Two hundred connects a second from one address, which all want to wait."""
    attackers: list[Attacker] = []
    await start_signal()
    began = time.monotonic()
    for number in range(attack.count):
        attacker = await attack.dial()
        attacker.transport.write(attack.request("203.0.113.66", fp=new_fingerprint()))
        attackers.append(attacker)
        await asyncio.sleep(max(0, began + number / 200 - time.monotonic()))
    answers = Counter([await each.fate() for each in attackers])
    for each in attackers:
        each.transport.abort()
    return "answers " + json.dumps(answers)


async def stuck_readers(attack: Attack) -> str:
    """Devices that are in send offers to themselves, as many as they may, and read nothing."""
    peers = json.loads(await start_signal())
    attackers = []
    for fp, uid in peers:
        text = json.dumps({"target": fp, "offer": "x" * 7000}).encode()
        offers = frame(0x81, text) * 8  # as the limit of messages allows
        attacker = await attack.dial(offers, 2.2, reads=False, small=True)
        attackers.append((await attack.device(fp, uid, attacker), offers))
    for attacker, first in attackers:
        attacker.attack(first)
    return await all_cut([attacker for attacker, _ in attackers])


async def suspend(attack: Attack) -> str:
    """Frames that pile up while the server stands still: the test stops it before these begin."""
    return await all_cut(await attack.sockets(many(frame(0x81, b"{}") + frame(0x89))))


ATTACKS: dict[str, Callable[[Attack], Awaitable[str]]] = {
    each.__name__: each
    for each in (
        *(pings, empty_fragments, small_fragments, huge_lengths, deep_json, slow_heads, slow_bodies, half_open),
        *(storm, one_address, stuck_readers, suspend),
    )
}


async def main(what: str, url: str, count: str, speed: str) -> None:
    print(await ATTACKS[what](Attack(url, int(count), float(speed))), flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    os.nice(5)  # the server and the peers, not the attackers, are measured
    uvloop.run(main(*sys.argv[1:]))
