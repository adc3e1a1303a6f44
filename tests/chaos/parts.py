"""The parts that fail: a store in a process of its own, and a TCP proxy between two parts."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from struct import pack

import pytest
from redis.asyncio import Redis

from tests.process import Program, free_port, program

Pair = tuple[asyncio.StreamWriter, asyncio.StreamWriter]


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
        """SIGSTOP, and SIGCONT at the end of the block."""
        assert self._program
        self._program.signal_group(signal.SIGSTOP)
        try:
            yield
        finally:
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
        self._target = target
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._cut_replies = 0
        self._pairs: set[Pair] = set()

    async def open(self) -> None:
        """Take calls, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Take no calls, and end those that are."""
        if self._server:
            self._server.close()
        self.cut()
        self._flows.set()

    def cut(self) -> None:
        """Reset every connection."""
        for pair in self._pairs:
            _reset(pair)

    def cut_replies(self, number: int) -> None:
        """Reset the next so many connections in the middle of a reply: half of it is sent."""
        self._cut_replies = number

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Calls are taken, and nothing passes, until the end of the block."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            return writer.transport.abort()
        pair = (writer, far_writer)
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, pair, far_writer, replies=False))
                both.create_task(self._pass_on(far_reader, pair, writer, replies=True))
        finally:
            self._pairs.discard(pair)
            _reset(pair)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        pair: Pair,
        writer: asyncio.StreamWriter,
        *,
        replies: bool,
    ) -> None:
        """Pass on what comes, in order, each piece `delay` after it came; at its end both sides end."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def take() -> None:
            data = b"-"
            while data:
                try:
                    data = await reader.read(65536)
                except OSError:
                    data = b""
                pieces.put_nowait((loop.time() + self.delay, data))

        taking = asyncio.create_task(take())
        try:
            while True:
                due, data = await pieces.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._flows.wait()
                if not data:
                    break
                if replies and self._cut_replies:
                    self._cut_replies -= 1
                    writer.write(data[: len(data) // 2])
                    break
                writer.write(data)
        finally:
            taking.cancel()
            with suppress(asyncio.CancelledError):
                await taking
            _reset(pair)


def _reset(pair: Pair) -> None:
    """End both sides with RST, whatever they still have to say."""
    for side in pair:
        if not side.transport.is_closing():
            side.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
            side.transport.abort()


@asynccontextmanager
async def open_proxy(target: int) -> AsyncIterator[Proxy]:
    """A proxy to that port."""
    proxy = Proxy(target)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
