"""Turns: what takes long is done one by one, and in between everybody else is heard."""

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """Calls each that waits in a turn of the loop of its own, in their order. What is called handles its own errors."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def wait(self, call: Callable[[], None]) -> None:
        """Have it called when its turn has come."""
        self._waiting.append(call)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._waiting[0]()
        self._waiting.popleft()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._turn)
