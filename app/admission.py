"""Admission: how many sockets this process holds, and how many of them may wait for an owner.

Who is in a book, or only has to prove itself, never counts as one that waits: strangers can't take the place of devices.
"""

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
        self._near: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def refuse_beyond(self) -> None:
        """Raises NoRoom where this process holds as many sockets as it may."""
        if len(self._sockets) >= self._most:
            raise NoRoom

    def is_crowded(self, network: str) -> bool:
        """Whether no more socket of that network may wait."""
        near = bool(self._most_near) and self._near.get(network, 0) >= self._most_near
        return near or len(self._waiting) >= self._most_waiting

    def let_wait(self, connection: Connection) -> None:
        """It takes a place among those that wait, if it has none; raises NoRoom."""
        if connection in self._waiting:
            return
        network = connection.device.network
        if self.is_crowded(network):
            raise NoRoom
        self._waiting[connection] = network
        self._near[network] = self._near.get(network, 0) + 1

    def leave(self, connection: Connection) -> None:
        """It does not wait any more, if it did."""
        network = self._waiting.pop(connection, None)
        if network is None:
            return
        self._near[network] -= 1
        if not self._near[network]:
            del self._near[network]
