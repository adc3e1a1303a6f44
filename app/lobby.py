"""The lobby: connections that speak HTTP, in the order in which they came. They have so much time and no more room."""

from typing import Protocol

MOST = 1000
"""HTTP connections of one process. One more, and the one goes that has waited longest and brought no request."""

MOST_LATE = 20
"""Connections that are ended in one beat. To answer one that took too long costs a millisecond."""


class Guest(Protocol):
    """A connection that speaks HTTP."""

    def beat(self, now: float) -> bool:
        """Look at how long it takes, `now` in the wheel's seconds; True where that was too long."""

    def make_room(self) -> bool:
        """Go, unless a request is being answered; True where it went."""


class Lobby:
    """Who is in it, the oldest first. The wheel watches it."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._guests: dict[Guest, None] = {}

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, guest: Guest) -> None:
        """Another one comes; where it is full, an older one makes room."""
        self._guests[guest] = None
        if len(self._guests) > self._most:
            leaving = next((each for each in self._guests if each.make_room()), None)
            if leaving:
                self.leave(leaving)

    def leave(self, guest: Guest) -> None:
        """It has gone, or is a WebSocket now."""
        self._guests.pop(guest, None)

    def beat(self, now: float) -> None:
        """Have each look at how long it takes, until so many are late as may be ended at once."""
        late = 0
        for each in tuple(self._guests):
            late += each.beat(now)
            if late == MOST_LATE:
                break
