"""Pace: how fast one socket may send. Kept in memory, beside the socket."""


class Pace:
    """Takes `rate` messages a second, and `burst` at once (a token bucket). A rate of 0 takes all.

    A large message counts as one more for each `share` of its bytes. As many again may be refused before it is
    `flooding`: a client that slows down when it is told to is not cut.
    """

    __slots__ = ("_at", "_burst", "_patience", "_rate", "_share", "_tokens")

    def __init__(self, rate: float, burst: float, share: int = 0) -> None:
        self._rate, self._burst, self._share = rate, burst, share
        self._tokens = self._patience = burst
        self._at = 0.0

    def takes(self, now: float, size: int) -> bool:
        """Whether a message of `size` bytes that comes at `now` (seconds of a steady clock) is taken."""
        if not self._rate:
            return True
        earned = (now - self._at) * self._rate
        self._at = now
        self._tokens = min(self._burst, self._tokens + earned)
        self._patience = min(self._burst, self._patience + earned)
        cost = min(self._burst, 1 + size // self._share) if self._share else 1
        if self._tokens >= cost:
            self._tokens -= cost
            return True
        self._patience -= cost
        return False

    @property
    def flooding(self) -> bool:
        """Whether it goes on although so many were refused."""
        return self._patience < 0
