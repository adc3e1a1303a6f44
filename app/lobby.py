"""The lobby: connections that speak HTTP, in the order in which they came. They have so much time and no more room."""

import asyncio
import itertools
from typing import Protocol

MOST = 500
"""HTTP connections of one process. One more, and the one goes that has waited longest and brought no request."""

MOST_LATE = 20
"""Connections that are ended in one beat. To answer one that took too long costs a millisecond."""


AT_ONCE = 4
"""New connections whose first request is begun in one turn of the loop; whoever is inside has the next turn as well."""

MOST_UNDER_WAY = 20
"""Sockets that arrive or leave at the same time."""

_LOOK_AGAIN = 0.005


class Guest(Protocol):
    """A connection that speaks HTTP."""

    def beat(self, now: float) -> bool:
        """Look at how long it takes, `now` in the wheel's seconds; True where that was too long."""

    def make_room(self) -> bool:
        """Go, unless a request is being answered; True where it went."""

    def come_in(self) -> None:
        """Its turn has come to say its first request."""


class Lobby:
    """Who is in it, the oldest first. The wheel watches it.

    `under_way` counts the sockets that arrive or leave just now, which takes some steps to the store. While there are
    many, no more upgrades are begun: a connection that waits costs little, and nothing where it hangs up before its turn.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._guests: dict[Guest, None] = {}
        self._queue: dict[Guest, None] = {}
        self._sockets: dict[Guest, None] = {}
        self.under_way = 0
        self._turning = False

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, guest: Guest) -> None:
        """Another one comes; where it is full, an older one makes room."""
        self._guests[guest] = None
        if len(self._guests) > self._most:
            leaving = next((each for each in self._guests if each is not guest and each.make_room()), None)
            if leaving:
                self.leave(leaving)

    def leave(self, guest: Guest) -> None:
        """It has gone, or is a WebSocket now."""
        self._guests.pop(guest, None)
        self._queue.pop(guest, None)
        self._sockets.pop(guest, None)

    def queue(self, guest: Guest, *, is_socket: bool = False) -> None:
        """It has begun to say its first request: have it come in, now or when its turn has come."""
        (self._sockets if is_socket else self._queue)[guest] = None
        if not self._turning:
            self._turn()

    def _turn(self) -> None:
        """Let some in, and look again in the next turn of the loop, in which all others are heard too."""
        coming = list(itertools.islice(self._queue, AT_ONCE))
        if self.under_way < MOST_UNDER_WAY:
            coming += itertools.islice(self._sockets, AT_ONCE)
        for guest in coming:
            self._queue.pop(guest, None)
            self._sockets.pop(guest, None)
            guest.come_in()
        self._turning = bool(coming or self._sockets)
        if coming:
            asyncio.get_running_loop().call_soon(self._turn)
        elif self._sockets:
            asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._turn)

    def beat(self, now: float) -> None:
        """Have each look at how long it takes, until so many are late as may be ended at once."""
        late = 0
        for each in tuple(self._guests):
            late += each.beat(now)
            if late == MOST_LATE:
                break
