"""A stranger may write my fingerprint into a book of his own: whenever he does what, he gets none of my connections.

My device asks, is approved, connects and names me, and connects and names nobody but proves itself. The stranger asks
for my fingerprint, enters it ahead, approves it, connects with it himself, or brings it by an invite of his own. In
whatever order that happens, my device hears what it hears without him, and he hears what he hears without me: byte for
byte, but for what differs from one try to the next anyway.
"""

import asyncio
import contextlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings

from app.claims import CERTIFICATE, NO_CLAIM
from app.context import Context
from app.errors import PeerbookError
from app.invites import invite_digest
from app.owners import OwnerName, Uid
from app.peers import Device, Fingerprint
from tests.keys import Certificate, Secret, new_certificate, new_secret
from tests.parts import OWNER, STRANGER, Listener, Socket, a_device, fingerprint, verified

ORIGIN = "http://book.test"
MINE = ("ask", "approve", "connect", "connect and name nobody")
HIS = ("asks", "adds", "approves", "connects", "invites")
IS_LONG = settings.get_current_profile_name() == "long"
AT_ONCE = 4 if IS_LONG else 2
"""How many of the stranger's acts there are in one order."""

_CHANGING = re.compile(r'"(nonce|pair|created_on|last_seen|verified_on)":("[^"]*"|[0-9]+)')


def orders(his: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every way to put these acts of his between mine, which stay in their order."""
    for places in itertools.combinations(range(len(MINE) + len(his)), len(his)):
        acts = iter(his), iter(MINE)
        yield tuple(next(acts[0] if place in places else acts[1]) for place in range(len(MINE) + len(his)))


@dataclass
class Try:
    """One fingerprint, and what he and I hear of it."""

    process: Context
    me: str
    stranger: str
    key: Certificate | Secret
    his_claim: str
    fp: Fingerprint = field(default_factory=fingerprint)
    mine: list[Any] = field(default_factory=list)
    his: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(self.key, Certificate):
            self.fp = self.key.fp

    async def play(self, acts: tuple[str, ...], tablet: Socket) -> "Try":
        """Do it all, hear it all, and leave both books as they were."""
        sockets: dict[str, list[Socket]] = {"mine": [], "his": [tablet]}
        page = Listener()
        await self.process.books.hold(self.stranger, page)
        for act in acts:
            whose = "his" if act in HIS else "mine"
            answers = self.his if act in HIS else self.mine
            try:
                answers.append(await (self._his if act in HIS else self._mine)(act, sockets[whose]))
            except PeerbookError as error:
                answers.append(error.members())
            await self._at_rest()
        await tablet.say({"target": self.fp, "offer": "is it here?"})
        self.his.append(page._changes.qsize())
        for whose, heard in (("mine", self.mine), ("his", self.his)):
            for socket in sockets[whose]:
                heard.append([self._same(socket._heard.get_nowait()) for _ in range(socket._heard.qsize())])
                heard.append(socket.closed.result() if socket.closed.done() else None)
        for socket in sockets["mine"] + sockets["his"][1:]:
            if not socket.closed.done():
                await socket.leave()
        self.process.books.release(self.stranger, page)
        for uid in (self.me, self.stranger):
            for clear in (self.process.books.remove, self.process.books.reject):
                with contextlib.suppress(PeerbookError):
                    await clear(uid, self.fp)
        await self._at_rest()
        tablet._heard = asyncio.Queue()
        return self

    def _same(self, frame: bytes) -> str:
        """What does not differ from one try to the next."""
        return _CHANGING.sub(r'"\1"', frame.decode().replace(self.fp, "this fingerprint"))

    async def _at_rest(self) -> None:
        while tasks := tuple(self.process.background._tasks):
            await asyncio.wait(tasks)

    async def _his(self, act: str, sockets: list[Socket]) -> Any:
        books, asking = self.process.books, self.process.asking
        device = a_device("his", self.his_claim, self.fp)
        match act:
            case "asks":
                return (await asking.ask(Uid(self.stranger), device, "verify")).verified
            case "adds":
                return await books.add(self.stranger, self.fp, "his", "lab")
            case "approves":
                return await books.approve(self.stranger, self.fp)
            case "connects":
                sockets.append(await Socket(self.process, device, Uid(self.stranger)).arrive())
            case "invites":
                code = await books.invite(self.stranger)
                device = replace(device, invite=invite_digest(code))
                return (await asking.ask(Uid(self.stranger), device, "verify")).verified

    async def _mine(self, act: str, sockets: list[Socket]) -> Any:
        device = a_device("mine", CERTIFICATE if isinstance(self.key, Certificate) else self.key.claim, self.fp)
        match act:
            case "ask":
                return (await self.process.asking.ask(OWNER, device, "verify")).verified
            case "approve":
                return await self.process.books.approve(self.me, self.fp)
            case "connect":
                return await self._connect(device, OWNER, sockets)
            case "connect and name nobody":
                return await self._connect(device, None, sockets)

    async def _connect(self, device: Device, owner: OwnerName | None, sockets: list[Socket]) -> bool:
        """Connect and prove it, and say whether it is in my book then. It is in no other, ever."""
        socket = await Socket(self.process, device, owner).arrive()
        sockets.append(socket)
        nonce = socket.connection.nonce
        proof = self.key.proof(ORIGIN, nonce) if isinstance(self.key, Certificate) else self.key.proof()
        await socket.say({"command": "prove"} | proof)
        await self._at_rest()
        assert socket.connection.book is None or socket.connection.book.uid == self.me
        return socket.connection.peer is not None


CASES = {
    "my certificate, and he asks with it": ("certificate", True),
    "my secret, and he asks with its hash": ("secret", True),
} | (
    {"my certificate, and he asks bare": ("certificate", False), "my secret, and he asks bare": ("secret", False)}
    if IS_LONG
    else {}
)


@pytest.mark.parametrize(("kind", "with_mine"), CASES.values(), ids=CASES)
async def test_a_stranger_neither_changes_nor_learns_anything(process: Context, kind: str, with_mine: bool) -> None:
    me, stranger = await process.books.enroll(OWNER), await process.books.enroll(STRANGER)
    tablet = await Socket(process, await verified(process, stranger, "tablet"), Uid(stranger)).come_in()

    async def play(*acts: str) -> Try:
        key = new_certificate() if kind == "certificate" else new_secret()
        claim = CERTIFICATE if isinstance(key, Certificate) else key.claim
        one = Try(process, me, stranger, key, claim if with_mine else NO_CLAIM)
        return await one.play(acts, tablet)

    without_him = (await play(*MINE)).mine
    assert without_him[:4] == [False, None, True, True]
    for his in itertools.permutations(HIS, AT_ONCE):
        without_me = (await play(*his)).his
        for acts in orders(his):
            both = await play(*acts)
            assert both.mine == without_him, acts
            assert both.his == without_me, acts
