"""Contact: whether the store answers this process, and until when what the process knows may be trusted.

A process that hears nothing of the store hears of no revocation either. So after a while it relays nothing, and after
it stood still (a suspended machine, a stopped process) nothing until it has read all of its Books anew.
"""

import logging
import time
from collections.abc import Callable

log = logging.getLogger("peerbook.contact")

LONGEST_SILENCE = 30.0
"""Seconds without a sign of the store after which nothing is relayed."""

STANDSTILL = 5.0
"""Seconds that the process may stand still before it trusts nothing that it knew or that waits in its buffers."""

BEAT = 1.0
"""Seconds between two beats."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady() -> float:
    """Seconds of a clock that goes on while the machine is suspended. On Linux, `time.monotonic` stands still then."""
    return time.clock_gettime(_CLOCK)


class Contact:
    """The contact of one process with the store. Times are of a steady clock."""

    def __init__(self, clock: Callable[[], float] = steady) -> None:
        self.clock = clock
        self.lost = False
        self._met = False  # a start without a store is told of in one sentence, and by the start
        self._when_lost: Callable[[], None] = lambda: None
        self._heard = clock()
        self._distrusted_at: float | None = None
        self._next_beat = clock() + BEAT
        self._trusted_until = 0.0
        self._trust()

    @property
    def trusted(self) -> bool:
        """Whether the Books in memory may be acted on now. Asked for every message, so it is one comparison."""
        return self.clock() <= self._trusted_until

    def after_loss(self, hearer: Callable[[], None]) -> None:
        """Have `hearer` called whenever the store is found to be out of reach."""
        self._when_lost = hearer

    def lose(self) -> None:
        """The store does not answer. Whoever asks it is refused at once, until it is heard again."""
        if not self.lost:
            if self._met:
                log.warning("event=store_lost")
            self.lost = True
            self._when_lost()

    def beat(self) -> None:
        """To be called every second; one that comes late shows that the process stood still."""
        self._doubt()
        self._next_beat = self.clock() + BEAT
        self._trust()

    def heard(self, asked: float) -> bool:
        """The store answered a question of that time. True where all that is known must be read anew first."""
        self._doubt()
        if self.lost:
            log.warning("event=store_found")
        self.lost, self._met = False, True
        self._heard = max(self._heard, asked)
        if self._distrusted_at is not None:
            return asked >= self._distrusted_at
        self._trust()
        return False

    def renewed(self, asked: float) -> None:
        """All that is known was read anew after a question of that time."""
        if self._distrusted_at is not None and asked >= self._distrusted_at:
            self._distrusted_at = None
            self._trust()

    def _doubt(self) -> None:
        """After a standstill or a silence that was too long, only what is asked from now on counts."""
        now = self.clock()
        stood_still = now - self._next_beat > STANDSTILL
        silent = now - self._heard > LONGEST_SILENCE
        if stood_still or (silent and self._distrusted_at is None):
            self._distrusted_at = now

    def _trust(self) -> None:
        if self._distrusted_at is not None:
            self._trusted_until = 0.0
        else:
            self._trusted_until = min(self._heard + LONGEST_SILENCE, self._next_beat + STANDSTILL)
