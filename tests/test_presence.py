"""Presence in trouble: nobody is online who is not here, nobody is stuck half in, and the lease is kept."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from app import books as books_module
from app import presence as presence_module
from app.context import Context
from app.errors import Unreachable
from tests.conftest import OpenProcess
from tests.parts import OWNER, Socket, a_device, verified
from tests.support import SECONDS, eventually
from tests.test_books import Gate, book_of


@pytest.fixture
async def uid(process: Context) -> str:
    """The owner's book, which is empty."""
    return await process.books.enroll(OWNER)


@pytest.mark.parametrize("ends", [False, True])
async def test_an_arrival_that_is_done_and_unanswered_makes_no_ghost(
    process: Context, uid: str, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    monkeypatch.setattr(books_module, "_KEEP_SECONDS", 0.0)
    device = await verified(process, uid)
    run = process.store.run
    socket = Socket(process, device, OWNER)

    async def unanswered(script: str, uid: str, given: Any) -> Any:
        if script == "leave":
            raise Unreachable
        answer = await run(script, uid, given)
        if script == "admit" and ends:
            await socket.leave()
        elif script == "admit":
            raise Unreachable
        return answer

    monkeypatch.setattr(process.store, "run", unanswered)
    await socket.arrive()
    await eventually(lambda: not process.background._tasks and not process.books._shelves)
    assert device.fp in (await book_of(process, uid)).online
    monkeypatch.setattr(process.store, "run", run)
    await process.presence._refresh()
    assert (await book_of(process, uid)).online == {}


async def test_who_waits_and_could_not_be_let_in_is_let_in_by_the_next_look(
    process: Context, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = await Socket(process, a_device()).arrive()
    assert (await socket.hear())["code"] == 401
    await process.books.ask(uid, None, socket.connection.device)
    admit, tries = process.books.admit, list[str]()

    async def fail_once(*given: Any, **options: Any) -> Any:
        tries.append("")
        if len(tries) == 1:
            raise Unreachable
        return await admit(*given, **options)

    monkeypatch.setattr(process.books, "admit", fail_once)
    await process.books.approve(uid, socket.fp)
    await eventually(lambda: bool(tries) and not process.background._tasks)
    await process.presence._refresh()
    assert (await socket.hear())["code"] == 200
    await process.presence._refresh()
    assert socket.fp in (await book_of(process, uid)).online
    await eventually(lambda: not process.background._tasks)
    assert len(tries) == 2


async def test_who_left_while_it_was_counted_is_not_kept(process: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, process.throttle, "ask")
    socket = Socket(process, a_device())
    arriving = asyncio.create_task(socket.arrive())
    await gate.reached.wait()
    await socket.leave()
    gate.open()
    await arriving
    assert not process.connections._unnamed


async def test_the_lease_is_kept_however_long_it_takes_to_look_at_the_store(
    process: Context, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "_REFRESH_SECONDS", 0.01)
    gate = Gate(monkeypatch, process.store, "living")
    await process.presence.open()  # again, with quick turns
    await gate.reached.wait()
    await redis.delete(f"process:{process.process}")
    async with asyncio.timeout(SECONDS):
        while not await redis.exists(f"process:{process.process}"):  # noqa: ASYNC110 - it has to be asked for
            await asyncio.sleep(0.01)
    gate.open()


async def test_after_a_store_came_back_empty_more_than_may_ask_at_once_wait_for_their_turn(
    open_process: OpenProcess, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await open_process(ask_rate=2)
    uid = await process.books.enroll(OWNER)
    sockets = [await Socket(process, await verified(process, uid, f"device {n}"), OWNER).come_in() for n in range(4)]
    count = process.store.count

    async def soon(what: str, seconds: int) -> tuple[int, int]:
        return (await count(what, seconds))[0], 0  # the minute is about to be over

    monkeypatch.setattr(process.store, "count", soon)
    await redis.flushall()
    await process.books.check()
    for socket in sockets:
        assert (await socket.hear())["code"] == 401
    process.throttle._rate = 0
    fps = {socket.fp for socket in sockets}
    for socket in sockets:
        await eventually(lambda socket=socket: asked_for(socket) == fps)  # type: ignore[misc]
    assert not any(socket.closed.done() for socket in sockets)


def asked_for(socket: Socket) -> set[str]:
    """Who asks to enter the book in which the socket waits."""
    book = socket.connection.book
    return {request.fp for request in book.requests.values()} if book else set()
