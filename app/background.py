"""Background: tasks that outlive the call that began them, kept from being collected, with their faults logged."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from app.errors import PeerbookError
from app.faults import fault

log = logging.getLogger("peerbook")

_HEED_SECONDS = 0.2  # a client of the store that is connecting may swallow a cancellation


class Background:
    """The running tasks of one process."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else; once closed, nothing is begun any more."""
        if self._closed:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def done(self, deadline: float) -> None:
        """Wait until all are done, and all that they begin, but not beyond that time of the loop's clock."""
        loop = asyncio.get_running_loop()
        while self._tasks and (left := deadline - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)

    async def close(self) -> None:
        """Give up what is not done, and what does not even heed that."""
        self._closed = True
        if late := tuple(self._tasks):
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=_HEED_SECONDS)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, PeerbookError):
            log.warning("event=background_refused code=%d", error.code)
        elif error:
            log.error("event=background_failed error=%s", fault(error))
