"""Export and import: a book travels as JSON, is looked at before anything is entered, and brings no claim or secret."""

import json
from typing import Any

import pytest
from redis.asyncio import Redis

from app.book import Book
from app.book import Owner as BookOwner
from app.errors import BadInput
from app.exports import accepted, export_book, preview_import
from app.peers import Peer
from tests.conftest import Start
from tests.parts import fingerprint
from tests.support import Message, Owner, Scene, new_fingerprint

MEMBERS = {"fp", "name", "kind", "state", "created_on", "verified_on", "last_seen"}


def export_of(*peers: object) -> str:
    return json.dumps({"format": "peerbook book", "version": 1, "peers": peers})


def entry(name: str = "laptop", fp: str = "", kind: str = "lab") -> dict[str, str]:
    return {"fp": fp or new_fingerprint(), "name": name, "kind": kind}


def a_book(*names: str) -> Book:
    book = Book(BookOwner("0" * 32, "you@example.org", 1, 0))
    for name in names:
        fp = fingerprint()
        book.peers[fp] = Peer(fp, name, "lab", "verified", "a claim", 1, 2, 3)
    return book


def verdicts(text: str, book: Book, most: int = 50) -> list[tuple[str, bool]]:
    return [(each.verdict, each.ok) for each in preview_import(text, book, most)]


async def logged_in(scene: Scene) -> Owner:
    owner = scene.owner()
    await owner.log_in()
    return owner


async def exported(owner: Owner) -> Message:
    answer = await owner.http.get("/account/export")
    assert answer.status_code == 200
    return dict(answer.json())


async def entered(scene: Scene, owner: Owner) -> set[tuple[str, str, str]]:
    """Name, kind and state of each device in the owner's book."""
    book = await scene.context.books.read(await owner.uid())
    assert book
    return {(peer.name, peer.kind, peer.state) for peer in book.peers.values()}


# Export


async def test_an_export_is_a_file_that_nobody_keeps(scene: Scene) -> None:
    answer = await (await logged_in(scene)).http.get("/account/export")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == 'attachment; filename="peerbook.json"'
    assert answer.headers["cache-control"] == "no-store"


async def test_an_export_holds_every_device_with_its_history(scene: Scene) -> None:
    owner = await logged_in(scene)
    device = await scene.join(owner, "laptop")
    await owner.do("/peers", fp=new_fingerprint(), name="doorbell", kind="bell")
    book = await exported(owner)
    assert (book["format"], book["version"]) == ("peerbook book", 1)
    assert {(peer["name"], peer["kind"], peer["state"]) for peer in book["peers"]} == {
        ("laptop", "peer", "verified"),
        ("doorbell", "bell", "added"),
    }
    (laptop,) = (peer for peer in book["peers"] if peer["fp"] == device.fp)
    assert laptop.keys() == MEMBERS
    assert laptop["verified_on"] > 1_700_000_000


def test_no_claim_owner_or_secret_is_exported() -> None:
    book = a_book("laptop")
    assert "a claim" not in export_book(book).decode()
    assert book.owner.address not in export_book(book).decode()
    assert book.uid not in export_book(book).decode()


def test_devices_are_exported_in_the_order_in_which_they_came() -> None:
    book = Book(BookOwner("0" * 32, "you@example.org", 1, 0))
    for age, name in ((3, "last"), (1, "first"), (2, "second")):
        fp = fingerprint()
        book.peers[fp] = Peer(fp, name, "lab", "added", created_on=age)
    assert [peer["name"] for peer in json.loads(export_book(book))["peers"]] == ["first", "second", "last"]


# What an import would do


def test_an_export_fits_into_an_empty_book_as_it_is() -> None:
    book = a_book("laptop", "phone")
    entries = preview_import(export_book(book), a_book(), 50)
    assert {each[:2] for each in accepted(entries)} == {(peer.fp, peer.name) for peer in book.peers.values()}


def test_a_device_that_the_book_has_is_left_out() -> None:
    book = a_book("laptop")
    assert verdicts(export_book(book).decode(), book) == [("is in your book already", False)]


def test_a_device_that_is_twice_in_the_file_is_entered_once() -> None:
    fp = new_fingerprint()
    text = export_of(entry("laptop", fp), entry("phone", f"sha-256 {fp.lower()}"))
    assert [ok for _, ok in verdicts(text, a_book())] == [True, False]


def test_a_taken_name_gets_a_number() -> None:
    assert verdicts(export_of(entry("Laptop")), a_book("laptop")) == [
        ("will be entered as Laptop 2, since the name is taken", True)
    ]


def test_two_of_one_name_in_the_file_are_told_apart() -> None:
    said = verdicts(export_of(entry("laptop"), entry("laptop"), entry("laptop 2")), a_book())
    assert [verdict for verdict, _ in said] == [
        "will be entered",
        "will be entered as laptop 2, since the name is taken",
        "will be entered as laptop 2 2, since the name is taken",
    ]


def test_what_does_not_fit_into_the_book_is_left_out() -> None:
    text = export_of(*(entry(f"device {number}") for number in range(3)))
    assert [ok for _, ok in verdicts(text, a_book("laptop"), most=3)] == [True, True, False]


def test_a_device_that_is_left_out_takes_no_place_and_no_name() -> None:
    book = a_book("laptop")
    (known,) = book.peers
    assert verdicts(export_of(entry("phone", known), entry("phone")), book, most=2) == [
        ("is in your book already", False),
        ("will be entered", True),
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("", "nonsense", "[]", "null", "5", '"text"', "{}", "\x00"),
        pytest.param("[" * 10_000, id="deep"),
        '{"format": "peerbook book", "version": 2, "peers": []}',
        '{"format": "another", "version": 1, "peers": []}',
        '{"format": "peerbook book", "version": 1}',
        '{"format": "peerbook book", "version": 1, "peers": {}}',
    ],
)
def test_what_is_no_export_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        preview_import(text, a_book(), 50)


@pytest.mark.parametrize("wrong", [None, 5, "text", [], {}])
def test_an_export_with_one_entry_that_is_no_device_is_refused(wrong: object) -> None:
    with pytest.raises(BadInput):
        preview_import(export_of(entry(), wrong), a_book(), 50)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        *(("fp", "AB"), ("fp", None), ("fp", 5), ("kind", "A!"), ("kind", None), ("kind", {})),
        *(("name", ""), ("name", None), ("name", ["x"]), ("name", "x" * 65)),
    ],
)
def test_an_export_with_one_wrong_member_is_refused(member: str, value: object) -> None:
    with pytest.raises(BadInput):
        preview_import(export_of(entry(), {**entry(), member: value}), a_book(), 50)


@pytest.mark.parametrize("body", [b"\xff\xfe{}", "{}".encode("utf-16"), b"\x89PNG\r\n", b"PK\x03\x04"])
def test_a_file_of_another_kind_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput):
        preview_import(body, a_book(), 50)


def test_states_claims_and_unknown_members_of_a_file_are_ignored() -> None:
    wide: dict[str, Any] = entry() | {"state": "verified", "claim": "none", "more": [1, 2]}
    ((fp, name, kind),) = accepted(preview_import(export_of(wide), a_book(), 50))
    assert (fp, name, kind) == (wide["fp"], "laptop", "lab")


# The import


async def test_a_look_at_a_file_changes_nothing(scene: Scene) -> None:
    owner = await logged_in(scene)
    answer = await owner.http.post("/account/import", files={"book": ("book.json", export_of(entry("old faithful")))})
    assert answer.status_code == 200
    assert "old faithful" in answer.text
    assert 'name="confirm" value="1"' in answer.text
    assert await entered(scene, owner) == set()


async def test_a_confirmed_import_enters_the_devices_ahead(scene: Scene) -> None:
    mine, other = await logged_in(scene), await logged_in(scene)
    device = await scene.join(other, "laptop")
    await other.do("/peers", fp=new_fingerprint(), name="phone", kind="phone")
    answer = await mine.act("/account/import", json=(await other.http.get("/account/export")).text, confirm="1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/peers")
    assert await entered(scene, mine) == {("laptop", "peer", "added"), ("phone", "phone", "added")}
    again = await scene.connect(device.fp, email=mine.address)
    assert (await again.hear())["code"] == 200


async def test_a_waiting_device_is_in_when_it_is_imported(scene: Scene) -> None:
    owner = await logged_in(scene)
    named, unnamed = await scene.connect(email=owner.address), await scene.connect()
    for device in (named, unnamed):
        assert (await device.hear())["code"] == 401
    peers = entry("named", named.fp), entry("unnamed", unnamed.fp)
    await owner.do("/account/import", json=export_of(*peers), confirm="1")
    assert [(await device.hear())["code"] for device in (named, unnamed)] == [200, 200]


async def test_names_and_quota_hold_and_the_preview_told_the_truth(start: Start) -> None:
    scene = await start(max_peers=3)
    owner = await logged_in(scene)
    await owner.do("/peers", fp=new_fingerprint(), name="laptop", kind="lab")
    text = export_of(entry("Laptop"), entry("laptop"), entry("phone"))
    page = (await owner.act("/account/import", json=text)).text
    assert "Laptop 2" in page
    assert "laptop 3" in page
    assert "your book is full" in page
    await owner.do("/account/import", json=text, confirm="1")
    names = {name for name, _, _ in await entered(scene, owner)}
    assert names == {"laptop", "Laptop 2", "laptop 3"}


@pytest.mark.parametrize("text", ["nonsense", export_of(entry(fp="AB"))])
@pytest.mark.parametrize("confirm", ["", "1"])
async def test_a_file_that_cannot_be_read_is_refused_with_the_page(scene: Scene, text: str, confirm: str) -> None:
    owner = await logged_in(scene)
    answer = await owner.act("/account/import", json=text, confirm=confirm)
    assert answer.status_code == 422
    assert 'class="problem"' in answer.text
    assert await entered(scene, owner) == set()


@pytest.mark.parametrize("form", [{}, {"data": {"json": ""}}, {"files": {"book": ("book.json", b"")}}])
async def test_no_file_at_all_is_refused_with_the_page(scene: Scene, form: dict[str, Any]) -> None:
    assert (await (await logged_in(scene)).http.post("/account/import", **form)).status_code == 422


async def test_a_hostile_name_in_a_file_is_only_text(scene: Scene) -> None:
    owner = await logged_in(scene)
    text = export_of(entry('"><script>alert(1)</script>'))
    assert "<script>alert" not in (await owner.act("/account/import", json=text)).text


async def test_an_import_that_enters_nobody_is_harmless(scene: Scene, redis: Redis) -> None:
    owner = await logged_in(scene)
    before = await redis.get(f"version:{{{await owner.uid()}}}")
    await owner.do("/account/import", json=export_of(), confirm="1")
    assert await redis.get(f"version:{{{await owner.uid()}}}") == before
