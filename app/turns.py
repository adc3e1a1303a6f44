"""Turns: what takes long is done one by one, and in between everybody else is heard."""

import asyncio
from collections import deque
from collections.abc import Callable

MOST_BYTES = 4 * 1024 * 1024
"""Bytes of what waits for its turn."""


class Turns:
    """Calls each that waits in a turn of the loop of its own, in their order. What is called handles its own errors."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._size = 0

    def wait(self, size: int, call: Callable[[], None]) -> None:
        """Have it called when its turn has come; at once where too many bytes wait already, since memory is worth more."""
        if self._size + size > MOST_BYTES:
            return call()
        self._size += size
        self._waiting.append((size, call))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        size, call = self._waiting[0]
        call()
        self._waiting.popleft()
        self._size -= size
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._turn)
