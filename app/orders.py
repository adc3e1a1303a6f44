"""Orders to stop. The first one asks for an end in peace, another one for an end at once."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from app.lifeline import Lifeline

T = TypeVar("T")

_HEED_SECONDS = 1.0


class Orders:
    """SIGTERM and SIGINT to this process. Made while its loop runs.

    A worker may hear of one wish to stop several times: from the terminal or the platform, which signal to whole groups,
    and from its parent. All of them count once there; an end at once is for its parent to make.
    """

    def __init__(self, parent: Lifeline | None = None) -> None:
        self._orders: asyncio.Queue[None] = asyncio.Queue()
        self._parent = parent
        self._heard = False
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._hear)
        if parent:
            loop.add_reader(parent, self._hear)

    async def next(self) -> None:
        """Wait for an order."""
        await self._orders.get()

    async def unless_told(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T] | None:
        """The work once it is done, or None where it was given up for the next order."""
        told, working = asyncio.create_task(self.next()), asyncio.create_task(work)
        await asyncio.wait((told, working), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            if not told.cancel():  # it came in the same moment, and is for what comes next
                self._orders.put_nowait(None)
            return working
        while not working.done():
            working.cancel()  # which a client of the store may swallow
            await asyncio.wait((working,), timeout=_HEED_SECONDS)
        return None

    def _hear(self) -> None:
        if self._parent:
            asyncio.get_running_loop().remove_reader(self._parent)
            if self._heard:
                return
        self._heard = True
        self._orders.put_nowait(None)
