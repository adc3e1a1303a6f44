"""Crowds: many WebSockets at little cost, without a library. They hear, and say nothing but what they are told to say."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import urlencode, urlsplit

from tests.support import SECONDS, new_fingerprint

_AT_ONCE = 50
_CLOSE = 0x88


class Wire(asyncio.Protocol):
    """One WebSocket that answers nothing, neither pings nor the server's close."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.heard_at = 0.0
        self.transport: asyncio.Transport
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self.heard_at = asyncio.get_running_loop().time()
        if not self.answered.done() and b"\r\n\r\n" in self.heard:
            head, _, rest = bytes(self.heard).partition(b"\r\n\r\n")
            self.heard[:] = rest
            self.answered.set_result(head.split(b"\r\n")[0])
        if self.answered.done() and self.heard and not self.greeted.done():
            self.greeted.set_result(None)

    def eof_received(self) -> bool:
        return True  # it stays

    @property
    def close_code(self) -> int | None:
        """The code of the server's close frame, if that came."""
        for opcode, payload in self._frames():
            if opcode == _CLOSE:
                return int.from_bytes(payload[:2])
        return None

    def _frames(self) -> list[tuple[int, bytes]]:
        """What was heard: a server's frames, which are not masked (RFC 6455, section 5.2)."""
        frames, at = [], 0
        while at + 2 <= len(self.heard):
            opcode, length, body = self.heard[at], self.heard[at + 1], at + 2
            if length == 126:
                length, body = int.from_bytes(self.heard[at + 2 : at + 4]), at + 4
            frames.append((opcode, bytes(self.heard[body : body + length])))
            at = body + length
        return frames


def upgrade(url: str, **query: str) -> bytes:
    """The request that opens a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET /ws?{urlencode({'fp': new_fingerprint()} | query)} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


async def dial(url: str) -> Wire:
    """A connection on which nothing was said yet."""
    host, _, port = urlsplit(url).netloc.partition(":")
    _, wire = await asyncio.get_running_loop().create_connection(Wire, host, int(port))
    return wire


async def connect(url: str, **query: str) -> Wire:
    """An open socket that was told how it stands."""
    wire = await dial(url)
    wire.transport.write(upgrade(url, **query))
    await asyncio.wait_for(wire.greeted, SECONDS)
    return wire


@asynccontextmanager
async def crowd(url: str, count: int, **query: str) -> AsyncIterator[list[Wire]]:
    """So many silent sockets; each waits, since nobody knows it."""
    wires: list[Wire] = []
    try:
        for begin in range(0, count, _AT_ONCE):
            wires += await asyncio.gather(*(connect(url, **query) for _ in range(begin, min(begin + _AT_ONCE, count))))
        yield wires
    finally:
        for wire in wires:
            wire.transport.abort()
