"""Exports: a book as JSON, and what would become of each entry of one that is imported. No claim or secret travels."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.book import Book
from app.bookview import free_name, names_of
from app.errors import BadInput
from app.messages import encode, parse_object
from app.peers import Fingerprint, Peer, fold_name, parse_fingerprint, parse_kind, parse_name

FORMAT = "peerbook book"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A device of an export, and what its import would do. `ok`: it would be entered."""

    fp: Fingerprint
    name: str
    kind: str
    verdict: str
    ok: bool


def export_book(book: Book) -> bytes:
    """The peers of a book as JSON, sorted by when they came."""
    peers = sorted(book.peers.values(), key=lambda peer: (peer.created_on, peer.fp))
    return encode({"format": FORMAT, "version": VERSION, "peers": [_peer_members(peer) for peer in peers]})


def preview_import(text: str | bytes, book: Book, most: int) -> list[Entry]:
    """What would become of each device of an export; nothing is changed. Raises BadInput for what is none."""
    exported = parse_object(text)
    peers = exported.get("peers")
    if exported.get("format") != FORMAT or exported.get("version") != VERSION or not isinstance(peers, list):
        raise BadInput("This is not an export of a book.")
    entries: list[Entry] = []
    seen, taken, place = set(book.peers), names_of(book), most - len(book.peers)
    for each in peers:
        entry = _judge(each, taken, seen, place)
        entries.append(entry)
        seen.add(entry.fp)
        if entry.ok:
            taken.add(fold_name(free_name(taken, entry.name)))
            place -= 1
    return entries


def accepted(entries: Iterable[Entry]) -> list[tuple[Fingerprint, str, str]]:
    """Fingerprint, name and kind of the entries that an import would enter."""
    return [(entry.fp, entry.name, entry.kind) for entry in entries if entry.ok]


def _judge(each: Any, taken: set[str], seen: set[Fingerprint], place: int) -> Entry:
    if not isinstance(each, dict):
        raise BadInput("This is not an export of a book.")
    fp, name, kind = parse_fingerprint(each.get("fp")), parse_name(each.get("name")), parse_kind(each.get("kind"))
    if fp in seen:
        return Entry(fp, name, kind, "is in your book already", ok=False)
    if place <= 0:
        return Entry(fp, name, kind, "does not fit any more: your book is full", ok=False)
    free = free_name(taken, name)
    verdict = "will be entered" if free == name else f"will be entered as {free}, since the name is taken"
    return Entry(fp, name, kind, verdict, ok=True)


def _peer_members(peer: Peer) -> dict[str, Any]:
    return {
        "fp": peer.fp,
        "name": peer.name,
        "kind": peer.kind,
        "state": peer.state,
        "created_on": peer.created_on,
        "verified_on": peer.verified_on,
        "last_seen": peer.last_seen,
    }
