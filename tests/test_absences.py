"""Absences: that a peer left is told late, or never when it came back."""

import asyncio

from app.absences import Absences
from app.book import Update
from app.peers import Fingerprint
from tests.support import SECONDS

PHONE, LAPTOP = Fingerprint("B2" * 32), Fingerprint("A1" * 32)
LEFT = Update(PHONE, "phone", True, False, only_presence=True)
CAME = Update(PHONE, "phone", True, True, only_presence=True)
RENAMED = Update(PHONE, "my phone", True, False, renamed=True)
REVOKED = Update(PHONE, "phone", False, False)

SOON, NEVER = 0.01, 3600.0


class Told:
    """What was told later."""

    def __init__(self) -> None:
        self._updates: asyncio.Queue[Update] = asyncio.Queue()

    def __call__(self, update: Update) -> None:
        self._updates.put_nowait(update)

    async def next(self) -> Update:
        return await asyncio.wait_for(self._updates.get(), SECONDS)

    @property
    def nothing(self) -> bool:
        return self._updates.empty()


async def test_an_absence_is_told_after_a_while() -> None:
    told = Told()
    assert Absences(SOON).sift("u1", [LEFT], told) == ()
    assert told.nothing
    assert await told.next() == LEFT


async def test_a_peer_that_comes_back_in_time_was_never_away() -> None:
    absences, told = Absences(SOON), Told()
    absences.sift("u1", [LEFT], told)
    absences.sift("u1", [CAME], told)
    other = Update(LAPTOP, "laptop", True, False, only_presence=True)
    absences.sift("u1", [other], told)
    assert await told.next() == other
    assert told.nothing


async def test_a_return_is_told_at_once_to_those_who_read_the_list_meanwhile() -> None:
    absences, told = Absences(NEVER), Told()
    absences.sift("u1", [LEFT], told)
    assert absences.sift("u1", [CAME], told) == (CAME,)


async def test_a_peer_that_comes_is_told_at_once() -> None:
    assert Absences(NEVER).sift("u1", [CAME], Told()) == (CAME,)


async def test_whatever_else_happens_to_a_peer_is_told_at_once_and_says_it_left() -> None:
    for update in (RENAMED, REVOKED):
        absences, told = Absences(SOON), Told()
        absences.sift("u1", [LEFT], told)
        assert absences.sift("u1", [update], told) == (update,)
        other = Update(LAPTOP, "laptop", True, False, only_presence=True)
        absences.sift("u1", [other], told)
        assert await told.next() == other
        assert told.nothing


async def test_a_second_absence_starts_the_while_anew() -> None:
    absences, told = Absences(SOON), Told()
    absences.sift("u1", [LEFT], told)
    absences.sift("u1", [LEFT], told)
    assert await told.next() == LEFT
    assert told.nothing


async def test_one_fingerprint_in_two_books_is_two_peers() -> None:
    absences, told = Absences(SOON), Told()
    absences.sift("u1", [LEFT], told)
    assert absences.sift("u2", [CAME], told) == (CAME,)
    assert await told.next() == LEFT
