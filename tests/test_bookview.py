"""The device page: what it shows of a book, in which order, and how its forms answer browsers and htmx."""

from typing import Any

import httpx
import pytest

from app.book import Book, Place
from app.book import Owner as BookOwner
from app.bookview import BookView, free_name, names_of, view_book
from app.peers import Fingerprint, Peer, Request
from tests.parts import fingerprint
from tests.support import Owner, Scene, new_fingerprint

HTMX = {"HX-Request": "true"}
ONLINE = Place("process", "connection", 1)


def a_book(*peers: Peer, online: tuple[Fingerprint, ...] = (), requests: tuple[Request, ...] = ()) -> Book:
    book = Book(BookOwner("0" * 32, "somebody@example.org", 1, 0), version=7)
    book.peers = {peer.fp: peer for peer in peers}
    book.online = dict.fromkeys(online, ONLINE)
    book.requests = {request.rid: request for request in requests}
    return book


def a_peer(name: str = "laptop", **members: Any) -> Peer:
    return Peer(**{"fp": fingerprint(), "name": name, "kind": "lab", "state": "verified"} | members)


def a_request(name: str = "laptop", **members: Any) -> Request:
    given: dict[str, Any] = {
        "rid": fingerprint()[:24],
        "fp": fingerprint(),
        "claim": "none",
        "asked_as": "none",
        "name": name,
    }
    return Request(**given | {"kind": "lab", "place": "203.0.113.x", "asked_on": 1} | members)


def view(book: Book) -> BookView:
    return view_book(book, dict.fromkeys(book.requests, "123-456"), [], 1000)


async def logged_in(scene: Scene, address: str = "") -> Owner:
    owner = scene.owner(address)
    await owner.log_in()
    return owner


async def by_htmx(owner: Owner, path: str, **fields: str) -> httpx.Response:
    return await owner.http.post(path, data=fields, headers=HTMX)


async def states(scene: Scene, owner: Owner) -> dict[str, str]:
    """The devices of a book by fingerprint, each with its state."""
    book = await scene.context.books.read(await owner.uid())
    assert book
    return {fp: peer.state for fp, peer in book.peers.items()}


# Rows


def test_devices_that_are_here_come_first_then_by_name() -> None:
    peers = [a_peer(name) for name in ("zebra", "Apple", "mango", "banana")]
    shown = view(a_book(*peers, online=(peers[0].fp, peers[2].fp)))
    assert [row.peer.name for row in shown.rows] == ["mango", "zebra", "Apple", "banana"]
    assert [row.online for row in shown.rows] == [True, True, False, False]
    assert shown.online == 2


@pytest.mark.parametrize("state", ["revoked", "added"])
def test_a_device_that_is_not_in_is_never_online(state: str) -> None:
    peer = a_peer(state=state)
    assert not view(a_book(peer, online=(peer.fp,))).rows[0].online


def test_a_fingerprint_is_shown_in_sixteen_groups() -> None:
    (row,) = view(a_book(a_peer(fp="0123" + "AB" * 28 + "CDEF"))).rows
    assert len(row.groups) == 16
    assert (row.groups[0], row.groups[-1]) == ("0123", "CDEF")


@pytest.mark.parametrize(("claim", "proof"), [("none", "none"), ("certificate", "certificate"), ("a hash", "secret")])
def test_a_row_and_a_card_say_how_a_device_proves_itself_and_never_its_secret(claim: str, proof: str) -> None:
    shown = view(a_book(a_peer(claim=claim), requests=(a_request(claim=claim),)))
    assert (shown.rows[0].proof, shown.cards[0].proof) == (proof, proof)


@pytest.mark.parametrize(("count", "search"), [(0, False), (9, False), (10, True)])
def test_one_can_search_from_ten_devices_on(count: int, search: bool) -> None:
    assert view(a_book(*(a_peer(str(number)) for number in range(count)))).search is search


def test_the_address_of_the_owner_is_masked() -> None:
    assert "somebody@" not in view(a_book()).masked
    assert view(a_book()).masked.endswith("@example.org")


# Cards


def test_requests_come_in_the_order_in_which_they_were_made_with_their_codes() -> None:
    requests = tuple(a_request(name, asked_on=at) for name, at in (("second", 2), ("third", 3), ("first", 1)))
    shown = view(a_book(requests=requests))
    assert [card.request.name for card in shown.cards] == ["first", "second", "third"]
    assert {card.pair for card in shown.cards} == {"123-456"}


def test_a_free_name_is_suggested_as_it_is() -> None:
    (card,) = view(a_book(a_peer("phone"), requests=(a_request("laptop"),))).cards
    assert (card.suggested, card.taken_by) == ("laptop", None)


def test_a_request_with_a_taken_name_says_by_whom_and_suggests_another() -> None:
    laptop = a_peer("Laptop")
    (card,) = view(a_book(laptop, a_peer("laptop 2"), requests=(a_request("laptop"),))).cards
    assert (card.suggested, card.taken_by) == ("laptop 3", laptop)


def test_a_device_is_never_said_to_replace_itself() -> None:
    peer = a_peer("laptop")
    (card,) = view(a_book(peer, requests=(a_request("laptop", fp=peer.fp),))).cards
    assert card.taken_by is None


@pytest.mark.parametrize(
    ("taken", "name", "free"),
    [
        ([], "laptop", "laptop"),
        (["laptop"], "LAPTOP", "LAPTOP 2"),
        (["laptop", "laptop 2", "laptop 3"], "laptop", "laptop 4"),
        (["x" * 64], "x" * 64, "x" * 58 + " 2"),
    ],
)
def test_a_free_name_has_the_next_number(taken: list[str], name: str, free: str) -> None:
    assert free_name(names_of(a_book(*map(a_peer, taken))), name) == free


async def test_the_suggested_name_is_the_one_that_an_approval_gives(scene: Scene) -> None:
    owner = await logged_in(scene)
    for name in ("x" * 64, "X" * 64):
        fp = new_fingerprint()
        await scene.verify(fp, email=owner.address, name=name)
        book = await scene.context.books.read(await owner.uid())
        assert book
        (card,) = view_book(book, scene.context.asking.pairs(book), [], 0).cards
        await owner.approve(fp)
        book = await scene.context.books.read(await owner.uid())
        assert book
        assert book.peers[Fingerprint(fp)].name == card.suggested


# A device that comes back with another key


async def test_a_device_that_was_set_up_anew_replaces_the_old_one(scene: Scene) -> None:
    owner = await logged_in(scene)
    old = await scene.join(owner, "laptop")
    new = await scene.connect(email=owner.address, name="laptop")
    pair = (await new.hear())["pair"]
    page = await owner.page()
    assert f'name="replaces" value="{old.fp}"' in page
    assert "checked" not in page.partition('name="replaces"')[2].partition("</fieldset>")[0]
    await owner.approve(new.fp, pair=pair, name="laptop 2", replaces=old.fp)
    assert await old.close_code() == 4403
    assert (await new.hear())["code"] == 200
    assert [(peer["name"], peer["fp"]) for peer in await new.peers()] == [("laptop", new.fp)]


async def test_or_it_is_a_new_device_beside_the_old_one(scene: Scene) -> None:
    owner = await logged_in(scene)
    old = await scene.join(owner, "laptop")
    new = await scene.connect(email=owner.address, name="laptop")
    await owner.approve(new.fp, pair=(await new.hear())["pair"], name="laptop 2", replaces="")
    assert {peer["name"] for peer in await old.peers()} == {"laptop", "laptop 2"}


async def test_a_foreign_or_unknown_device_cannot_be_replaced(scene: Scene) -> None:
    owner, other = await logged_in(scene), await logged_in(scene)
    foreign = await scene.join(other, "laptop")
    fp = new_fingerprint()
    await scene.verify(fp, email=owner.address)
    for replaces in (foreign.fp, new_fingerprint(), fp):
        assert (await owner.act(f"/peers/{fp}/approve", replaces=replaces)).status_code == 404
    assert (await owner.act(f"/peers/{fp}/approve", replaces="nonsense")).status_code == 422
    await foreign.hears_nothing()
    assert await states(scene, owner) == {}


# Many at once


async def test_checked_devices_are_revoked_at_once_and_others_are_not(scene: Scene) -> None:
    owner = await logged_in(scene)
    laptop, phone, tablet = [await scene.join(owner, name) for name in ("laptop", "phone", "tablet")]
    answer = await owner.http.post("/peers/revoke", data={"fp": [laptop.fp, phone.fp]})
    assert answer.status_code == 303
    assert [await laptop.close_code(), await phone.close_code()] == [4403, 4403]
    assert await states(scene, owner) == {laptop.fp: "revoked", phone.fp: "revoked", tablet.fp: "verified"}


@pytest.mark.parametrize("bad", ["foreign", "unknown", "garbled"])
async def test_with_one_device_that_is_not_in_the_book_nothing_is_revoked(scene: Scene, bad: str) -> None:
    owner, other = await logged_in(scene), await logged_in(scene)
    mine, foreign = await scene.join(owner), await scene.join(other)
    fp = {"foreign": foreign.fp, "unknown": new_fingerprint(), "garbled": "AB"}[bad]
    assert (await owner.http.post("/peers/revoke", data={"fp": [mine.fp, fp]})).status_code == 404
    assert await states(scene, owner) == {mine.fp: "verified"}
    assert await states(scene, other) == {foreign.fp: "verified"}


async def test_with_none_checked_nothing_happens(scene: Scene) -> None:
    owner = await logged_in(scene)
    device = await scene.join(owner)
    assert (await owner.act("/peers/revoke")).status_code == 303
    assert await states(scene, owner) == {device.fp: "verified"}


# What htmx gets


async def test_htmx_gets_the_part_that_lives_and_a_browser_the_whole_page(scene: Scene) -> None:
    owner = await logged_in(scene)
    whole, part = await owner.http.get("/peers"), await owner.http.get("/peers", headers=HTMX)
    assert "<html" in whole.text
    assert "<html" not in part.text
    assert part.text.lstrip().startswith('<div id="live"')
    assert whole.text.count('id="live"') == part.text.count('id="live"') == 1
    assert all("HX-Request" in answer.headers["vary"] for answer in (whole, part))


async def test_a_way_back_in_the_history_gets_the_whole_page(scene: Scene) -> None:
    owner = await logged_in(scene)
    answer = await owner.http.get("/peers", headers=HTMX | {"HX-History-Restore-Request": "true"})
    assert "<html" in answer.text


async def test_an_act_by_htmx_shows_the_book_as_it_became(scene: Scene) -> None:
    owner = await logged_in(scene)
    answer = await by_htmx(owner, "/peers", fp=new_fingerprint(), name="doorbell")
    assert answer.status_code == 200
    assert "doorbell" in answer.text
    assert "<html" not in answer.text
    assert "HX-Request" in answer.headers["vary"]


@pytest.mark.parametrize(
    ("act", "gone"), [("approve", False), ("reject", True), ("rename", False), ("revoke", False), ("remove", True)]
)
async def test_every_act_on_a_device_answers_htmx(scene: Scene, act: str, gone: bool) -> None:
    owner = await logged_in(scene)
    fp = new_fingerprint()
    await scene.verify(fp, email=owner.address, name="old faithful")
    if act not in ("approve", "reject"):
        await owner.approve(fp)
    answer = await by_htmx(owner, f"/peers/{fp}/{act}", name="old faithful")
    assert answer.status_code == 200
    assert (f'id="peer-{fp}"' not in answer.text) is gone


@pytest.mark.parametrize("name", ["", "x" * 65, "Phone", "\u202e"])
async def test_a_bad_or_taken_name_is_shown_at_its_field_with_what_was_typed(scene: Scene, name: str) -> None:
    owner = await logged_in(scene)
    device = await scene.join(owner, "laptop")
    await scene.join(owner, "phone")
    path = f"/peers/{device.fp}/rename"
    whole, part = await owner.act(path, name=name), await by_htmx(owner, path, name=name)
    assert (whole.status_code, part.status_code) == (422, 200)
    for answer in (whole, part):
        row = answer.text.split(f'id="peer-{device.fp}"')[1].partition("</li>")[0]
        assert f'value="{name}"' in row
        assert 'class="problem"' in row
        assert answer.text.count('class="problem"') == 1
    assert [peer["name"] for peer in await device.peers()] == ["laptop", "phone"]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"fp": "nonsense", "name": "doorbell"}, "not the SHA-256 fingerprint"),
        ({"fp": "AB" * 32, "name": ""}, "1 to 64 characters"),
        ({"fp": "AB" * 32, "name": "doorbell", "kind": "A bell"}, "A kind has"),
        ({"fp": "AB" * 32, "name": "Laptop"}, "has this name"),
        ({"fp": "CD" * 32, "name": "doorbell"}, "is in your book already"),
    ],
)
async def test_a_device_that_cannot_be_entered_is_shown_with_the_reason(
    scene: Scene, fields: dict[str, str], error: str
) -> None:
    owner = await logged_in(scene)
    await owner.do("/peers", fp="CD" * 32, name="laptop")
    whole, part = await owner.act("/peers", **fields), await by_htmx(owner, "/peers", **fields)
    assert (whole.status_code, part.status_code) == (422, 200)
    for answer in (whole, part):
        assert error in answer.text
        assert f'value="{fields["fp"]}"' in answer.text
    assert len(await states(scene, owner)) == 1


async def test_a_fingerprint_is_taken_in_every_form(scene: Scene) -> None:
    owner = await logged_in(scene)
    fp = new_fingerprint()
    colons = ":".join(fp[i : i + 2] for i in range(0, 64, 2))
    await owner.do("/peers", fp=f"  sha-256 {colons.lower()} ", name="doorbell")
    assert await states(scene, owner) == {fp: "added"}


async def test_without_a_session_htmx_is_sent_home(scene: Scene) -> None:
    for path in ("/peers", f"/peers/{new_fingerprint()}/revoke", "/peers/revoke", "/peers/invites"):
        answer = await by_htmx(scene.owner(), path)
        assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/")
