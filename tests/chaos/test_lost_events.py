"""An event is lost, whichever it is: both processes and every socket are right again by the next look at the store."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app import presence as presence_module
from app.bus import Changed, Event, Found
from app.context import Context
from tests.chaos.world import LONG, until
from tests.conftest import OpenProcess
from tests.parts import OWNER, Socket, a_device, verified
from tests.support import eventually

HEALED = 10.0


class Losing:
    """Loses the next event of a kind that a process sends to another."""

    def __init__(self, process: Context, kind: type[Event], monkeypatch: pytest.MonkeyPatch) -> None:
        self.lost: list[Event] = []
        self._kind = kind
        self._post = process.bus._post
        monkeypatch.setattr(process.bus, "_post", self._lose)

    def _lose(self, process: str, event: Event, sent: Callable[[int | None], None] | None) -> None:
        if isinstance(event, self._kind) and not self.lost:
            self.lost.append(event)
        else:
            self._post(process, event, sent)


class Pair:
    """A book in two processes: a laptop that is in here, a phone that is in there, and a device that knocks there."""

    def __init__(self, here: Context, there: Context) -> None:
        self.here = here
        self.there = there

    async def build(self) -> "Pair":
        self.uid = await self.here.books.enroll(OWNER)
        self.laptop = await Socket(self.here, await verified(self.here, self.uid, "laptop"), OWNER).come_in()
        self.phone = await Socket(self.there, await verified(self.here, self.uid, "phone"), OWNER).come_in()
        self.new = a_device("new")
        self.knocking = await Socket(self.there, self.new, OWNER).arrive()
        assert (await self.knocking.hear())["code"] == 401
        await self.agree()
        return self

    async def agree(self) -> None:
        """Wait until both processes hold the book as the store has it."""
        async with asyncio.timeout(60):
            while not await self._agrees():  # noqa: ASYNC110 - of the store it has to be asked
                await asyncio.sleep(0.02)

    async def _agrees(self) -> bool:
        truth = await self.here.books.read(self.uid)
        return all(process.books._shelves[self.uid].book == truth for process in (self.here, self.there))


@pytest.fixture
async def pair(open_process: OpenProcess, monkeypatch: pytest.MonkeyPatch) -> Pair:
    if not LONG:
        monkeypatch.setattr(presence_module, "_REFRESH_SECONDS", 0.3)
    return await Pair(await open_process(), await open_process()).build()


async def heals(pair: Pair, right: Callable[[], bool]) -> None:
    took = await until(right)
    await pair.agree()
    assert not LONG or took <= HEALED


async def test_a_lost_approval_lets_in_who_waits(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    losing = Losing(pair.here, Changed, monkeypatch)
    await pair.here.books.approve(pair.uid, pair.new.fp)
    assert losing.lost
    await heals(pair, lambda: pair.knocking.connection.peer is not None)
    assert (await pair.knocking.hear())["code"] == 200


async def test_a_lost_approval_lets_in_who_waits_and_names_nobody(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = await Socket(pair.there, a_device("stranger")).arrive()
    assert (await stranger.hear())["code"] == 401
    await pair.here.books.ask(pair.uid, None, stranger.connection.device)
    losing = Losing(pair.here, Found, monkeypatch)
    await pair.here.books.approve(pair.uid, stranger.fp)
    assert losing.lost
    await heals(pair, lambda: stranger.connection.peer is not None)


async def test_a_lost_revocation_closes_the_socket(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    losing = Losing(pair.here, Changed, monkeypatch)
    await pair.here.books.revoke(pair.uid, pair.phone.fp)
    assert losing.lost
    await heals(pair, pair.phone.closed.done)
    assert pair.phone.closed.result() == 4403


async def test_a_lost_rejection_closes_who_waits(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    losing = Losing(pair.here, Changed, monkeypatch)
    await pair.here.books.reject(pair.uid, pair.new.fp)
    assert losing.lost
    await heals(pair, pair.knocking.closed.done)
    assert pair.knocking.closed.result() == 4403


async def test_a_lost_renaming_is_told(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    losing = Losing(pair.here, Changed, monkeypatch)
    await pair.here.books.rename(pair.uid, pair.laptop.fp, "old faithful")
    assert losing.lost
    await heals(pair, lambda: pair.laptop.connection.peer is not None)
    told = await pair.phone.hear(lambda heard: heard.get("peer_update", {}).get("name") == "old faithful")
    assert told["source_fp"] == pair.laptop.fp


async def test_a_lost_arrival_is_told(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    device = await verified(pair.here, pair.uid, "tablet")
    await pair.agree()
    losing = Losing(pair.here, Changed, monkeypatch)
    tablet = await Socket(pair.here, device, OWNER).come_in()
    assert losing.lost
    await heals(pair, lambda: True)
    assert (await pair.phone.ask({"target": tablet.fp, "offer": "o"}))["code"] == 200


async def test_a_lost_departure_makes_no_ghost(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    losing = Losing(pair.here, Changed, monkeypatch)
    await pair.laptop.leave()
    assert losing.lost
    await heals(pair, lambda: True)
    assert (await pair.phone.ask({"target": pair.laptop.fp, "offer": "o"}))["code"] == 410


async def test_a_lost_change_of_places_ends_the_older_connection(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    losing = Losing(pair.here, Changed, monkeypatch)
    newer = await Socket(pair.here, pair.phone.connection.device, OWNER).come_in()
    assert losing.lost
    await heals(pair, pair.phone.closed.done)
    assert pair.phone.closed.result() == 4409
    assert newer.connection.peer


@pytest.mark.parametrize("act", ["approve", "revoke", "rename", "leave"])
async def test_an_event_that_is_lost_with_the_writer_is_made_up_for(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """It leaves, and the store never takes it."""
    acts: dict[str, Callable[[], Awaitable[None]]] = {
        "approve": lambda: pair.here.books.approve(pair.uid, pair.new.fp),
        "revoke": lambda: pair.here.books.revoke(pair.uid, pair.phone.fp),
        "rename": lambda: pair.here.books.rename(pair.uid, pair.phone.fp, "other"),
        "leave": pair.laptop.leave,
    }
    writes = []
    pipeline = pair.here.bus._writer.pipeline

    def broken(**options: Any) -> Any:
        writes.append(act)
        if len(writes) == 1:
            raise ConnectionResetError
        return pipeline(**options)

    monkeypatch.setattr(pair.here.bus._writer, "pipeline", broken)
    await acts[act]()
    await eventually(lambda: bool(writes))
    await heals(pair, lambda: True)


async def test_a_process_that_is_taken_for_dead_hears_of_it_and_its_peers_are_back_at_once(pair: Pair) -> None:
    await pair.here.books.forget(pair.uid, pair.there.process)
    book = pair.here.books._shelves[pair.uid].book
    assert book
    await eventually(lambda: pair.phone.fp in book.online)
    assert book.online[pair.phone.fp].connection == pair.phone.connection.id
    # It hears of the next change like before.
    await pair.here.books.revoke(pair.uid, pair.phone.fp)
    assert await asyncio.wait_for(pair.phone.closed, HEALED) == 4403


async def test_a_process_that_was_taken_for_dead_displaces_nobody(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its peer came back elsewhere, and it has heard only that it was forgotten."""
    sent: list[Event] = []
    post = pair.here.bus._post

    def hold_back(process: str, event: Event, answered: Callable[[int | None], None] | None) -> None:
        if isinstance(event, Changed):
            sent.append(event)
        else:
            post(process, event, answered)

    monkeypatch.setattr(pair.here.bus, "_post", hold_back)
    await pair.here.books.forget(pair.uid, pair.there.process)
    newer = await Socket(pair.here, pair.phone.connection.device, OWNER).come_in()
    monkeypatch.undo()
    pair.here.bus._post(pair.there.process, sent[0], None)
    await heals(pair, pair.phone.closed.done)
    assert pair.phone.closed.result() == 4409
    assert not newer.closed.done()
