"""Backups: all books of an instance as lines of JSON, one for each, between a header and a checksum.

The format stands in docs/operations.md. It is no copy of the store: what a later version keeps in another way can be
imported there. Sessions, links, invites, open requests and who is online stay behind; they end by themselves.
"""

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, BinaryIO, Literal

import msgspec

from app.addresses import Address, parse_address
from app.book import Happening, Report
from app.claims import parse_claim
from app.errors import BadInput
from app.peers import Peer, fold_name, parse_fingerprint, parse_kind, parse_name
from app.store import Store

FORMAT = "peerbook instance"
VERSION = 1

Tell = Callable[[int, int], None]
"""Hears how much of how much is done."""

_AT_ONCE = 100
_BYTES_AT_ONCE = 1 << 18
_SCANNED = 1000  # keys that the store looks at in one step

_Seconds = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]
_Text = Annotated[str, msgspec.Meta(max_length=1000)]


class BackupError(Exception):
    """This can't be imported; the message is one sentence for the person who tries."""


class _Line(msgspec.Struct, tag_field="line", forbid_unknown_fields=True):
    pass


class Head(_Line, tag="head"):
    """The first line. `since`: when the exported store began to hold books."""

    format: str
    version: int
    exported_on: str
    since: _Seconds


class PeerEntry(msgspec.Struct, forbid_unknown_fields=True):
    """A device of a book."""

    fp: str
    name: str
    kind: str
    state: Literal["verified", "added", "revoked"]
    claim: str
    proved: bool
    created_on: _Seconds
    verified_on: _Seconds
    last_seen: _Seconds


class BookLine(_Line, tag="book"):
    """A user and their book. `denied`: which asks are turned away until when; `activity`: newest first."""

    uid: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    address: str
    created_on: _Seconds
    generation: Annotated[int, msgspec.Meta(ge=1, lt=1 << 40)]
    require_proof: bool
    peers: list[PeerEntry]
    denied: dict[Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{24}\Z")], _Seconds]
    activity: list[tuple[_Seconds, _Text, _Text, _Text]]


class StopLine(_Line, tag="stop"):
    """An address to which no mails go, by its digest, until when."""

    address: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    until: _Seconds


class Foot(_Line, tag="foot"):
    """The last line. `sha256`: of all bytes before it, in hex."""

    books: int
    stops: int
    sha256: str


_read_line = msgspec.json.Decoder(Head | BookLine | StopLine | Foot).decode


@dataclass(frozen=True, slots=True)
class Backup:
    """What a whole backup says of itself."""

    since: int
    books: int
    stops: int
    checksum: str


# Export


async def export_instance(store: Store, file: BinaryIO, tell: Tell) -> Backup:
    """Write all books to the file, a few in memory at a time; raises Unreachable and OSError.

    Each book is as of one moment, and not all are of the same one. A book may come twice where the store grows
    meanwhile; the later one counts.
    """
    summed, books, stops, since = hashlib.sha256(), 0, 0, await store.since()

    def write(line: _Line) -> None:
        text = msgspec.json.encode(line) + b"\n"
        summed.update(text)
        file.write(text)

    write(Head(FORMAT, VERSION, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), since))
    async for uids in _told(store.uids(), await store.size(), tell):
        for start in range(0, len(uids), _AT_ONCE):
            for report, activity in await store.settled_books(uids[start : start + _AT_ONCE]):
                write(_book_line(report, activity))
                books += 1
    async for some in store.stops():
        for address, seconds in some:
            write(StopLine(address, int(time.time()) + seconds))
            stops += 1
    checksum = summed.hexdigest()
    file.write(msgspec.json.encode(Foot(books, stops, checksum)) + b"\n")
    return Backup(since, books, stops, checksum)


async def _told(steps: AsyncIterator[list[str]], total: int, tell: Tell) -> AsyncIterator[list[str]]:
    done = 0
    async for each in steps:
        yield each
        done += _SCANNED
        tell(done, total)


def _book_line(report: Report, activity: Sequence[Happening]) -> BookLine:
    owner = report.owner
    return BookLine(
        uid=owner.uid,
        address=owner.address,
        created_on=owner.created_on,
        generation=owner.generation,
        require_proof=owner.require_proof,
        peers=[_entry(peer) for peer in report.peers.values() if peer],
        denied={rid: until for rid, until in report.denied.items() if until},
        activity=[(each.at, each.what, each.name, each.detail) for each in activity],
    )


def _entry(peer: Peer) -> PeerEntry:
    return PeerEntry(
        peer.fp,
        peer.name,
        peer.kind,
        peer.state,
        peer.claim,
        peer.proved,
        peer.created_on,
        peer.verified_on,
        peer.last_seen,
    )


# Import


def read_backup(file: BinaryIO) -> Backup:
    """Read a backup to its end, without doing anything; raises BackupError for one that is not whole or not sound."""
    summed, books, stops, number = hashlib.sha256(), 0, 0, 1
    head, foot = _read_head(file, summed), None
    for number, text in enumerate(file, 2):
        if foot:
            raise BackupError(f"Line {number} stands behind the end: this is no export, or two of them.")
        line = _parse(text, number)
        if isinstance(line, Foot):
            foot = line
            continue
        summed.update(text)
        if isinstance(line, BookLine):
            _check(line, number)
            books += 1
        elif isinstance(line, StopLine):
            stops += 1
        else:
            raise BackupError(f"Line {number} is a second beginning: this is no export, or two of them.")
    if foot is None:
        raise BackupError("The end is missing: the export, or its copy, was cut short.")
    if (foot.books, foot.stops, foot.sha256) != (books, stops, summed.hexdigest()):
        raise BackupError("The checksum does not fit: the file was damaged or changed.")
    return Backup(head.since, books, stops, foot.sha256)


async def import_instance(store: Store, file: BinaryIO, backup: Backup, tell: Tell) -> None:
    """Have the store hold every book of the file, in the place of what their owners have there; raises Unreachable.

    The file was read by `read_backup`. Each book is written at once, and none worse for being written twice: an import
    that was cut short is run again.
    """
    await store.note_import(backup.checksum)
    done = 0
    for books, stops in _batches(file):
        await _write_books(store, books)
        await store.keep_stops((each.address, left) for each in stops if (left := each.until - int(time.time())) > 0)
        done += len(books) + len(stops)
        tell(done, backup.books + backup.stops)
    await store.begin()
    await store.date_back(backup.since)
    await store.note_import(None)


async def _write_books(store: Store, books: Sequence[BookLine]) -> None:
    users = {Address(book.address).key: book for book in books}  # where a book came twice, the later one counts
    addresses = [Address(book.address) for book in users.values()]
    for address, uid in zip(addresses, await store.uids_of(addresses), strict=True):
        if uid and uid != users[address.key].uid:
            await store.erase(uid, address)
    answers = await store.run_all([("restore", book.uid, _given(book)) for book in users.values()])
    await store.reindex([answer.report for answer in answers if answer.report])
    await store.name_users((address, users[address.key].uid) for address in addresses)


def _given(book: BookLine) -> dict[str, Any]:
    """A book as the script takes it."""
    return {
        "address": book.address,
        "created_on": book.created_on,
        "generation": book.generation,
        "require_proof": book.require_proof,
        "peers": [msgspec.structs.asdict(peer) | {"fold": fold_name(peer.name)} for peer in book.peers],
        "denied": list(book.denied.items()),
        "activity": [msgspec.json.encode(each).decode() for each in book.activity],
    }


def _batches(file: BinaryIO) -> Iterator[tuple[list[BookLine], list[StopLine]]]:
    """The lines between the head and the foot, a few at a time."""
    books: list[BookLine] = []
    stops: list[StopLine] = []
    size = 0
    for number, text in enumerate(file, 1):
        line = _parse(text, number)
        if isinstance(line, BookLine):
            books.append(line)
        elif isinstance(line, StopLine):
            stops.append(line)
        size += len(text)
        if len(books) + len(stops) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
            yield books, stops
            books, stops, size = [], [], 0
    if books or stops:
        yield books, stops


def _read_head(file: BinaryIO, summed: Any) -> Head:
    text = file.readline(4096)
    summed.update(text)
    try:
        said = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = None
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise BackupError("This is not an export of a peerbook instance.")
    if said.get("version") != VERSION:
        raise BackupError(f"This export has format version {said.get('version')}, and this peerbook reads {VERSION}.")
    line = _parse(text, 1)
    if not isinstance(line, Head):
        raise BackupError("Line 1 is not the beginning of an export.")
    return line


def _parse(text: bytes, number: int) -> Head | BookLine | StopLine | Foot:
    try:
        line: Head | BookLine | StopLine | Foot = _read_line(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BackupError(f"Line {number} can't be read: the file was cut short, damaged or changed.") from None
    return line


def _check(book: BookLine, number: int) -> None:
    """Hold a book to the same rules as what devices and owners send."""
    try:
        parse_address(book.address)
        fits = all(
            parse_fingerprint(peer.fp) == peer.fp
            and parse_name(peer.name) == peer.name
            and parse_kind(peer.kind) == peer.kind
            and parse_claim(peer.claim) == peer.claim
            for peer in book.peers
        )
    except BadInput:
        fits = False
    if not fits or len({peer.fp for peer in book.peers}) < len(book.peers):
        raise BackupError(f"Line {number} holds a device or an address that no book can have.")
