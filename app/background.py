"""Background: tasks that outlive the call that began them, kept from being collected, with their faults logged."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from app.errors import PeerbookError
from app.faults import fault

log = logging.getLogger("peerbook")


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

    async def close(self, seconds: float) -> None:
        """Wait until all are done, and all that they begin, for so long at most; then give up those that are not."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._tasks and (left := deadline - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        self._closed = True
        late = tuple(self._tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, PeerbookError):
            log.warning("event=background_refused code=%d", error.code)
        elif error:
            log.error("event=background_failed error=%s", fault(error))
