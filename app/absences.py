"""Absences: that a peer left is told to the others only after a while, and not at all when it comes back by then.

A phone that changes from Wi-Fi to mobile data is gone for a second; nobody needs to hear of that. Only the push
waits: lists and routing tell the truth at once, and so a return is always told, to whoever met the truth meanwhile.
"""

import asyncio
from collections.abc import Callable, Iterable

from app.book import Update
from app.peers import Fingerprint

DELAY = 10.0
"""Seconds for which an absence is kept back."""


class Absences:
    """The absences of one process that were not told yet."""

    def __init__(self, delay: float = DELAY) -> None:
        self._delay = delay
        self._timers: dict[tuple[str, Fingerprint], asyncio.TimerHandle] = {}

    def sift(self, uid: str, updates: Iterable[Update], tell: Callable[[Update], None]) -> tuple[Update, ...]:
        """The updates to tell at once. `tell` is called later with each peer that left and stayed away."""
        return tuple(update for update in updates if self._is_due(uid, update, tell))

    def _is_due(self, uid: str, update: Update, tell: Callable[[Update], None]) -> bool:
        key = (uid, update.fp)
        waiting = self._timers.pop(key, None)
        if waiting:
            waiting.cancel()
        if not update.only_presence or update.online:
            return True

        def fire() -> None:
            del self._timers[key]
            tell(update)

        self._timers[key] = asyncio.get_running_loop().call_later(self._delay, fire)
        return False
