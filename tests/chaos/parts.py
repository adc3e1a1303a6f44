"""The parts that fail: a store in a process of its own, and a TCP proxy between two parts."""

import asyncio
import shutil
import signal
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from typing import cast

import pytest
from redis.asyncio import Redis

from tests.process import Program, free_port, program


class Store:
    """Debian's Redis on one port, with every write on its disk. It may be killed, stopped and started again."""

    def __init__(self, folder: Path) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.fail("This test runs against Debian's Redis: apt install redis-server.")
        self.port = free_port()
        self.redis = Redis(port=self.port, decode_responses=True, socket_timeout=2)
        self._command = f"{binary} --port {self.port} --bind 127.0.0.1 --appendonly yes --appendfsync always".split()
        self._folder = folder
        self._running = AsyncExitStack()
        self._program: Program | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start it with the data that it had; returns when it answers."""
        command = (*self._command, "--dir", str(self._folder), "--save", "")
        self._program = await self._running.enter_async_context(program(*command))
        await self._program.line("Ready to accept connections")

    async def kill(self) -> None:
        """SIGKILL."""
        assert self._program
        self._program.kill()
        await self._program.exit_code()
        await self._running.aclose()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stopped until the end of the block."""
        self.freeze()
        try:
            yield
        finally:
            self.go_on()

    def freeze(self) -> None:
        """SIGSTOP."""
        assert self._program
        self._program.signal_group(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self._program
        self._program.signal_group(signal.SIGCONT)

    async def close(self) -> None:
        await self.redis.aclose()
        await self._running.aclose()


@asynccontextmanager
async def open_store(folder: Path) -> AsyncIterator[Store]:
    """A store that answers."""
    store = Store(folder)
    try:
        await store.start()
        yield store
    finally:
        await store.close()


class Proxy:
    """A TCP proxy that may be slow, cut in the middle of a reply, say nothing, or refuse."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.delay = 0.0
        """Seconds for which each piece is kept back."""
        self.target = target
        self.ends: set[End] = set()
        self.is_silent = False
        self.replies_to_cut = 0
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Take calls, at the same port as before."""
        self._server = await asyncio.get_running_loop().create_server(lambda: End(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Take no calls, and end those that are."""
        if self._server:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        for end in tuple(self.ends):
            end.reset()

    def cut_replies(self, number: int) -> None:
        """Reset the next so many connections in the middle of a reply: half of it is sent."""
        self.replies_to_cut = number

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Calls are taken, and nothing passes, until the end of the block."""
        self.is_silent = True
        try:
            yield
        finally:
            self.is_silent = False
            for end in tuple(self.ends):
                end.pass_on()


class End(asyncio.Protocol):
    """One end of a call through a proxy. What comes in here goes out at its other end."""

    def __init__(self, proxy: Proxy, other: "End | None" = None) -> None:
        self._proxy = proxy
        self._other = other
        self._replies = other is not None
        self._transport: asyncio.Transport | None = None
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._proxy.ends.add(self)
        if self._other:
            self._other._other = self
            self._other.pass_on()
        else:
            self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: End(self._proxy, self), "127.0.0.1", self._proxy.target)
        except OSError:
            self.reset()

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._pieces.append((loop.time() + self._proxy.delay, data))
        if self._proxy.delay:
            loop.call_later(self._proxy.delay, self.pass_on)
        else:
            self.pass_on()

    def pass_on(self) -> None:
        """Pass on what is due."""
        now = asyncio.get_running_loop().time() + 0.005
        while self._pieces and self._pieces[0][0] <= now and not self._proxy.is_silent:
            if self._other is None or self._other._transport is None or self._other._transport.is_closing():
                return
            _, data = self._pieces.popleft()
            if self._replies and self._proxy.replies_to_cut:
                self._proxy.replies_to_cut -= 1
                self._other._transport.write(data[: len(data) // 2])
                return self._other.reset()
            self._other._transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._proxy.ends.discard(self)
        if self._other:
            self._other.reset()

    def reset(self) -> None:
        """End it with RST, whatever it still has to say."""
        if self._transport and not self._transport.is_closing():
            self._transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
            self._transport.abort()


@asynccontextmanager
async def open_proxy(target: int) -> AsyncIterator[Proxy]:
    """A proxy to that port."""
    proxy = Proxy(target)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
