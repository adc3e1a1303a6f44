"""A Book: one user's peers, who of them is online where, and who asks to join. In memory, without transport.

The store has the truth; a Book follows it by the reports that every change script returns. Each report carries the
new rows of what it touched and the version that the change made, so applying a report and reloading the whole
Book are one mechanism, and what must happen to sockets follows from the difference alone.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeVar

from app.claims import CERTIFICATE, NO_CLAIM, is_secret, strength
from app.peers import Fingerprint, Peer, Request

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer is online: the process, its connection there, and the number it was admitted with."""

    process: str
    connection: str
    number: int


@dataclass(frozen=True, slots=True)
class Owner:
    """The user that a book belongs to. Links and sessions of an older generation are void."""

    uid: str
    address: str
    generation: int
    created_on: int
    require_proof: bool = False


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of a book's activity: when (Unix seconds), what, of which device, and a detail such as its new name."""

    at: int
    what: str
    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """What the store says after a change (the rows it touched) or a load (`whole`: all rows). None means: gone."""

    owner: Owner
    version: int
    interested: frozenset[str]
    peers: Mapping[Fingerprint, Peer | None]
    online: Mapping[Fingerprint, Place | None]
    requests: Mapping[str, Request | None]
    denied: Mapping[str, int | None]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """What other peers hear of one peer."""

    fp: Fingerprint
    name: str
    verified: bool
    online: bool
    renamed: bool = False
    only_presence: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What one report changed: fingerprints, request ids, the owner's settings, and what peers hear of it.

    `whole`: after a reload. `lost`: the store does not know this book any more.
    """

    fps: frozenset[Fingerprint] = frozenset()
    rids: frozenset[str] = frozenset()
    updates: tuple[Update, ...] = ()
    owner: bool = False
    whole: bool = False
    lost: bool = False


class Door(Enum):
    """How a book meets a connection."""

    OPEN = auto()
    PROOF_DUE = auto()
    PROOF_DEMANDED = auto()
    """The peer can't prove itself, and the owner or the server demands that."""
    REVOKED = auto()
    UNKNOWN = auto()
    """The owner has not answered this fingerprint with this claim."""


@dataclass(slots=True)
class Book:
    """One user's book, as of `version`."""

    owner: Owner
    version: int = 0
    peers: dict[Fingerprint, Peer] = field(default_factory=dict)
    online: dict[Fingerprint, Place] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    denied: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, report: Report) -> "Book":
        """The book that a whole report describes."""
        book = cls(report.owner)
        book.apply(report)
        return book

    @property
    def uid(self) -> str:
        """The owner's id."""
        return self.owner.uid

    def listed(self) -> list[Peer]:
        """The peers that a peer of this book may see."""
        return [peer for peer in self.peers.values() if peer.listed]

    def verified(self, fp: Fingerprint) -> Peer | None:
        """The peer with that fingerprint, if it is in."""
        peer = self.peers.get(fp)
        return peer if peer and peer.verified else None

    def door(
        self, fp: Fingerprint, claim: str, shown: Collection[str], *, named: bool, demanded: bool = False
    ) -> tuple[Door, str]:
        """How the book meets a connection that names `fp` and `claim` and has proved `shown`, and by which claim.

        `named`: the connection names this book's owner. One that names nobody is asked for no proof, and comes in by
        none, that the peer has not shown here before: anybody can write a public fingerprint into a book of their own.
        `demanded`: the server demands proof of all, as the owner may.
        """
        peer = self.peers.get(fp)
        if peer is None:
            return Door.UNKNOWN, claim
        if peer.state == "revoked":
            return Door.REVOKED, claim
        by = CERTIFICATE if CERTIFICATE in shown else claim
        if peer.verified:
            if is_secret(by) and by != peer.claim and peer.claim != CERTIFICATE:
                return Door.UNKNOWN, by
            by = max(by, peer.claim, key=strength)
        if not named and by != NO_CLAIM:
            expected = peer.proved and by == peer.claim and by in (claim, CERTIFICATE)
            if not expected:
                return Door.UNKNOWN, by
        if by == NO_CLAIM:
            return (Door.PROOF_DEMANDED if demanded or self.owner.require_proof else Door.OPEN), by
        return (Door.OPEN if by in shown else Door.PROOF_DUE), by

    def denies(self, rid: str, now: float) -> bool:
        """Whether the device of that request is not wanted at `now` (Unix seconds)."""
        return self.denied.get(rid, 0) > now

    def apply(self, report: Report) -> Change:
        """Follow the report, and tell what changed. Rows that it does not mention stay, unless it is `whole`."""
        fps, rids = set(report.peers), set(report.requests)
        if report.whole:
            fps |= set(self.peers)
            rids |= set(self.requests) | set(self.denied)
        before = {fp: (self.peers.get(fp), self.online.get(fp)) for fp in fps}
        owner_changed = self.owner != report.owner
        self.owner, self.version = report.owner, report.version
        _follow(self.peers, report.peers, whole=report.whole)
        _follow(self.online, report.online, whole=report.whole)
        _follow(self.requests, report.requests, whole=report.whole)
        _follow(self.denied, report.denied, whole=report.whole)
        changed = frozenset(fp for fp in fps if before[fp] != (self.peers.get(fp), self.online.get(fp)))
        updates = (self._update(fp, *before[fp]) for fp in sorted(changed))
        told = tuple(update for update in updates if update)
        return Change(changed, frozenset(rids), told, owner_changed, report.whole)

    def _update(self, fp: Fingerprint, old_peer: Peer | None, old_place: Place | None) -> Update | None:
        """What other peers hear of this one, None where they see no difference."""
        old, new = _seen(old_peer, old_place), _seen(self.peers.get(fp), self.online.get(fp))
        if old == new:
            return None
        if new is None:
            assert old is not None
            return Update(fp, old[0], verified=False, online=False)
        name, verified, online = new
        if old is None:
            return Update(fp, name, verified, online)
        return Update(fp, name, verified, online, renamed=name != old[0], only_presence=old[:2] == new[:2])


def _seen(peer: Peer | None, place: Place | None) -> tuple[str, bool, bool] | None:
    """Name, verified and online as other peers see them; None for a peer that they don't see."""
    if peer is None or not peer.listed:
        return None
    return peer.name, peer.verified, peer.verified and place is not None


def _follow(mine: dict[K, V], rows: Mapping[K, V | None], *, whole: bool) -> None:
    if whole:
        mine.clear()
    for key, row in rows.items():
        if row is None:
            mine.pop(key, None)
        else:
            mine[key] = row
