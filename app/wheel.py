"""The wheel: one timer for all sockets of a process. It says when to ping, when to look again, and when time is up.

Its seconds pass by beats and not by a clock: after a standstill of the whole process nobody is late who could not be early.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

BEAT = 0.25
"""Seconds from one beat to the next: deadlines are met that exactly."""

PING_EVERY = 25.0
PONG_WITHIN = 20.0


class Pinged(Protocol):
    """What is pinged."""

    def ping(self) -> None:
        """Ask the peer for a sign of life."""

    def expect_life(self) -> None:
        """Cut a peer that gave no sign of life since the last ping."""


class Watched(Protocol):
    """What wants to look at each beat."""

    def beat(self, now: float) -> None:
        """The wheel moved; `now` in its seconds."""


class Alarm:
    """Something that is due once, unless it is cancelled before."""

    __slots__ = ("_args", "_call", "_place")

    def __init__(self, place: "set[Alarm]", call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._place = place
        self._call = call
        self._args = args
        place.add(self)

    def cancel(self) -> None:
        """It is not due any more."""
        self._place.discard(self)

    def ring(self) -> None:
        """It is due."""
        self._call(*self._args)


class Wheel:
    """Turns once in `every` seconds. Each socket has its place on it: there it is pinged, and `within` seconds later cut
    where it gave no sign of life. `speed`: how many of its seconds pass in one; more than one only in tests.
    """

    def __init__(self, *, every: float = PING_EVERY, within: float = PONG_WITHIN, speed: float = 1.0) -> None:
        self._slots: list[set[Pinged]] = [set() for _ in range(round(every / BEAT))]
        self._within = round(within / BEAT)
        self._delay = BEAT / speed
        self._beats = 0
        self._next_slot = 0
        self._watched: dict[Watched, None] = {}
        self._alarms: dict[int, set[Alarm]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    @property
    def now(self) -> float:
        """The wheel's time in seconds."""
        return self._beats * BEAT

    def next_slot(self) -> set[Pinged]:
        """The place of a new socket: whatever is in it is pinged in the same moment. Sockets are spread evenly."""
        self._next_slot = (self._next_slot + 1) % len(self._slots)
        return self._slots[self._next_slot]

    def after(self, seconds: float, call: Callable[..., Any], *args: Any) -> Alarm:
        """Have it called after so many seconds, up to one beat earlier or later."""
        beat = self._beats + max(1, round(seconds / BEAT))
        return Alarm(self._alarms.setdefault(beat, set()), call, args)

    def watch(self, each: Watched) -> None:
        """Have it look at each beat."""
        self._watched[each] = None

    def unwatch(self, each: Watched) -> None:
        """It need not look any more."""
        self._watched.pop(each, None)

    def start(self) -> None:
        """Begin to turn."""
        self._timer = asyncio.get_running_loop().call_later(self._delay, self._beat)

    def stop(self) -> None:
        """Turn no more."""
        if self._timer:
            self._timer.cancel()

    def _beat(self) -> None:
        self.start()
        self._beats += 1
        count = len(self._slots)
        for socket in tuple(self._slots[(self._beats - self._within) % count]):
            socket.expect_life()
        for socket in tuple(self._slots[self._beats % count]):
            socket.ping()
        for each in tuple(self._watched):
            each.beat(self.now)
        due = self._alarms.pop(self._beats, set())
        while due:  # one that rings may cancel another
            due.pop().ring()
