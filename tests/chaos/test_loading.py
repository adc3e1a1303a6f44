"""A Book is loaded while events arrive: in whatever order all of it happens, the Book ends as the store has it."""

import asyncio
from collections.abc import Iterator
from itertools import permutations

import pytest

from app.book import Report
from app.context import Context
from tests.conftest import OpenProcess
from tests.parts import OWNER, Listener, verified
from tests.support import SECONDS

# One load: the store reads the book, then its answer comes. Two changes: the store makes each, then its event comes.
LOAD = ("read", "answer")
CHANGES = (("first", "first comes"), ("second", "second comes"))


def orders() -> Iterator[tuple[str, ...]]:
    """Every order in which nothing comes before it was made; the events may overtake each other."""
    steps = [*LOAD, *CHANGES[0], *CHANGES[1]]
    before = [LOAD, *CHANGES, ("first", "second")]
    for order in permutations(steps):
        if all(order.index(one) < order.index(other) for one, other in before):
            yield order


class Loading:
    """A process that loads a book, one step at a time, while another changes it."""

    def __init__(self, here: Context, there: Context, uid: str, fp: str) -> None:
        self.here = here
        self.there = there
        self.uid = uid
        self.fp = fp
        self.listener = Listener()
        self.reports: dict[str, Report] = {}
        self._load = there.store.load
        self._read: asyncio.Future[Report | None] = asyncio.get_running_loop().create_future()
        self._asked = asyncio.Event()
        self._loading: asyncio.Task[object] | None = None

    async def load(self, uid: str, process: str | None = None) -> Report | None:
        """In the place of the store's: the answer comes when its step does."""
        self._asked.set()
        return await self._read

    async def step(self, step: str) -> None:
        if step == "read":
            self._report = await self._load(self.uid, self.there.process)
        elif step == "answer":
            self._read.set_result(self._report)
            assert self._loading
            await asyncio.wait_for(self._loading, SECONDS)
        elif step.endswith(" comes"):
            self.there.books._follow(self.reports[step.removesuffix(" comes")])
        else:
            await self._change(step)

    async def _change(self, name: str) -> None:
        given = {"text": name, "fold": name, "stem": name, "stem_fold": name, "exact": True}
        report = (await self.here.store.run("rename", self.uid, {"fp": self.fp, "name": given})).report
        assert report
        self.reports[name] = report

    async def begin(self, monkeypatch: pytest.MonkeyPatch, *, anew: bool) -> None:
        """Begin to load: for the first time, or `anew`."""
        if anew:
            await self.there.books.hold(self.uid, self.listener)
        monkeypatch.setattr(self.there.store, "load", self.load)
        work = self.there.books._reload(self.there.books._shelves[self.uid]) if anew else self._hold()
        self._loading = asyncio.create_task(work)
        await asyncio.wait_for(self._asked.wait(), SECONDS)

    async def _hold(self) -> None:
        await self.there.books.hold(self.uid, self.listener)

    async def end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The Book is the store's, with no look at the store after the load."""
        monkeypatch.setattr(self.there.store, "load", self._load)
        shelf = self.there.books._shelves[self.uid]
        assert shelf.book == await self.here.books.read(self.uid)
        assert (shelf.pending, shelf.ahead, shelf.catch_up) == (None, {}, None)


@pytest.mark.parametrize("anew", [False, True])
async def test_a_book_that_loads_while_events_arrive_is_right_in_every_order(
    open_process: OpenProcess, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    here, there = await open_process(), await open_process()
    every = list(orders())
    assert len(every) == 45
    for number, order in enumerate(every):
        uid = await here.books.enroll(type(OWNER)(f"owner{number}@example.org"))
        device = await verified(here, uid)
        loading = Loading(here, there, uid, device.fp)
        await loading.begin(monkeypatch, anew=anew)
        for step in order:
            await loading.step(step)
        await loading.end(monkeypatch)
