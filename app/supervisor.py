"""The supervisor: the parent of WORKERS processes that serve one port, each like a dyno of its own.

It serves nothing itself. It keeps what they share: the listeners, the built-in store and the secret.
"""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Sequence

import uvloop

from app.lifeline import READY
from app.orders import Orders

log = logging.getLogger("peerbook")

_END_SECONDS = 4.2  # a worker needs less even where all that it waits for is stuck
_STEADY_SECONDS = 10.0
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0


def supervise(listeners: Sequence[socket.socket], store_url: str | None, ready: Callable[[], None]) -> int:
    """Have one worker serve each listener until SIGTERM or SIGINT; returns the exit code.

    It is 1 where a second signal cut it short, and the first worker's where that one can't start. `store_url` is the
    built-in store's address. `ready` is called once, as soon as all of them serve.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Supervisor(listeners, store_url).run(ready))


class Worker:
    """A worker as its parent sees it: a process, and the lifeline to it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._ready = False

    @classmethod
    async def start(cls, listener: socket.socket, store_url: str | None) -> "Worker":
        """A new process with that listener."""
        ours, theirs = socket.socketpair()
        shared = (listener.fileno(), theirs.fileno())
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "app.worker"),
                *(str(each) for each in shared),
                *([store_url] if store_url else []),
                pass_fds=shared,
            )
        except BaseException:
            writer.close()
            raise
        finally:
            theirs.close()
        return cls(process, reader, writer)

    async def is_ready(self) -> bool:
        """Wait until it serves; False where it ended before."""
        self._ready = self._ready or await self._reader.read(1) == READY
        return self._ready

    async def retired(self) -> None:
        """Wait until it takes no more connections: it is about to end, or has ended."""
        await self._reader.read()

    async def end(self) -> int:
        """Have it end, by force where it takes too long; returns its exit code."""
        self._writer.close()
        try:
            return await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        except TimeoutError:
            log.error("event=worker_killed")
            self.kill()
            return await self._process.wait()

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


class Supervisor:
    """The parent's work."""

    def __init__(self, listeners: Sequence[socket.socket], store_url: str | None) -> None:
        self._listeners = listeners
        self._store_url = store_url
        self._filled = [asyncio.Event() for _ in listeners]
        self._workers: set[Worker] = set()

    async def run(self, ready: Callable[[], None]) -> int:
        """Until told to stop; returns the exit code."""
        orders = Orders()
        failed = await orders.unless_told(self._keep_all(ready))
        if failed:
            return failed.result()
        log.info("event=stopping")
        for listener in self._listeners:
            listener.close()
        if await orders.unless_told(self._end_all()) is None:
            for worker in self._workers:
                worker.kill()
            return 1
        log.info("event=stopped")
        return 0

    async def _keep_all(self, ready: Callable[[], None]) -> int:
        """Fill all places and keep them filled. Where the first worker can't start none can: returns its exit code."""
        first = await self._start(0)
        if first is None:
            return 1
        if not await first.is_ready():
            return max(1, await first.end())
        async with asyncio.TaskGroup() as tasks:
            for place in range(len(self._listeners)):
                tasks.create_task(self._keep(place, first if place == 0 else await self._start(place), tasks))
            for filled in self._filled:
                await filled.wait()
            ready()
        raise AssertionError("places are kept for ever")

    async def _keep(self, place: int, worker: Worker | None, tasks: asyncio.TaskGroup) -> None:
        """One worker after the other. What waits at the listener meanwhile is for the next one, unless that can't start."""
        pause, loop = _FIRST_PAUSE, asyncio.get_running_loop()
        while True:
            began = loop.time()
            if worker:
                if await worker.is_ready():
                    self._filled[place].set()
                else:
                    self._turn_away(place)
                await worker.retired()
                tasks.create_task(self._see_off(worker))
            if loop.time() - began > _STEADY_SECONDS:
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            worker = await self._start(place)

    def _turn_away(self, place: int) -> None:
        """Nobody can serve there now: who connects goes to the other places, until a worker listens again (Linux)."""
        with contextlib.suppress(OSError):
            self._listeners[place].shutdown(socket.SHUT_RD)

    async def _start(self, place: int) -> Worker | None:
        try:
            worker = await Worker.start(self._listeners[place], self._store_url)
        except OSError as error:  # no room for one more process
            log.error("event=worker_not_started error=%s", type(error).__name__)
            self._turn_away(place)
            return None
        self._workers.add(worker)
        return worker

    async def _see_off(self, worker: Worker) -> None:
        code = await worker.end()
        self._workers.discard(worker)
        log.warning("event=worker_ended code=%d", code)

    async def _end_all(self) -> None:
        await asyncio.gather(*(worker.end() for worker in self._workers))
