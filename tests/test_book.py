"""A Book follows reports, and tells what others hear of each."""

from collections.abc import Mapping

import pytest

from app.book import Book, Change, Owner, Place, Report, Update
from app.peers import Fingerprint, Peer, Request, State

LAPTOP, PHONE = Fingerprint("A1" * 32), Fingerprint("B2" * 32)
OWNER = Owner("u1", "you@example.org", 1, 1700000000)
HERE, THERE = Place("p1", "c1", 1), Place("p2", "c2", 2)


def peer(fp: Fingerprint, name: str = "laptop", state: State = "verified") -> Peer:
    return Peer(fp, name, "lab", state)


def report(
    version: int,
    peers: Mapping[Fingerprint, Peer | None] | None = None,
    online: Mapping[Fingerprint, Place | None] | None = None,
    requests: Mapping[str, Request | None] | None = None,
    denied: Mapping[str, int | None] | None = None,
    *,
    whole: bool = False,
) -> Report:
    return Report(OWNER, version, frozenset(), peers or {}, online or {}, requests or {}, denied or {}, whole)


def a_request(rid: str) -> Request:
    return Request(rid, PHONE, "none", "none", "phone", "app", "203.0.113.x", 1700000000)


def a_book(*peers: Peer, online: Mapping[Fingerprint, Place] | None = None) -> Book:
    return Book.of(report(1, {each.fp: each for each in peers}, online, whole=True))


def test_a_book_is_what_a_whole_report_says() -> None:
    book = Book.of(report(7, {LAPTOP: peer(LAPTOP)}, {LAPTOP: HERE}, {"r": a_request("r")}, {"r": 9}, whole=True))
    assert (book.uid, book.owner, book.version) == ("u1", OWNER, 7)
    assert (book.peers, book.online) == ({LAPTOP: peer(LAPTOP)}, {LAPTOP: HERE})
    assert (book.requests, book.denied) == ({"r": a_request("r")}, {"r": 9})


def test_rows_that_a_report_does_not_mention_stay() -> None:
    book = a_book(peer(LAPTOP), online={LAPTOP: HERE})
    change = book.apply(report(2, {PHONE: peer(PHONE, "phone")}, {PHONE: None}))
    assert set(book.peers) == {LAPTOP, PHONE}
    assert book.online == {LAPTOP: HERE}
    assert (book.version, change) == (2, Change(frozenset({PHONE}), updates=(Update(PHONE, "phone", True, False),)))


def test_rows_that_a_whole_report_does_not_mention_go() -> None:
    book = a_book(peer(LAPTOP), peer(PHONE, "phone"), online={LAPTOP: HERE, PHONE: THERE})
    book.apply(report(2, requests={"r": a_request("r")}, denied={"d": 9}))
    change = book.apply(report(9, {PHONE: peer(PHONE, "phone")}, {PHONE: THERE}, whole=True))
    assert (set(book.peers), book.online, book.requests, book.denied) == ({PHONE}, {PHONE: THERE}, {}, {})
    assert change == Change(
        frozenset({LAPTOP}), frozenset({"r", "d"}), (Update(LAPTOP, "laptop", False, False),), whole=True
    )


def test_requests_and_denials_come_and_go() -> None:
    book = a_book()
    assert book.apply(report(2, requests={"r": a_request("r")}, denied={"r": None})).rids == {"r"}
    book.apply(report(3, requests={"r": None}, denied={"r": 100}))
    assert (book.requests, book.denied) == ({}, {"r": 100})


def test_a_denial_holds_until_its_time() -> None:
    book = a_book()
    book.apply(report(2, denied={"r": 100}))
    assert book.denies("r", 99.9)
    assert not book.denies("r", 100)
    assert not book.denies("other", 0)


def test_only_a_verified_peer_is_in() -> None:
    book = a_book(peer(LAPTOP, state="revoked"), peer(PHONE, "phone"))
    assert book.verified(PHONE) == peer(PHONE, "phone")
    assert book.verified(LAPTOP) is None
    assert book.verified(Fingerprint("00" * 32)) is None


def test_a_peer_that_was_entered_ahead_is_not_listed_yet() -> None:
    book = a_book(peer(LAPTOP, state="added"), peer(PHONE, "phone", "revoked"))
    assert book.listed() == [peer(PHONE, "phone", "revoked")]


def test_the_same_report_twice_changes_nothing() -> None:
    book = a_book(peer(LAPTOP), online={LAPTOP: HERE})
    change = book.apply(report(2, {LAPTOP: peer(LAPTOP)}, {LAPTOP: HERE}))
    assert (change.fps, change.updates) == (frozenset(), ())


@pytest.mark.parametrize(
    ("before", "place", "after", "new_place", "update"),
    [
        (None, None, peer(PHONE, "phone"), None, Update(PHONE, "phone", True, False)),
        (None, None, peer(PHONE, "phone"), HERE, Update(PHONE, "phone", True, True)),
        (None, None, peer(PHONE, "phone", "added"), None, None),
        (peer(PHONE, "phone", "added"), None, peer(PHONE, "phone"), HERE, Update(PHONE, "phone", True, True)),
        (peer(PHONE, "phone", "added"), None, None, None, None),
        (peer(PHONE, "a"), HERE, peer(PHONE, "b"), HERE, Update(PHONE, "b", True, True, renamed=True)),
        (peer(PHONE, "a"), HERE, peer(PHONE, "a"), None, Update(PHONE, "a", True, False, only_presence=True)),
        (peer(PHONE, "a"), None, peer(PHONE, "a"), HERE, Update(PHONE, "a", True, True, only_presence=True)),
        (peer(PHONE, "a"), HERE, peer(PHONE, "a"), THERE, None),
        (peer(PHONE, "a"), HERE, peer(PHONE, "a", "revoked"), None, Update(PHONE, "a", False, False)),
        (peer(PHONE, "a", "revoked"), None, peer(PHONE, "a"), None, Update(PHONE, "a", True, False)),
        (peer(PHONE, "a"), HERE, None, None, Update(PHONE, "a", False, False)),
    ],
)
def test_others_hear_of_a_peer_what_they_can_see(
    before: Peer | None, place: Place | None, after: Peer | None, new_place: Place | None, update: Update | None
) -> None:
    book = Book(OWNER)
    book.apply(report(1, {PHONE: before}, {PHONE: place}))
    change = book.apply(report(2, {PHONE: after}, {PHONE: new_place}))
    assert change.updates == ((update,) if update else ())


def test_a_new_place_of_a_peer_is_a_change_that_others_do_not_hear_of() -> None:
    book = a_book(peer(PHONE, "phone"), online={PHONE: HERE})
    change = book.apply(report(2, {PHONE: peer(PHONE, "phone")}, {PHONE: THERE}))
    assert change == Change(frozenset({PHONE}))
