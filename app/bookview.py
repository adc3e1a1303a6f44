"""The device page's view of a book: what its template shows, in the order in which it shows it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.addresses import Address
from app.book import Book, Happening
from app.claims import proof_by
from app.peers import Fingerprint, Peer, Request, fold_name

SEARCH_FROM = 10
"""From so many devices on, the page has a search field."""


@dataclass(frozen=True, slots=True)
class Row:
    """A device as the page shows it."""

    peer: Peer
    online: bool
    target: str = ""
    """The name of the device to which its latest connection went, empty where there was none or that one is gone."""

    @property
    def fp(self) -> Fingerprint:
        """Its fingerprint; also names its elements on the page."""
        return self.peer.fp

    @property
    def groups(self) -> list[str]:
        """The fingerprint in sixteen groups of four, so that a person can compare two."""
        return [self.fp[i : i + 4] for i in range(0, len(self.fp), 4)]

    @property
    def proof(self) -> str:
        """How it proves itself: `certificate`, `secret` or `none`."""
        return proof_by(self.peer.claim)


@dataclass(frozen=True, slots=True)
class Card:
    """A request as the page shows it. `taken_by`: the device of the book that has its name already."""

    request: Request
    pair: str
    suggested: str
    taken_by: Peer | None

    @property
    def proof(self) -> str:
        """How the device will prove itself: `certificate`, `secret` or `none`."""
        return proof_by(self.request.claim)


@dataclass(frozen=True, slots=True)
class Problem:
    """A form that did not fit: which one (`add`, `rename <fp>`, `approve <fp>`, …), what was typed, and what is wrong."""

    form: str = ""
    text: str = ""
    typed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BookView:
    """Everything that the device page shows."""

    uid: str
    masked: str
    version: int
    rows: list[Row]
    cards: list[Card]
    activity: list[Happening]
    require_proof: bool
    server_requires_proof: bool
    now: int

    @property
    def search(self) -> bool:
        """Whether there are so many devices that one wants to search."""
        return len(self.rows) >= SEARCH_FROM

    @property
    def online(self) -> int:
        """How many devices are here now."""
        return sum(row.online for row in self.rows)


def view_book(
    book: Book, pairs: Mapping[str, str], activity: list[Happening], now: int, *, server_requires_proof: bool = False
) -> BookView:
    """The page's view; `pairs` are the pair codes by request id. Online devices come first, then by name."""
    rows = [
        Row(peer, peer.verified and peer.fp in book.online, _target_name(book, peer)) for peer in book.peers.values()
    ]
    rows.sort(key=lambda row: (not row.online, fold_name(row.peer.name), row.fp))
    requests = sorted(book.requests.values(), key=lambda request: (request.asked_on, request.rid))
    return BookView(
        uid=book.uid,
        masked=Address(book.owner.address).masked,
        version=book.version,
        rows=rows,
        cards=[_card(book, request, pairs[request.rid]) for request in requests],
        activity=activity,
        require_proof=book.owner.require_proof or server_requires_proof,
        server_requires_proof=server_requires_proof,
        now=now,
    )


def _target_name(book: Book, peer: Peer) -> str:
    target = book.peers.get(peer.outcome.target) if peer.outcome else None
    return target.name if target else ""


def names_of(book: Book) -> set[str]:
    """The names of a book's devices, in the form in which two that look the same are one."""
    return {fold_name(peer.name) for peer in book.peers.values()}


def free_name(taken: set[str], name: str) -> str:
    """The name, or the first of "name 2", "name 3", … that is not `taken`."""
    candidate, number = name, 1
    while fold_name(candidate) in taken:
        number += 1
        candidate = f"{name[:58].rstrip()} {number}"
    return candidate


def _card(book: Book, request: Request, pair: str) -> Card:
    fold = fold_name(request.name)
    taken_by = next(
        (peer for peer in book.peers.values() if fold_name(peer.name) == fold and peer.fp != request.fp), None
    )
    return Card(request, pair, free_name(names_of(book), request.name), taken_by)
