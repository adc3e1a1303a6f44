"""Admission: how many sockets this process holds, and how many of them may wait for an owner.

Who is in a book, or only has to prove itself, never counts as one that waits: strangers can't take the place of devices.
"""

from collections import Counter
from collections.abc import Sized

from app.connections import Connection
from app.errors import NoRoom

_WAITING_SHARE = 4


class Admission:
    """At most `most` sockets, a quarter of which may wait, and at most `most_near` of these from one network (0: any)."""

    def __init__(self, sockets: Sized, most: int, most_near: int) -> None:
        self._sockets = sockets
        self._most = most
        self._most_waiting = max(1, most // _WAITING_SHARE)
        self._most_near = most_near
        self._waiting: dict[Connection, str] = {}
        self._arriving: dict[Connection, str] = {}
        self._near: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def refuse_beyond(self) -> None:
        """Raises NoRoom where this process holds as many sockets as it may."""
        if len(self._sockets) >= self._most:
            raise NoRoom

    def is_crowded(self, network: str) -> bool:
        """Whether so many of that network, or of all, wait or may yet turn out to wait that there is no room for more."""
        near = bool(self._most_near) and self._near[network] >= self._most_near
        return near or len(self._waiting) >= self._most_waiting

    def arrives(self, connection: Connection) -> None:
        """It is not known yet whether it will have to wait."""
        if connection not in self._waiting:
            self._arriving[connection] = connection.device.network
            self._near[connection.device.network] += 1

    def let_wait(self, connection: Connection) -> None:
        """It takes a place among those that wait, if it has none; raises NoRoom."""
        if connection in self._waiting:
            return
        self.leave(connection)
        if self.is_crowded(connection.device.network):
            raise NoRoom
        self.keep(connection)

    def keep(self, connection: Connection) -> None:
        """It takes such a place whether there is room or not: it was in, and its socket shall stay open."""
        self.leave(connection)
        self._waiting[connection] = connection.device.network
        self._near[connection.device.network] += 1

    def leave(self, connection: Connection) -> None:
        """It does not arrive or wait any more, if it did."""
        for places in (self._arriving, self._waiting):
            network = places.pop(connection, None)
            if network is not None:
                self._near[network] -= 1
                if not self._near[network]:
                    del self._near[network]
