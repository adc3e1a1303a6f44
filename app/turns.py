"""Turns: how much is served in one turn of the loop. What is beyond that waits, and in between everybody else is heard."""

import asyncio
from collections import deque
from collections.abc import Callable

MOST_AT_ONCE = 512 * 1024
"""Bytes that are served in one turn: about 5 ms of candidates or offers, 10 of what is made to be read slowly."""

MOST_BYTES = 16 * 1024 * 1024
"""Bytes of what waits for its turn."""

_EACH = 1024  # what each message counts beside its bytes


class Turns:
    """One line of those that wait, of whom each has one message in it. What is called handles its own errors."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._size = 0
        self._spent = 0

    def take(self, size: int) -> bool:
        """Whether a message of so many bytes may be served now; or else it has to `wait`."""
        if self._waiting or self._spent > MOST_AT_ONCE:
            return False
        self._spend(size)
        return True

    def wait(self, size: int, call: Callable[[], None]) -> None:
        """Have it called when its turn has come; at once where too many bytes wait already, since memory is worth more."""
        if self._size + size > MOST_BYTES:
            return call()
        self._size += size
        self._waiting.append((size, call))

    def _spend(self, size: int) -> None:
        if not self._spent:
            asyncio.get_running_loop().call_soon(self._begin)
        self._spent += _EACH + size

    def _begin(self) -> None:
        """The next turn, as long as anything is served or waits."""
        self._spent = 0
        while self._waiting and self._spent <= MOST_AT_ONCE:
            size, call = self._waiting.popleft()
            self._size -= size
            self._spend(size)
            call()
