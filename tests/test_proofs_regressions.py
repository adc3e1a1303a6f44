"""Faults that the rules of claims and proofs once had, each as it is told to a person."""

import pytest

from app.claims import CERTIFICATE
from app.context import Context
from app.owners import Uid
from tests.keys import Certificate, new_certificate, new_secret
from tests.parts import OWNER, STRANGER, Socket, a_device, fingerprint
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
