"""Faults that the rules of claims and proofs once had, each as it is told to a person."""

import pytest

from app.bus import Changed, Found
from app.claims import CERTIFICATE, NO_CLAIM
from app.context import Context
from app.owners import Uid
from tests.conftest import OpenProcess
from tests.keys import Certificate, new_certificate, new_secret
from tests.parts import OWNER, STRANGER, Socket, a_device, fingerprint, verified
from tests.support import Message, eventually

ORIGIN = "http://book.test"


@pytest.fixture
async def uid(process: Context) -> str:
    """The owner of the book."""
    return await process.books.enroll(OWNER)


async def at_rest(process: Context) -> None:
    await eventually(lambda: not process.background._tasks)


def welcomes(socket: Socket) -> int:
    """How often it was welcomed, among all that it has not read yet."""
    heard = [socket._heard.get_nowait() for _ in range(socket._heard.qsize())]
    return sum(b'"code":200' in frame for frame in heard)


async def prove(socket: Socket, key: Certificate) -> Message:
    return await socket.ask({"command": "prove"} | key.proof(ORIGIN, socket.connection.nonce))


async def proved(process: Context, uid: str, name: str = "laptop") -> Socket:
    """A device that was approved with its certificate, and is in."""
    key = new_certificate()
    device = a_device(name, CERTIFICATE, key.fp)
    await process.books.ask(uid, None, device)
    await process.books.approve(uid, device.fp)
    socket = await Socket(process, device, Uid(uid)).arrive()
    assert (await prove(socket, key))["code"] == 200
    return socket


# A stranger's book


async def test_a_stranger_whose_device_takes_my_fingerprint_captures_no_connection_that_proves_itself(
    process: Context,
) -> None:
    stranger = await process.books.enroll(STRANGER)
    mine = new_certificate()
    tablet = await proved(process, stranger, "tablet")
    assert (await tablet.ask({"command": "rekey", "fp": mine.fp, "proof": CERTIFICATE}))["code"] == 200
    device = await Socket(process, a_device("laptop", CERTIFICATE, mine.fp)).arrive()
    assert "proof" not in await device.hear()
    assert (await prove(device, mine))["code"] == 200
    assert device.connection.peer is None


async def test_a_stranger_whose_device_takes_my_fingerprint_and_secret_captures_nothing(process: Context) -> None:
    stranger = await process.books.enroll(STRANGER)
    mine, theirs, fp = new_secret(), new_secret(), fingerprint()
    device = a_device("tablet", theirs.claim)
    await process.books.ask(stranger, None, device)
    await process.books.approve(stranger, device.fp)
    tablet = await Socket(process, device, Uid(stranger)).arrive()
    assert (await tablet.ask({"command": "prove"} | theirs.proof()))["code"] == 200
    assert (await tablet.ask({"command": "rekey", "fp": fp, "proof": mine.claim}))["code"] == 200
    laptop = await Socket(process, a_device("laptop", mine.claim, fp)).arrive()
    assert "proof" not in await laptop.hear()


# Two cards, one code


async def test_a_device_that_dials_again_after_it_showed_its_certificate_asks_no_second_time(
    process: Context, uid: str
) -> None:
    key = new_certificate()
    bare = a_device(fp=key.fp)
    first = await Socket(process, bare, OWNER).arrive()
    await at_rest(process)
    assert (await prove(first, key))["code"] == 200
    await first.leave()
    await Socket(process, bare, OWNER).arrive()
    book = await process.books.read(uid)
    assert book
    assert [(request.claim, request.asked_as) for request in book.requests.values()] == [(CERTIFICATE, NO_CLAIM)]


async def test_a_certificate_that_is_shown_at_once_counts_for_the_request(process: Context, uid: str) -> None:
    key = new_certificate()
    device = await Socket(process, a_device(fp=key.fp), OWNER).arrive()
    assert device.connection.book
    device.connection.book.requests.clear()  # the news of its request is still on its way
    assert (await prove(device, key))["code"] == 200
    book = await process.books.read(uid)
    assert book
    assert [request.claim for request in book.requests.values()] == [CERTIFICATE]


async def test_a_device_that_was_rejected_with_its_certificate_does_not_ask_again_without_it(
    process: Context, uid: str
) -> None:
    key = new_certificate()
    bare = a_device(fp=key.fp)
    first = await Socket(process, bare, OWNER).arrive()
    await at_rest(process)
    assert (await prove(first, key))["code"] == 200
    await process.books.reject(uid, key.fp)
    again = await Socket(process, bare, OWNER).arrive()
    assert "pair" not in await again.hear()
    assert await again.closed == 4403
    book = await process.books.read(uid)
    assert book
    assert not book.requests


async def test_a_device_that_raised_its_claim_leaves_no_request_behind(process: Context, uid: str) -> None:
    key = new_certificate()
    await process.books.ask(uid, None, a_device(fp=key.fp))
    await process.books.approve(uid, key.fp)
    device = await Socket(process, a_device("laptop", new_secret().claim, key.fp), OWNER).arrive()
    assert (await prove(device, key))["code"] == 200
    book = await process.books.read(uid)
    assert book
    assert book.peers[key.fp].claim == CERTIFICATE
    assert not book.requests


async def test_a_device_that_was_replaced_leaves_no_request_behind(process: Context, uid: str) -> None:
    old, new = await verified(process, uid, "old"), a_device("new")
    await process.books.ask(uid, None, a_device("old", new_secret().claim, old.fp))
    await process.books.ask(uid, None, new)
    await process.books.approve(uid, new.fp, replaces=old.fp)
    book = await process.books.read(uid)
    assert book
    assert not book.requests


# What is told to whom


async def test_a_device_that_is_let_in_by_two_changes_at_once_is_welcomed_once(
    open_process: OpenProcess,
) -> None:
    here, there = await open_process(), await open_process()
    uid = await here.books.enroll(OWNER)
    await here.books.note(uid, "the book has a version")
    device = a_device()
    socket = await Socket(there, device, OWNER).arrive()
    assert (await socket.hear())["code"] == 401
    await at_rest(there)
    heard = there.bus._hear[Changed]
    late: list[Changed] = []
    there.bus._hear[Changed] = late.append
    await here.books.approve(uid, device.fp)
    await here.books.rename(uid, device.fp, "workshop")
    await eventually(lambda: len(late) == 2)
    there.bus._hear[Changed] = heard
    for event in late:  # both in one read of the socket to the store
        heard(event)
    await at_rest(there)
    assert welcomes(socket) == 1


async def test_a_device_that_raises_its_claim_while_it_asks_is_welcomed_once(process: Context, uid: str) -> None:
    key = new_certificate()
    await process.books.ask(uid, None, a_device(fp=key.fp))
    await process.books.approve(uid, key.fp)
    device = await Socket(process, a_device("laptop", new_secret().claim, key.fp), OWNER).arrive()
    await device.say({"command": "prove"} | key.proof(ORIGIN, device.connection.nonce))
    await at_rest(process)
    assert welcomes(device) == 1


async def test_a_revoked_device_hears_nothing_when_its_revocation_comes_with_a_reload(
    open_process: OpenProcess,
) -> None:
    here, there = await open_process(), await open_process()
    uid = await here.books.enroll(OWNER)
    await verified(here, uid, "phone")
    socket = await Socket(there, await verified(here, uid), Uid(uid)).come_in()
    there.bus._hear[Changed] = lambda event: None
    await here.books.revoke(uid, socket.fp)
    there.books.reload_all()
    assert await socket.closed == 4403
    assert socket._heard.empty()


async def test_devices_of_a_deleted_account_hear_nothing_of_each_other(process: Context, uid: str) -> None:
    laptop = await Socket(process, await verified(process, uid), Uid(uid)).come_in()
    await Socket(process, await verified(process, uid, "phone"), Uid(uid)).come_in()
    await laptop.hear(lambda heard: heard.get("peer_update", {}).get("online") is True)
    await process.books.erase(uid, OWNER)
    assert await laptop.closed == 4403
    assert laptop._heard.empty()


async def test_of_two_connections_that_come_at_once_to_two_processes_the_newest_stays(
    open_process: OpenProcess,
) -> None:
    here, there = await open_process(), await open_process()
    uid = await here.books.enroll(OWNER)
    device = await verified(here, uid)
    await Socket(there, await verified(here, uid, "phone"), Uid(uid)).come_in()
    hear = there.bus._hear[Changed]
    late: list[Changed] = []
    there.bus._hear[Changed] = late.append
    older = await Socket(here, device, Uid(uid)).come_in()
    await eventually(lambda: bool(late))
    newer = await Socket(there, device, Uid(uid)).come_in()
    for event in late:
        hear(event)
    assert await older.closed == 4409
    await at_rest(there)
    assert (await newer.ask({"command": "get_list"}))["code"] == 200
    assert not newer.closed.done()


# Waiting outside


async def test_one_that_names_nobody_is_in_again_when_proof_is_demanded_no_more(process: Context, uid: str) -> None:
    device = await verified(process, uid)
    await process.books.require_proof(uid, True)
    socket = await Socket(process, device).arrive()
    assert (await socket.hear())["code"] == 401
    await process.books.require_proof(uid, False)
    assert (await socket.hear())["code"] == 200


async def test_that_proof_is_demanded_no_more_wakes_nobody_who_is_shut_out(process: Context, uid: str) -> None:
    device = await verified(process, uid)
    await process.books.revoke(uid, device.fp)
    await process.books.require_proof(uid, False)
    assert await process.store.books_of(device.fp) == set()


async def test_a_device_that_was_removed_and_entered_ahead_waits_where_proof_is_demanded(
    process: Context, uid: str
) -> None:
    device = await verified(process, uid)
    await process.books.remove(uid, device.fp)
    await process.books.add(uid, device.fp, "laptop", "lab")
    await process.books.require_proof(uid, True)
    socket = await Socket(process, device, Uid(uid)).arrive()
    assert (await socket.hear())["code"] == 401
    await process.books.require_proof(uid, False)
    await at_rest(process)
    assert not socket.closed.done()
    assert (await socket.hear())["code"] == 200


# Waiting, and naming nobody


async def test_one_that_names_nobody_is_let_in_though_an_earlier_event_is_still_on_its_way(
    open_process: OpenProcess,
) -> None:
    here, there = await open_process(), await open_process()
    uid = await here.books.enroll(OWNER)
    phone = await Socket(there, await verified(here, uid, "phone"), Uid(uid)).come_in()
    waiting = await Socket(there, a_device("laptop")).arrive()
    assert (await waiting.hear())["code"] == 401
    await here.books.ask(uid, None, waiting.connection.device)
    await at_rest(there)
    hear = there.bus._hear[Changed]
    late: list[Changed] = []
    there.bus._hear[Changed] = lambda event: hear(event) if late else late.append(event)
    await here.books.rename(uid, phone.fp, "pixel")
    await here.books.approve(uid, waiting.fp)
    assert (await waiting.hear())["code"] == 200
    assert late


async def test_one_that_names_nobody_is_let_in_after_a_gap_in_which_it_was_approved(open_process: OpenProcess) -> None:
    here, there = await open_process(), await open_process()
    uid = await here.books.enroll(OWNER)
    waiting = await Socket(there, a_device()).arrive()
    assert (await waiting.hear())["code"] == 401
    await here.books.ask(uid, None, waiting.connection.device)
    lost: list[Found] = []
    there.bus._hear[Found] = lost.append
    await here.books.approve(uid, waiting.fp)
    await eventually(lambda: bool(lost))
    for reload in there.bus._after_gap:
        reload()
    assert (await waiting.hear())["code"] == 200
