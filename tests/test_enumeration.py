"""Whether an address is known, served or mailed shows nowhere: not in an answer, nor in what happens before it.

How long an answer takes is measured by bench/enumeration.py; here stands why: it waits for the store as many times.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from app.addresses import Address
from app.codes import asker
from app.context import Context
from app.owners import OwnerName, Uid
from app.peers import Device, Fingerprint
from tests.conftest import OpenProcess, Start
from tests.parts import a_device, verified
from tests.support import Scene, new_fingerprint, stored

SERVED = ("@example.org",)
# All of one length, so that answers that show what was typed are as long as each other.
KNOWN = Address("known-1@example.org")
ASKED = Address("asked-1@example.org")
UNKNOWN = Address("unknown@example.org")
LIMITED = Address("limited@example.org")
UNSERVED = Address("unserve@example.com")


@dataclass
class Case:
    """Somebody who asks, and whom."""

    owner: OwnerName
    device: Device


async def settled(process: Context, address: Address) -> str:
    """The uid of an owner who has been here, with a device."""
    uid = await process.books.enroll(address)
    await process.books.settle(uid, address, "browser", "")
    await verified(process, uid)
    return uid


async def mailed(process: Context, address: Address) -> None:
    """Both mails that the address may get for now are on their way."""
    await process.asking.login(address, asker(None))
    await process.asking.ask(address, a_device(), "verify")


async def denied(process: Context, address: Address) -> Device:
    """A device that the owner of that address turned away."""
    device, uid = a_device(), await process.books.enroll(address)
    await process.books.ask(uid, None, device)
    await process.books.reject(uid, device.fp)
    return device


async def steps(process: Context, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[Any]]) -> int:
    """How many times `act` itself waits for the store; what it begins beside itself is no part of it."""
    counted, answer, me = 0, process.store._answer, asyncio.current_task()

    async def count(command: Any) -> Any:
        nonlocal counted
        counted += asyncio.current_task() is me
        return await answer(command)

    with monkeypatch.context() as patched:
        patched.setattr(process.store, "_answer", count)
        await act()
    return counted


@pytest.fixture(params=[0, 600], ids=["without limits", "with limits"])
async def process(request: pytest.FixtureRequest, open_process: OpenProcess) -> Context:
    process = await open_process(owners=SERVED, mail_interval=request.param)
    await settled(process, KNOWN)
    await process.asking.ask(ASKED, a_device(), "verify")
    await settled(process, LIMITED)
    await mailed(process, LIMITED)
    return process


async def test_every_ask_by_address_waits_for_the_store_as_many_times(
    process: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = {
        "known": Case(KNOWN, a_device()),
        "asked by a stranger": Case(ASKED, a_device()),
        "unknown": Case(UNKNOWN, a_device()),
        "limited": Case(LIMITED, a_device()),
        "denied": Case(KNOWN, await denied(process, KNOWN)),
        "unserved": Case(UNSERVED, a_device()),
    }
    took = {
        name: await steps(process, monkeypatch, partial(process.asking.ask, case.owner, case.device, "verify"))
        for name, case in cases.items()
    }
    assert took == dict.fromkeys(cases, 4)


async def test_every_ask_by_uid_waits_for_the_store_as_many_times(
    process: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = Uid(await process.books.enroll(KNOWN))
    cases = {
        "known": Case(uid, a_device()),
        "unknown": Case(Uid("0" * 32), a_device()),
        "denied": Case(uid, await denied(process, KNOWN)),
    }
    took = {
        name: await steps(process, monkeypatch, partial(process.asking.ask, case.owner, case.device, "verify"))
        for name, case in cases.items()
    }
    assert took == dict.fromkeys(cases, 3)


async def test_every_login_waits_for_the_store_as_many_times(process: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = (KNOWN, ASKED, UNKNOWN, LIMITED, UNSERVED)
    took = {
        address.typed: await steps(process, monkeypatch, partial(process.asking.login, address, asker(None)))
        for address in addresses
    }
    assert len(set(took.values())) == 1, took


async def test_an_unserved_address_leaves_nothing_behind_but_what_every_browser_does(open_process: OpenProcess) -> None:
    process = await open_process(owners=SERVED)
    await process.asking.ask(UNSERVED, a_device(), "verify")
    await process.asking.login(UNSERVED, asker(None))
    left = list(await stored(process.store.redis))
    assert [key.partition(":")[0] for key in left] == ["code"]  # what the browser may type is kept for everybody
    assert 0 < await process.store.redis.ttl(left[0]) <= 600


# Over HTTP


@pytest.fixture
async def scene(start: Start) -> Scene:
    """A server that serves some; one address is known, another is mailed no more for now."""
    scene = await start(owners=SERVED, mail_interval=600)
    await settled(scene.context, KNOWN)
    await settled(scene.context, LIMITED)
    await mailed(scene.context, LIMITED)
    await scene.at_rest()
    return scene


async def test_each_verify_has_the_same_status_headers_and_shape(scene: Scene) -> None:
    shut_out = (await denied(scene.context, KNOWN)).fp
    asked: list[tuple[Address, str]] = [
        (KNOWN, new_fingerprint()),
        (KNOWN, shut_out),
        (UNKNOWN, new_fingerprint()),
        (LIMITED, new_fingerprint()),
        (UNSERVED, new_fingerprint()),
    ]
    shapes = set()
    for address, fp in asked:
        answer = await scene.http.post("/verify", json={"fp": fp, "email": address.typed})
        assert answer.json().keys() == {"verified", "pair"}
        shapes.add((answer.status_code, str(answer.headers), len(answer.content), answer.json()["verified"]))
    assert len(shapes) == 1, "byte for byte but for the code"


async def test_each_login_is_the_same_page_with_the_same_headers(scene: Scene) -> None:
    pages = set()
    for address in (KNOWN, UNKNOWN, LIMITED, UNSERVED):
        answer = await scene.http.post("/login", data={"email": address.typed}, headers={"Accept-Encoding": "identity"})
        pages.add((answer.status_code, str(answer.headers), answer.text.replace(address.typed, "ADDRESS")))
    assert len(pages) == 1
    await scene.at_rest()
    assert {to for to, _ in scene.mailbox.mails if to != LIMITED.typed} == {KNOWN.typed, UNKNOWN.typed}


async def test_a_foreign_device_is_a_page_like_that_of_one_that_never_was(scene: Scene) -> None:
    owner, stranger = scene.owner("owner@example.org"), scene.owner("other@example.org")
    theirs = await scene.join(owner)
    asking = Fingerprint(new_fingerprint())
    await scene.verify(asking, email=owner.address)
    await stranger.log_in()
    for act in ("approve", "reject", "rename", "revoke", "remove"):
        answers = set()
        for fp in (theirs.fp, asking, new_fingerprint()):
            answer = await stranger.act(f"/peers/{fp}/{act}", name="mine")
            answers.add((answer.status_code, str(answer.headers), answer.content))
        assert len(answers) == 1, act
        assert answers.pop()[0] == 404, act
