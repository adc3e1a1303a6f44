"""Connections: the sockets of this process as the rules see them, a device with a way to tell it something."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from app.book import Book, Change
from app.closecodes import CloseCode
from app.owners import OwnerName
from app.pace import Pace
from app.peers import Device, Fingerprint, Peer
from app.wheel import Alarm


class Stage(Enum):
    """How far a connection has come."""

    ARRIVING = auto()
    WAITING = auto()
    ADMITTING = auto()
    IN = auto()
    ENDED = auto()


@dataclass(slots=True, eq=False)
class Connection:
    """One socket: the device it says it is, the owner it names if any, and how to tell it something.

    `send` takes one encoded message and is False where the peer reads too slowly; `close` takes a close code
    (RFC 6455, section 7.4; ours are in docs/protocol.md) and a reason. `shown` are the claims that it has proved,
    `certificate` its certificate (DER) once it has shown that, `due` the claim that it was told to prove.
    `since` is the version of its Book with which it was let in last. `named`: it has named the owner of the book, by
    uid, address or invite.
    """

    device: Device
    owner: OwnerName | None
    send: Callable[[bytes], bool]
    close: Callable[[CloseCode, str], None]
    pace: Pace = field(default_factory=lambda: Pace(0, 0))
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    stage: Stage = Stage.ARRIVING
    book: Book | None = None
    listener: Callable[[Change], None] | None = None
    shown: frozenset[str] = frozenset()
    certificate: bytes | None = None
    failures: int = 0
    due: str | None = None
    since: int = 0
    named: bool = False
    rekeying: bool = False
    early: list[bytes] = field(default_factory=list)
    timer: Alarm | None = None
    looking: asyncio.Lock | None = None
    _greeted: bool = False

    def __post_init__(self) -> None:
        self.named = self.owner is not None

    @property
    def fp(self) -> Fingerprint:
        """The fingerprint that it names."""
        return self.device.fp

    @property
    def claim(self) -> str:
        """The claim that it names, or `certificate` once it has shown that."""
        return self.device.claim

    @property
    def ended(self) -> bool:
        """Whether its socket is gone."""
        return self.stage is Stage.ENDED

    @property
    def peer(self) -> Peer | None:
        """The peer it is, once it is in."""
        return self.book.verified(self.fp) if self.stage is Stage.IN and self.book else None

    def first_nonce(self) -> str | None:
        """The nonce, for the first status only."""
        if self._greeted:
            return None
        self._greeted = True
        return self.nonce

    def deliver(self, frame: bytes) -> bool:
        """Send a forwarded message. One that comes while it is being let in waits, so that 200 and the list stay first."""
        if self.stage is Stage.ADMITTING:
            self.early.append(frame)
            return True
        return self.stage is Stage.IN and self.send(frame)

    def end(self, code: CloseCode, reason: str) -> None:
        """Close it, from our side."""
        if not self.ended:
            self.close(code, reason)


class Connections:
    """Every connection of this process, by id; and those that wait and name nobody, by fingerprint."""

    def __init__(self) -> None:
        self._by_id: dict[str, Connection] = {}
        self._unnamed: dict[Fingerprint, set[Connection]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._by_id.values()))

    def add(self, connection: Connection) -> None:
        """A connection arrived."""
        self._by_id[connection.id] = connection

    def discard(self, connection: Connection) -> bool:
        """A connection is gone. False where it had not arrived."""
        return self._by_id.pop(connection.id, None) is not None

    def get(self, connection_id: str) -> Connection | None:
        """The connection of that id, if it is here."""
        return self._by_id.get(connection_id)

    def wait_unnamed(self, connection: Connection) -> None:
        """It waits until its fingerprint is verified in any book."""
        self._unnamed.setdefault(connection.fp, set()).add(connection)

    def stop_unnamed(self, connection: Connection) -> bool:
        """It does not wait so any more; True where it was the last one with its fingerprint."""
        waiting = self._unnamed.get(connection.fp)
        if waiting is None or connection not in waiting:
            return False
        waiting.discard(connection)
        if waiting:
            return False
        del self._unnamed[connection.fp]
        return True

    def count_by_stage(self) -> Counter[str]:
        """How many there are of each stage, by its name."""
        return Counter(each.stage.name.lower() for each in self._by_id.values())

    def all_looking(self) -> list[Connection]:
        """All that name nobody and are in no book."""
        return [each for each in self if each.looking and each.stage is Stage.WAITING and each.book is None]

    def unnamed(self, fp: Fingerprint) -> tuple[Connection, ...]:
        """Those that wait for that fingerprint to be verified anywhere."""
        return tuple(self._unnamed.get(fp, ()))
