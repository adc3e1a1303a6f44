"""Pace: how fast one socket may send. Kept in memory, beside the socket."""


class Pace:
    """Takes `rate` messages a second, and `burst` at once (a token bucket). A rate of 0 takes all.

    As many again may be refused before it is `flooding`: a client that slows down when it is told to is not cut.
    """

    __slots__ = ("_at", "_burst", "_patience", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens = self._patience = burst
        self._at = 0.0

    def takes(self, now: float) -> bool:
        """Whether a message that comes at `now` (seconds of a steady clock) is taken."""
        if not self._rate:
            return True
        earned = (now - self._at) * self._rate
        self._at = now
        self._tokens = min(self._burst, self._tokens + earned)
        self._patience = min(self._burst, self._patience + earned)
        if self._tokens >= 1:
            self._tokens -= 1
            return True
        self._patience -= 1
        return False

    @property
    def flooding(self) -> bool:
        """Whether it goes on although so many were refused."""
        return self._patience < 0
