"""The tally: what a process counts while it works. Plain numbers, since some are counted for every message."""

from bisect import bisect_left
from collections import defaultdict, deque

RELAY_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
"""Seconds: the upper bounds of the relay times that are counted together; the last ones are beyond all of them."""

_LAGS = 60


class Tally:
    """The numbers of one process since it began."""

    def __init__(self) -> None:
        self.counts: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.relays = [0] * (len(RELAY_BOUNDS) + 1)
        self.relay_seconds = 0.0
        self._lags: deque[float] = deque([0.0], maxlen=_LAGS)

    def add(self, what: str, which: str = "") -> None:
        """It happened once more."""
        self.counts[what, which] += 1

    def add_relay(self, outcome: str, seconds: float) -> None:
        """A message was handed over, so long after it came in."""
        self.counts["relays", outcome] += 1
        self.relays[bisect_left(RELAY_BOUNDS, seconds)] += 1
        self.relay_seconds += seconds

    def add_lag(self, seconds: float) -> None:
        """The loop came so much late to what was due."""
        self._lags.append(seconds)

    @property
    def longest_lag(self) -> float:
        """Seconds: the longest of the last minute."""
        return max(self._lags)
