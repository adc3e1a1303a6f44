"""Books: two processes on one store agree on every book, and every act keeps its promise."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from redis.asyncio import Redis

from app import books as books_module
from app import presence as presence_module
from app.addresses import Address
from app.book import Book, Report
from app.bus import Changed, Found
from app.claims import CERTIFICATE, claim_of_secret
from app.context import Context
from app.errors import AlreadyInBook, BookFull, NameTaken, NotFound, PeerbookError, Unreachable
from app.invites import invite_digest
from app.peers import Device, Fingerprint, request_id
from tests.conftest import OpenProcess
from tests.parts import OWNER, STRANGER, Listener, a_device, fingerprint, verified
from tests.support import SECONDS, eventually


@pytest.fixture
async def uid(process: Context) -> str:
    """The owner's book, which is empty."""
    return await process.books.enroll(OWNER)


async def book_of(process: Context, uid: str) -> Book:
    book = await process.books.read(uid)
    assert book
    return book


async def held(process: Context, uid: str, listener: Listener) -> Book:
    book = await process.books.hold(uid, listener)
    assert book
    return book


async def names_in(process: Context, uid: str) -> list[str]:
    return sorted(peer.name for peer in (await book_of(process, uid)).peers.values())


def rename_unseen(process: Context, uid: str, fp: Fingerprint, name: str) -> Awaitable[Any]:
    """A change whose event is lost: the script runs, and nobody is told."""
    given = {"text": name, "fold": name, "stem": name, "stem_fold": name, "exact": True}
    return process.store.run("rename", uid, {"fp": fp, "name": given})


async def admit(process: Context, uid: str, device: Device, connection: str = "c1") -> bool:
    outcome, _ = await process.books.admit(uid, device.fp, device.claim, connection, named=True, demanded=False)
    return outcome == "in"


class Gate:
    """Holds up the answers of one command of the real store, until opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Any, command: str) -> None:
        self.reached, self._open = asyncio.Event(), asyncio.Event()
        real: Callable[..., Awaitable[Any]] = getattr(store, command)

        async def late(*args: Any, **kwargs: Any) -> Any:
            answer = await real(*args, **kwargs)
            self.reached.set()
            await self._open.wait()
            return answer

        monkeypatch.setattr(store, command, late)

    def open(self) -> None:
        self._open.set()


# Holding: a Book follows the store


async def test_nobody_can_hold_the_book_of_a_user_that_is_not(process: Context) -> None:
    assert await process.books.hold("nobody", Listener()) is None
    assert await process.books.read("nobody") is None


async def test_a_change_in_one_process_is_heard_in_the_other(open_process: OpenProcess) -> None:
    here, there = await open_process(), await open_process()
    uid, listener = await here.books.enroll(OWNER), Listener()
    book = await held(there, uid, listener)
    device = await verified(here, uid)
    await listener.hear(lambda change: device.fp in change.fps)
    assert book.verified(device.fp)
    await here.books.revoke(uid, device.fp)
    change = await listener.hear(lambda change: device.fp in change.fps)
    assert [(update.fp, update.verified) for update in change.updates] == [(device.fp, False)]
    assert book.verified(device.fp) is None


async def test_all_listeners_of_a_process_share_one_book(process: Context, uid: str) -> None:
    first, second = Listener(), Listener()
    books = await asyncio.gather(process.books.hold(uid, first), process.books.hold(uid, second))
    assert books[0] is books[1] is not None
    device = await verified(process, uid)
    for listener in (first, second):
        await listener.hear(lambda change: device.fp in change.fps)


async def test_after_a_lost_event_the_book_is_loaded_anew(open_process: OpenProcess) -> None:
    here, there = await open_process(), await open_process()
    uid, listener = await here.books.enroll(OWNER), Listener()
    device = await verified(here, uid)
    book = await held(there, uid, listener)
    await rename_unseen(here, uid, device.fp, "lost")
    await verified(here, uid, "phone")
    change = await listener.hear(lambda change: change.whole)
    assert device.fp in change.fps
    await eventually(lambda: sorted(peer.name for peer in book.peers.values()) == ["lost", "phone"])


async def test_a_lost_event_of_a_book_that_waits_for_its_next_listener_is_not_forgotten(
    process: Context, uid: str
) -> None:
    device, listener = await verified(process, uid), Listener()
    await held(process, uid, listener)
    process.books.release(uid, listener)
    await rename_unseen(process, uid, device.fp, "lost")
    await process.books.check()
    assert (await held(process, uid, listener)).peers[device.fp].name == "lost"


async def test_a_book_that_is_read_anew_and_is_as_it_was_makes_no_news(process: Context, uid: str) -> None:
    await verified(process, uid)
    listener = Listener()
    await held(process, uid, listener)
    await process.books.check()
    await process.books._reload(process.books._shelves[uid])
    assert listener.heard_nothing


async def test_an_event_that_comes_twice_or_too_late_changes_nothing(open_process: OpenProcess) -> None:
    here, there = await open_process(), await open_process()
    uid, listener = await here.books.enroll(OWNER), Listener()
    device = await verified(here, uid)
    old = await here.store.load(uid)
    assert isinstance(old, Report)
    book = await held(there, uid, listener)
    await here.books.rename(uid, device.fp, "new")
    await listener.hear()
    here.bus.tell({there.process}, Changed(old), lambda process: None)
    await here.books.rename(uid, device.fp, "newer")
    await listener.hear()
    assert book.peers[device.fp].name == "newer"
    assert listener.heard_nothing


async def test_events_that_overtake_each_other_are_followed_in_order_without_a_reload(
    open_process: OpenProcess,
) -> None:
    here, there = await open_process(), await open_process()
    uid, listener = await here.books.enroll(OWNER), Listener()
    devices = [await verified(here, uid, name) for name in ("laptop", "phone", "tablet")]
    book = await held(there, uid, listener)
    reports = [(await here.store.run("revoke", uid, {"fp": device.fp})).report for device in devices]
    for report in reversed(reports):
        assert report
        here.bus.tell({there.process}, Changed(report), lambda process: None)
    for device in devices:
        change = await listener.hear()
        assert (change.fps, change.whole) == (frozenset({device.fp}), False)
    assert {peer.state for peer in book.peers.values()} == {"revoked"}
    assert listener.heard_nothing


async def test_events_of_a_book_that_nobody_holds_are_ignored(open_process: OpenProcess) -> None:
    here, there = await open_process(), await open_process()
    uid, other, listener = await here.books.enroll(OWNER), await here.books.enroll(STRANGER), Listener()
    await held(there, uid, listener)
    await verified(here, other)
    report = await here.store.load(other)
    assert report
    here.bus.tell({there.process}, Changed(report), lambda process: None)
    device = await verified(here, uid)
    assert await listener.hear(lambda change: device.fp in change.fps)
    assert set((await held(there, uid, listener)).peers) == {device.fp}


async def test_what_happens_while_a_book_is_loading_is_in_it(
    process: Context, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, listener = await verified(process, uid), Listener()
    gate = Gate(monkeypatch, process.store, "load")
    holding = asyncio.create_task(process.books.hold(uid, listener))
    await gate.reached.wait()
    await process.books.rename(uid, device.fp, "meanwhile")
    await process.books.rename(uid, device.fp, "and again")
    gate.open()
    book = await holding
    assert book
    assert book.peers[device.fp].name == "and again"


async def test_what_comes_while_a_load_fails_is_followed(
    process: Context, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, listener = await verified(process, uid), Listener()
    book = await held(process, uid, listener)
    began, go_on = asyncio.Event(), asyncio.Event()

    async def fail(uid: str, process: str | None = None) -> None:
        began.set()
        await go_on.wait()
        raise Unreachable

    monkeypatch.setattr(process.store, "load", fail)
    loading = asyncio.create_task(process.books._load(process.books._shelves[uid], first=False))
    await began.wait()
    await process.books.rename(uid, device.fp, "meanwhile")
    go_on.set()
    with pytest.raises(Unreachable):
        await loading
    assert book.peers[device.fp].name == "meanwhile"


async def test_what_comes_while_a_book_loads_is_followed_though_the_next_step_fails(
    process: Context, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await verified(process, uid)
    await process.store.load(uid, "other")
    gate = Gate(monkeypatch, process.store, "load")

    async def fail(names: Any) -> set[str]:
        raise Unreachable

    monkeypatch.setattr(process.store, "living", fail)
    holding = asyncio.create_task(process.books.hold(uid, Listener()))
    await gate.reached.wait()
    await process.books.rename(uid, device.fp, "meanwhile")
    gate.open()
    with pytest.raises(Unreachable):
        await holding
    assert (await held(process, uid, Listener())).peers[device.fp].name == "meanwhile"


async def test_who_holds_a_book_that_is_loading_waits_for_it(
    process: Context, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, process.store, "load")
    holding = [asyncio.create_task(process.books.hold(uid, Listener())) for _ in range(3)]
    await gate.reached.wait()
    gate.open()
    first, second, third = await asyncio.gather(*holding)
    assert first is second is third is not None


async def test_two_processes_that_act_at_once_end_with_the_same_book(open_process: OpenProcess) -> None:
    here, there = await open_process(), await open_process()
    uid = await here.books.enroll(OWNER)
    devices = [await verified(here, uid, f"device {number}") for number in range(4)]
    books = [await held(process, uid, Listener()) for process in (here, there)]
    acts = [
        process.books.rename(uid, device.fp, f"{name} {number}")
        for name, process in (("here", here), ("there", there))
        for number, device in enumerate(devices * 5)
    ]
    shut_out = (here.books.revoke(uid, devices[0].fp), there.books.remove(uid, devices[1].fp))
    outcomes = await asyncio.gather(*acts, *shut_out, return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, NotFound | NameTaken) for outcome in outcomes)
    truth = await book_of(here, uid)
    await eventually(lambda: all(book.version == truth.version for book in books))
    assert books[0].peers == books[1].peers == truth.peers


async def test_a_book_that_the_store_has_lost_is_told_to_be_lost(process: Context, uid: str, redis: Redis) -> None:
    await verified(process, uid)
    listener = Listener()
    await held(process, uid, listener)
    await redis.flushdb()
    await process.books.check()
    assert (await listener.hear()).lost
    assert await process.books.hold(uid, listener) is None


async def test_a_store_that_refuses_is_asked_again(
    process: Context, uid: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "_RETRY_SECONDS", 0.01)
    device, listener = await verified(process, uid), Listener()
    book = await held(process, uid, listener)
    await rename_unseen(process, uid, device.fp, "lost")
    await redis.config_resetstat()
    await redis.config_set("maxmemory", 1)
    renewing = asyncio.create_task(process.presence._renew())
    try:
        async with asyncio.timeout(SECONDS):
            while "errorstat_OOM" not in await redis.info("errorstats"):
                pass
        assert book.peers[device.fp].name == "laptop"
    finally:
        await redis.config_set("maxmemory", 0)
    await asyncio.wait_for(renewing, SECONDS)
    await listener.hear(lambda change: change.whole)
    assert book.peers[device.fp].name == "lost"


async def test_who_could_not_load_a_book_does_not_hold_it(process: Context, uid: str, redis: Redis) -> None:
    listener = Listener()
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(Unreachable):
            await process.books.hold(uid, listener)
    finally:
        await redis.config_set("maxmemory", 0)
    await held(process, uid, Listener())
    await verified(process, uid)
    assert listener.heard_nothing


# Letting go


async def test_a_book_stays_for_a_while_after_its_last_listener(process: Context, uid: str, redis: Redis) -> None:
    listener = Listener()
    book = await held(process, uid, listener)
    process.books.release(uid, listener)
    process.books.release(uid, listener)
    assert await redis.sismember(f"interest:{{{uid}}}", process.process)
    assert await held(process, uid, listener) is book


async def test_a_book_that_nobody_needs_is_let_go(
    process: Context, uid: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books_module, "_KEEP_SECONDS", 0.0)
    listener = Listener()
    book = await held(process, uid, listener)
    process.books.release(uid, listener)
    await eventually(lambda: not process.books._shelves)
    await eventually(lambda: not process.background._tasks)
    assert not await redis.exists(f"interest:{{{uid}}}")
    assert await held(process, uid, listener) is not book


async def test_releasing_what_is_not_held_is_harmless(process: Context) -> None:
    process.books.release("nobody", Listener())
    assert not process.books._shelves


async def test_who_comes_just_before_a_book_is_let_go_keeps_it(process: Context, uid: str) -> None:
    first, second = Listener(), Listener()
    book = await held(process, uid, first)
    process.books.release(uid, first)
    process.books._begin_drop(process.books._shelves[uid])
    assert await held(process, uid, second) is book
    await eventually(lambda: not process.background._tasks)
    device = await verified(process, uid)
    assert await second.hear(lambda change: device.fp in change.fps)


async def test_who_comes_while_a_book_is_let_go_loads_it_anew(
    process: Context, uid: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books_module, "_KEEP_SECONDS", 0.0)
    gate, listener = Gate(monkeypatch, process.store, "lose_interest"), Listener()
    await held(process, uid, listener)
    process.books.release(uid, listener)
    await gate.reached.wait()
    holding = asyncio.create_task(process.books.hold(uid, listener))
    gate.open()
    assert await holding
    assert await redis.sismember(f"interest:{{{uid}}}", process.process)
    device = await verified(process, uid)
    assert await listener.hear(lambda change: device.fp in change.fps)


async def test_a_book_that_could_not_be_let_go_in_an_outage_is_let_go_later(
    process: Context, uid: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books_module, "_KEEP_SECONDS", 0.0)
    lose_interest, tries = process.store.lose_interest, list[str]()

    async def fail_once(uids: Any, name: str) -> None:
        tries.append(name)
        if len(tries) == 1:
            raise Unreachable
        await lose_interest(uids, name)

    monkeypatch.setattr(process.store, "lose_interest", fail_once)
    listener = Listener()
    await held(process, uid, listener)
    process.books.release(uid, listener)
    await eventually(lambda: bool(tries) and not process.books._shelves)
    await eventually(lambda: not process.background._tasks)
    assert not await redis.exists(f"interest:{{{uid}}}")


async def test_who_gives_up_while_a_book_is_let_go_leaves_nothing_that_takes_it_from_the_next(
    process: Context, uid: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, listener = Gate(monkeypatch, process.store, "lose_interest"), Listener()
    await held(process, uid, listener)
    process.books.release(uid, listener)
    shelf = process.books._shelves[uid]
    process.books._begin_drop(shelf)
    await gate.reached.wait()
    monkeypatch.setattr(books_module, "_KEEP_SECONDS", 0.05)
    holding = asyncio.create_task(process.books.hold(uid, listener))  # as a page does that is closed again
    await asyncio.sleep(0)
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    gate.open()
    await eventually(lambda: not process.background._tasks)
    await held(process, uid, listener)
    await asyncio.sleep(0.1)  # nothing tells that nothing happens
    device = await verified(process, uid)
    assert await listener.hear(lambda change: device.fp in change.fps)
    assert await redis.sismember(f"interest:{{{uid}}}", process.process)


async def test_a_killed_processs_peers_are_offline_for_whoever_loads_the_book(
    open_process: OpenProcess, redis: Redis
) -> None:
    here, killed = await open_process(), await open_process()
    uid = await here.books.enroll(OWNER)
    laptop, phone = await verified(here, uid), await verified(here, uid, "phone")
    assert await admit(killed, uid, laptop)
    assert await admit(here, uid, phone)
    await redis.delete(f"process:{killed.process}")
    assert set((await held(here, uid, Listener())).online) == {phone.fp}
    assert set((await book_of(here, uid)).online) == {phone.fp}


async def test_the_peers_of_a_process_that_is_killed_go_offline_for_whoever_holds_the_book(
    open_process: OpenProcess, redis: Redis
) -> None:
    here, killed = await open_process(), await open_process()
    uid = await here.books.enroll(OWNER)
    laptop = await verified(here, uid)
    book = await held(here, uid, Listener())
    assert await admit(killed, uid, laptop)
    await eventually(lambda: laptop.fp in book.online)
    await here.books.forget_the_dead()
    assert laptop.fp in book.online
    await redis.delete(f"process:{killed.process}")
    await here.books.forget_the_dead()
    assert book.online == {}


async def test_a_process_that_does_not_hear_of_a_change_is_forgotten_if_it_is_dead(
    process: Context, uid: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_dead, asked = process.books.is_dead, list[str]()

    async def ask(name: str) -> bool:
        asked.append(name)
        return await is_dead(name)

    monkeypatch.setattr(process.books, "is_dead", ask)
    laptop = await verified(process, uid)
    await process.store.load(uid, "deaf")
    await process.store.keep_lease("deaf", 30)
    place = {"process": "deaf", "connection": "c1", "named": True}
    await process.store.run("admit", uid, {"fp": laptop.fp, "claim": laptop.claim} | place)
    for dead in (False, True):
        if dead:
            await redis.delete("process:deaf")
        asked.clear()
        await process.books.note(uid, "something")
        await eventually(lambda: bool(asked) and not process.background._tasks)
        assert await redis.sismember(f"interest:{{{uid}}}", "deaf") == (not dead)
        assert (laptop.fp in (await book_of(process, uid)).online) == (not dead)


async def test_an_approval_whose_index_fails_is_done_and_indexed_later(
    process: Context, uid: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books_module, "_RETRY_SECONDS", 0.01)
    index, asked = process.store.index, list[str]()

    async def fail_twice(fp: Fingerprint, uid: str) -> set[str]:
        asked.append(uid)
        if len(asked) < 3:
            raise Unreachable
        return await index(fp, uid)

    monkeypatch.setattr(process.store, "index", fail_twice)
    device = await verified(process, uid)
    await eventually(lambda: len(asked) == 3 and not process.background._tasks)
    assert await redis.zrange(f"books:{device.fp[:32]}", 0, -1) == [uid]


async def test_a_revocation_whose_index_stays_is_done_all_the_same(
    process: Context, uid: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await verified(process, uid)

    async def fail(fp: Fingerprint, uid: str) -> None:
        raise Unreachable

    monkeypatch.setattr(process.store, "unindex", fail)
    await process.books.revoke(uid, device.fp)
    assert (await book_of(process, uid)).verified(device.fp) is None


async def test_a_book_that_cannot_be_loaded_anew_is_tried_again_while_somebody_needs_it(
    process: Context, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books_module, "_RETRY_SECONDS", 0.01)
    listener, tries = Listener(), list[str]()
    await held(process, uid, listener)
    shelf = process.books._shelves[uid]

    async def fail(uid: str, process: str | None = None) -> None:
        tries.append(uid)
        raise Unreachable

    monkeypatch.setattr(process.store, "load", fail)
    process.books._give_up(shelf)
    await eventually(lambda: len(tries) > 2)
    process.books.release(uid, listener)
    await eventually(lambda: shelf.book is None)


async def test_a_process_that_comes_again_displaces_nobody(open_process: OpenProcess) -> None:
    here, there = await open_process(), await open_process()
    uid = await here.books.enroll(OWNER)
    device = await verified(here, uid)
    assert await admit(there, uid, device, "newer")

    async def again(process: Context, connection: str) -> str:
        outcome, _ = await process.books.admit(
            uid, device.fp, "none", connection, named=True, demanded=False, again=True
        )
        return outcome

    assert await again(here, "older") == "elsewhere"
    assert await again(there, "older") == "elsewhere"
    assert await again(there, "newer") == "in"
    await there.books.leave(uid, device.fp, "newer")
    assert await again(here, "older") == "in"


async def test_the_peers_of_a_living_process_stay_online(open_process: OpenProcess) -> None:
    here, there = await open_process(), await open_process()
    uid = await here.books.enroll(OWNER)
    laptop = await verified(here, uid)
    assert await admit(there, uid, laptop)
    assert set((await held(here, uid, Listener())).online) == {laptop.fp}


async def test_forgetting_a_process_that_nobody_was_online_with_changes_nothing(process: Context, uid: str) -> None:
    before = await book_of(process, uid)
    await process.books.forget(uid, "nobody")
    assert await book_of(process, uid) == before


async def test_an_absence_is_told_later_and_the_book_knows_at_once(process: Context, uid: str) -> None:
    process.absences._delay = 0.01
    laptop, listener = await verified(process, uid), Listener()
    book = await held(process, uid, listener)
    assert await admit(process, uid, laptop)
    assert [update.online for update in (await listener.hear(lambda change: bool(change.updates))).updates] == [True]
    await process.books.leave(uid, laptop.fp, "c1")
    assert book.online == {}
    assert (await listener.hear()).updates == ()
    assert [update.online for update in (await listener.hear()).updates] == [False]


# Users


async def test_one_address_is_one_user(process: Context) -> None:
    uids = await asyncio.gather(
        *(process.books.enroll(Address(each)) for each in ["you@example.org", "You@Example.org"] * 10)
    )
    assert len(set(uids)) == 1
    assert await process.store.uid_of(OWNER) == uids[0]
    assert (await book_of(process, uids[0])).owner.address.lower() == OWNER.key


async def test_a_user_that_nobody_asked_for_leaves_nothing_behind(process: Context, redis: Redis) -> None:
    uid = await process.books.enroll(OWNER)
    for number in range(8):
        assert await process.books.ask(uid, OWNER, a_device(f"device {number}")) == "asked"
    device = a_device()
    await process.books.ask(uid, None, device)
    await process.books.reject(uid, device.fp)
    await held(process, uid, Listener())
    ends = {key: await redis.ttl(key) for key in await redis.keys("*")}
    assert len(ends) > 5
    assert {key for key, seconds in ends.items() if seconds < 0} == {"schema", "since"}


# Asking


async def test_a_device_that_asks_is_a_request(process: Context, uid: str) -> None:
    device = a_device("my laptop")
    assert await process.books.ask(uid, OWNER, device) == "asked"
    request = (await book_of(process, uid)).requests[device.rid]
    assert (request.fp, request.name, request.kind, request.place) == (device.fp, "my laptop", "lab", "203.0.113.x")


async def test_asking_again_is_the_same_request(process: Context, uid: str) -> None:
    device = a_device()
    for _ in range(3):
        assert await process.books.ask(uid, OWNER, device) == "asked"
    assert set((await book_of(process, uid)).requests) == {device.rid}


async def test_asking_makes_the_user_of_an_address_but_never_of_a_uid(process: Context) -> None:
    assert await process.books.ask("nobody", None, a_device()) == "unknown"
    assert await process.books.read("nobody") is None


async def test_a_full_list_of_requests_loses_its_oldest(open_process: OpenProcess, redis: Redis) -> None:
    process = await open_process(max_requests=3)
    uid = await process.books.enroll(OWNER)
    first, oldest, third, newest = (a_device(f"device {number}") for number in range(4))
    for device in (first, oldest, third):
        await process.books.ask(uid, None, device)
    await redis.zadd(f"requests:{{{uid}}}", {oldest.rid: 1})
    book = await held(process, uid, Listener())
    assert await process.books.ask(uid, None, newest) == "asked"
    assert set(book.requests) == {first.rid, third.rid, newest.rid}
    assert book.requests == (await book_of(process, uid)).requests


async def test_a_request_that_ended_makes_place_for_another(open_process: OpenProcess, redis: Redis) -> None:
    process = await open_process(max_requests=1)
    uid, first, second = await process.books.enroll(OWNER), a_device(), a_device()
    await process.books.ask(uid, None, first)
    await redis.delete(f"request:{{{uid}}}:{first.rid}")
    await process.books.ask(uid, None, second)
    assert set((await book_of(process, uid)).requests) == {second.rid}
    assert await redis.zrange(f"requests:{{{uid}}}", 0, -1) == [second.rid]


async def test_a_verified_device_that_asks_hears_that_it_is(process: Context, uid: str) -> None:
    device = await verified(process, uid)
    assert await process.books.ask(uid, OWNER, device) == "verified"
    assert (await book_of(process, uid)).requests == {}


async def test_a_device_that_comes_with_a_new_secret_is_another_request(process: Context, uid: str) -> None:
    device = await verified(process, uid)
    other = a_device("thief", claim_of_secret("a secret that nobody approved"), device.fp)
    assert await process.books.ask(uid, OWNER, other) == "asked"
    assert not await admit(process, uid, other)
    assert await admit(process, uid, device)


# Rejecting


async def test_a_rejected_device_is_not_asked_about_again(process: Context, uid: str) -> None:
    device = a_device()
    await process.books.ask(uid, None, device)
    await process.books.reject(uid, device.fp)
    assert await process.books.ask(uid, None, device) == "denied"
    book = await book_of(process, uid)
    assert book.requests == {}
    assert set(book.denied) == {device.rid}


async def test_one_request_of_a_fingerprint_or_all_of_them_are_rejected(process: Context, uid: str) -> None:
    fp = fingerprint()
    devices = [a_device("laptop", claim, fp) for claim in ("none", "certificate", "another")]
    for device in devices:
        await process.books.ask(uid, None, device)
    await process.books.reject(uid, fp, devices[1].rid)
    assert set((await book_of(process, uid)).requests) == {devices[0].rid, devices[2].rid}
    await process.books.reject(uid, fp)
    book = await book_of(process, uid)
    assert book.requests == {}
    assert set(book.denied) == {device.rid for device in devices}


async def test_rejecting_what_nobody_asked_is_not_found(process: Context, uid: str) -> None:
    device = a_device()
    await process.books.ask(uid, None, device)
    with pytest.raises(NotFound):
        await process.books.reject(uid, fingerprint())
    with pytest.raises(NotFound):
        await process.books.reject(uid, fingerprint(), device.rid)
    with pytest.raises(NotFound):
        await process.books.reject(uid, device.fp, "no such request")
    assert device.rid in (await book_of(process, uid)).requests


async def test_the_list_of_denied_devices_is_capped(process: Context, uid: str) -> None:
    for _ in range(105):
        device = a_device()
        await process.books.ask(uid, None, device)
        await process.books.reject(uid, device.fp)
    denied = (await book_of(process, uid)).denied
    assert len(denied) == 100
    assert device.rid in denied


# Approving


async def test_an_approved_device_is_in_under_the_name_it_gave_itself(process: Context, uid: str) -> None:
    device = await verified(process, uid, "my laptop")
    book = await book_of(process, uid)
    peer = book.peers[device.fp]
    assert (peer.name, peer.kind, peer.claim, peer.verified) == ("my laptop", "lab", "none", True)
    assert peer.verified_on >= peer.created_on > 0
    assert peer.last_seen == 0
    assert book.requests == {}
    assert await process.store.books_of(device.fp) == {uid}


async def test_the_owner_may_choose_another_name(process: Context, uid: str) -> None:
    device = a_device("laptop")
    await process.books.ask(uid, None, device)
    await process.books.approve(uid, device.fp, name="work")
    assert await names_in(process, uid) == ["work"]


async def test_a_name_that_is_taken_gets_a_number(process: Context, uid: str) -> None:
    for name in ("laptop", "Laptop", "LAPTOP", "x" * 64, "x" * 64):
        await verified(process, uid, name)
    assert await names_in(process, uid) == sorted(["laptop", "Laptop 2", "LAPTOP 3", "x" * 64, "x" * 58 + " 2"])


async def test_a_chosen_name_that_is_taken_is_refused(process: Context, uid: str) -> None:
    await verified(process, uid, "laptop")
    device = a_device("phone")
    await process.books.ask(uid, None, device)
    with pytest.raises(NameTaken):
        await process.books.approve(uid, device.fp, name="LAPTOP")
    assert (await book_of(process, uid)).verified(device.fp) is None


@pytest.mark.parametrize("known", [True, False])
async def test_a_device_that_did_not_ask_cannot_be_approved(process: Context, uid: str, known: bool) -> None:
    with pytest.raises(NotFound):
        await process.books.approve(uid if known else "nobody", fingerprint())


async def test_an_approval_holds_for_the_device_whose_request_it_names(process: Context, uid: str) -> None:
    device, other = a_device(), a_device()
    await process.books.ask(uid, None, device)
    await process.books.ask(uid, None, other)
    with pytest.raises(NotFound):
        await process.books.approve(uid, other.fp, rid=device.rid)
    assert (await book_of(process, uid)).peers == {}


async def test_an_approval_binds_the_device_to_the_claim_that_was_approved(process: Context, uid: str) -> None:
    fp = fingerprint()
    thief, owner = a_device("thief", "none", fp), a_device("laptop", "certificate", fp)
    await process.books.ask(uid, None, thief)
    await process.books.ask(uid, None, owner)
    await process.books.approve(uid, fp, rid=owner.rid)
    book = await book_of(process, uid)
    assert (book.peers[fp].name, book.peers[fp].claim) == ("laptop", "certificate")
    assert book.requests == {}  # what proves less can't be approved any more
    assert not await admit(process, uid, thief)


async def test_a_full_book_takes_nobody_more(open_process: OpenProcess) -> None:
    process = await open_process(max_peers=1)
    uid = await process.books.enroll(OWNER)
    first = await verified(process, uid)
    second = a_device("phone")
    await process.books.ask(uid, None, second)
    with pytest.raises(BookFull):
        await process.books.approve(uid, second.fp)
    with pytest.raises(BookFull):
        await process.books.add(uid, fingerprint(), "tablet", "lab")
    await process.books.approve(uid, second.fp, replaces=first.fp)
    assert set((await book_of(process, uid)).peers) == {second.fp}


async def test_a_device_that_replaces_another_keeps_its_name_and_history(process: Context, uid: str) -> None:
    old = await verified(process, uid, "laptop")
    created_on = (await book_of(process, uid)).peers[old.fp].created_on
    new = a_device("laptop after reinstall")
    await process.books.ask(uid, None, new)
    await process.books.approve(uid, new.fp, replaces=old.fp)
    book = await book_of(process, uid)
    assert set(book.peers) == {new.fp}
    assert (book.peers[new.fp].name, book.peers[new.fp].created_on) == ("laptop", created_on)
    assert request_id(old.fp, old.claim) in book.denied
    assert await process.books.ask(uid, None, old) == "denied"
    assert await process.store.books_of(old.fp) == set()
    assert await process.store.books_of(new.fp) == {uid}


async def test_nobody_replaces_itself_or_a_device_that_is_not(process: Context, uid: str) -> None:
    device = a_device()
    await process.books.ask(uid, None, device)
    for replaced in (device.fp, fingerprint()):
        with pytest.raises(NotFound):
            await process.books.approve(uid, device.fp, replaces=replaced)
    assert (await book_of(process, uid)).peers == {}


# Revoking, removing


async def test_a_revoked_device_is_shut_out_until_it_is_approved_again(process: Context, uid: str) -> None:
    device = await verified(process, uid, "laptop")
    assert await admit(process, uid, device)
    await process.books.revoke(uid, device.fp)
    book = await book_of(process, uid)
    assert (book.peers[device.fp].state, book.online) == ("revoked", {})
    assert not await admit(process, uid, device)
    assert await process.books.ask(uid, None, device) == "denied"
    assert await process.store.books_of(device.fp) == set()
    await process.books.approve(uid, device.fp)
    assert await admit(process, uid, device)
    assert await names_in(process, uid) == ["laptop"]
    assert await process.store.books_of(device.fp) == {uid}


async def test_a_removed_device_is_gone_and_not_asked_about_at_once(process: Context, uid: str) -> None:
    device = await verified(process, uid)
    await process.books.remove(uid, device.fp)
    book = await book_of(process, uid)
    assert (book.peers, set(book.denied)) == ({}, {device.rid})
    assert await process.books.ask(uid, None, device) == "denied"
    assert await process.store.books_of(device.fp) == set()


async def test_a_revoked_device_that_is_removed_may_ask_some_time(process: Context, uid: str, redis: Redis) -> None:
    device = await verified(process, uid)
    await process.books.revoke(uid, device.fp)
    await process.books.remove(uid, device.fp)
    await redis.hset(f"denied:{{{uid}}}", device.rid, "1")
    assert await process.books.ask(uid, None, device) == "asked"


@pytest.mark.parametrize("act", ["revoke", "remove", "rename"])
async def test_acts_on_a_device_that_is_not_in_the_book_are_not_found(process: Context, uid: str, act: str) -> None:
    acts: dict[str, Callable[[str, Fingerprint], Awaitable[None]]] = {
        "revoke": process.books.revoke,
        "remove": process.books.remove,
        "rename": lambda uid, fp: process.books.rename(uid, fp, "name"),
    }
    theirs = await verified(process, await process.books.enroll(STRANGER))
    for fp in (fingerprint(), theirs.fp):
        with pytest.raises(NotFound):
            await acts[act](uid, fp)


# Adding, renaming


async def test_a_device_that_was_entered_ahead_is_in_once_it_is_seen(process: Context, uid: str) -> None:
    device = a_device("what it calls itself")
    await process.books.add(uid, device.fp, "tablet", "lab")
    assert (await book_of(process, uid)).listed() == []
    assert await process.books.ask(uid, None, device) == "verified"
    book = await book_of(process, uid)
    assert (book.peers[device.fp].name, book.peers[device.fp].claim) == ("tablet", "none")
    assert (book.peers[device.fp].verified, book.requests) == (True, {})


async def test_a_device_that_was_entered_ahead_binds_its_claim_when_it_proves_it(process: Context, uid: str) -> None:
    device = a_device("what it calls itself", CERTIFICATE)
    await process.books.add(uid, device.fp, "tablet", "lab")
    assert await process.books.ask(uid, None, device) == "verified"
    assert (await book_of(process, uid)).peers[device.fp].state == "added"
    assert await admit(process, uid, device)
    peer = (await book_of(process, uid)).peers[device.fp]
    assert (peer.state, peer.claim, peer.proved) == ("verified", CERTIFICATE, True)


async def test_a_device_that_was_entered_ahead_may_come_straight_in(process: Context, uid: str) -> None:
    device = a_device()
    await process.books.ask(uid, None, device)
    await process.books.add(uid, device.fp, "tablet", "lab")
    assert await admit(process, uid, device)
    book = await book_of(process, uid)
    assert (book.verified(device.fp) is not None, book.requests, set(book.online)) == (True, {}, {device.fp})


async def test_a_device_is_entered_once(process: Context, uid: str) -> None:
    fp = fingerprint()
    await process.books.add(uid, fp, "tablet", "lab")
    with pytest.raises(AlreadyInBook):
        await process.books.add(uid, fp, "another name", "lab")
    with pytest.raises(NameTaken):
        await process.books.add(uid, fingerprint(), "Tablet", "lab")
    assert await names_in(process, uid) == ["tablet"]


async def test_a_device_that_was_only_entered_ahead_may_ask_after_its_removal(process: Context, uid: str) -> None:
    device = a_device()
    await process.books.add(uid, device.fp, "tablet", "lab")
    await process.books.remove(uid, device.fp)
    assert await process.books.ask(uid, None, device) == "asked"


async def test_a_name_can_be_spelled_anew_but_not_taken_from_another(process: Context, uid: str) -> None:
    laptop, _ = await verified(process, uid, "laptop"), await verified(process, uid, "phone")
    await process.books.rename(uid, laptop.fp, "Laptop")
    with pytest.raises(NameTaken):
        await process.books.rename(uid, laptop.fp, "PHONE")
    assert await names_in(process, uid) == ["Laptop", "phone"]


async def test_a_refused_act_changes_nothing(process: Context, uid: str) -> None:
    laptop, phone = await verified(process, uid, "laptop"), await verified(process, uid, "phone")
    before, listener = await book_of(process, uid), Listener()
    await held(process, uid, listener)
    acts: list[Awaitable[None]] = [
        process.books.rename(uid, laptop.fp, "phone"),
        process.books.add(uid, phone.fp, "tablet", "lab"),
        process.books.approve(uid, fingerprint()),
        process.books.reject(uid, laptop.fp),
        process.books.remove(uid, fingerprint()),
    ]
    for act in acts:
        with pytest.raises(PeerbookError):
            await act
    assert await book_of(process, uid) == before
    assert listener.heard_nothing


# The whole book


async def test_the_first_device_that_brings_an_invite_is_in_and_the_second_asks(process: Context, uid: str) -> None:
    digest = invite_digest(await process.books.invite(uid))
    first, second = (replace(a_device(name), invite=digest) for name in ("tablet", "thief"))
    assert await process.books.ask(uid, None, first) == "invited"
    assert await process.books.ask(uid, None, second) == "asked"
    assert await process.store.books_of(first.fp) == {uid}
    assert await names_in(process, uid) == ["tablet"]


async def test_an_invite_opens_only_the_book_it_was_made_for(process: Context, uid: str) -> None:
    invite = invite_digest(await process.books.invite(uid))
    other = await process.books.enroll(STRANGER)
    assert await process.books.ask(other, None, replace(a_device(), invite=invite)) == "asked"


async def test_imported_devices_are_entered_ahead_as_far_as_there_is_place(open_process: OpenProcess) -> None:
    process = await open_process(max_peers=3)
    uid = await process.books.enroll(OWNER)
    laptop = await verified(process, uid, "laptop")
    fps = [fingerprint() for _ in range(4)]
    peers = [(laptop.fp, "mine", "lab"), *((fp, "laptop", "lab") for fp in fps)]
    await process.books.import_peers(uid, peers)
    await process.books.import_peers(uid, peers[:2])
    book = await book_of(process, uid)
    assert set(book.peers) == {laptop.fp, *fps[:2]}
    assert [peer.name for peer in book.listed()] == ["laptop"]
    assert await names_in(process, uid) == ["laptop", "laptop 2", "laptop 3"]


async def test_where_proof_is_demanded_only_proved_connections_are_let_in(process: Context, uid: str) -> None:
    device, listener = await verified(process, uid), Listener()
    book = await held(process, uid, listener)
    await process.books.require_proof(uid, True)
    await listener.hear(lambda change: change.owner)
    assert book.owner.require_proof
    assert not await admit(process, uid, device)
    outcome, _ = await process.books.admit(uid, device.fp, CERTIFICATE, "c1", named=True, demanded=False)
    assert outcome == "proof changed"
    await process.books.require_proof(uid, False)
    assert await admit(process, uid, await verified(process, uid, "phone"))


async def test_nothing_is_left_of_a_deleted_account(open_process: OpenProcess, redis: Redis) -> None:
    here, there = await open_process(), await open_process()
    uid, listener = await here.books.enroll(OWNER), Listener()
    device = await verified(here, uid)
    await here.books.ask(uid, None, a_device("phone"))
    await here.books.invite(uid)
    await here.sessions.issue_link(uid, OWNER)
    book = await held(there, uid, listener)
    await here.books.erase(uid, OWNER)
    assert (await listener.hear(lambda change: device.fp in change.fps)).whole
    assert (book.peers, book.requests) == ({}, {})
    assert await redis.keys(f"*{uid}*") == []
    assert {str(key).partition(":")[0] for key in await redis.keys("*")} == {"process", "schema", "since"}


# Online


async def test_a_process_that_is_no_more_is_forgotten_once_however_many_come_at_once(
    process: Context, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await verified(process, uid)
    gone = {"fp": device.fp, "claim": device.claim, "named": True, "process": "gone", "connection": "c1"}
    assert (await process.store.run("admit", uid, gone)).outcome == "in"
    ran, run = list[str](), process.store.run

    def note(script: str, *arguments: Any) -> Any:
        ran.append(script)
        return run(script, *arguments)

    monkeypatch.setattr(process.store, "run", note)
    books = await asyncio.gather(*(process.books.hold(uid, Listener()) for _ in range(5)))
    assert sorted(ran) == ["forget", "load"]
    assert [book and book.online for book in books] == [{}] * 5


async def test_whoever_loads_a_book_takes_the_dead_from_those_who_are_told(process: Context, uid: str) -> None:
    await process.store.load(uid, "gone")
    await held(process, uid, Listener())
    report = await process.store.load(uid)
    assert report
    assert report.interested == {process.process}


async def test_the_newest_connection_is_the_one_that_is_online(open_process: OpenProcess) -> None:
    here, there = await open_process(), await open_process()
    uid = await here.books.enroll(OWNER)
    device = await verified(here, uid)
    assert await admit(here, uid, device, "first")
    assert await admit(there, uid, device, "second")
    await here.books.leave(uid, device.fp, "first")
    place = (await book_of(here, uid)).online[device.fp]
    assert (place.process, place.connection) == (there.process, "second")
    await there.books.leave(uid, device.fp, "second")
    book = await book_of(here, uid)
    assert book.online == {}
    assert book.peers[device.fp].last_seen > 0


@pytest.mark.parametrize("how", ["asks", "approved", "added"])
async def test_whoever_waits_for_a_fingerprint_anywhere_hears_when_it_is_in(
    open_process: OpenProcess, how: str
) -> None:
    here, there = await open_process(), await open_process()
    uid, device = await here.books.enroll(OWNER), a_device()
    found: asyncio.Queue[Found] = asyncio.Queue()
    there.bus.hear(Found, found.put_nowait)
    if how == "asks":
        await here.books.add(uid, device.fp, "tablet", "lab")
    assert await there.store.wait_for(device.fp, there.process, 60) == ({uid} if how == "asks" else set())
    if how == "added":
        await here.books.add(uid, device.fp, "tablet", "lab")
    else:
        await here.books.ask(uid, None, device)
    if how == "approved":
        await here.books.approve(uid, device.fp)
    assert await asyncio.wait_for(found.get(), SECONDS) == Found(device.fp, uid)


# Keys


async def test_no_script_touches_the_keys_of_two_users(open_process: OpenProcess, redis: Redis) -> None:
    process = await open_process(max_requests=2)
    uid, other = await process.books.enroll(OWNER), await process.books.enroll(STRANGER)
    async with redis.monitor() as monitor:
        for each in (uid, other):
            laptop, phone, tablet = await verified(process, each), await verified(process, each), a_device()
            for device in (tablet, a_device(), a_device()):
                await process.books.ask(each, None, device)
            await process.books.ask(each, None, tablet)
            await process.books.approve(each, tablet.fp, replaces=phone.fp)
            assert await admit(process, each, laptop)
            await process.books.leave(each, laptop.fp, "c1")
            await process.books.add(each, fingerprint(), "ahead", "lab")
            await process.books.rename(each, laptop.fp, "work")
            await process.books.revoke(each, laptop.fp)
            await process.books.remove(each, laptop.fp)
            await process.books.forget(each, "nobody")
            await redis.echo(f"end of {each}")
            seen = 0
            async for command in monitor.listen():
                if command["command"] == f"ECHO end of {each}":
                    break
                words = command["command"].split(" ")
                if command["client_type"] == "lua" and words[0].upper() != "TIME":
                    seen += 1
                    assert f"{{{each}}}" in words[1], command["command"]
            assert seen > 50


async def test_a_book_that_nobody_needs_any_more_is_not_read_anew(
    process: Context, uid: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was let go while it waited for its turn."""
    await process.books.hold(uid, lambda change: None)
    shelf = process.books._shelves[uid]
    for _ in range(books_module._LOADS_AT_ONCE):
        await process.books._loads.acquire()
    monkeypatch.setattr(process.store, "load", None)
    await redis.incr(f"version:{{{uid}}}")
    checking = asyncio.create_task(process.books.check())
    await eventually(lambda: process.books._loads.locked() and bool(process.books._loads._waiters))
    shelf.book = None
    for _ in range(books_module._LOADS_AT_ONCE):
        process.books._loads.release()
    await checking


async def test_where_the_store_is_another_one_every_book_is_read_anew_whatever_its_version(
    process: Context, uid: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came back from an older copy, and had counted to the same number again."""
    device = await verified(process, uid)
    book = await process.books.hold(uid, lambda change: None)
    await process.books.check()
    await redis.hset(f"peer:{{{uid}}}:{device.fp}", "state", "revoked")
    await process.books.check()
    assert book
    assert book.verified(device.fp), "nobody who keeps to the rules has changed it"

    async def another() -> str:
        return "another"

    monkeypatch.setattr(process.store, "run_name", another)
    monkeypatch.setattr(process.store, "versions", AsyncMock(side_effect=Unreachable))
    with pytest.raises(Unreachable):
        await process.books.check()
    monkeypatch.undo()
    monkeypatch.setattr(process.store, "run_name", another)
    await process.books.check()
    assert not book.verified(device.fp)
