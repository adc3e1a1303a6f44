"""A ground to play on: two processes on one store, by their rules without HTTP, and sockets of devices.

After each step, when both processes are at rest, what the sockets heard, the books in memory and the store must be as
tests/contract.py says.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvloop
from redis.asyncio import Redis

from app.addresses import Address
from app.book import Book
from app.bus import Changed, Deliver, Found
from app.context import Context
from app.errors import PeerbookError
from app.owners import NOBODY, OwnerName
from app.peers import Device, Fingerprint, request_id
from tests.contract import CERTIFICATE, REJECTED, REPLACED, Account, Refused, State, Visitor, World
from tests.keys import new_certificate
from tests.parts import Socket, a_device, new_context
from tests.support import SECONDS, Message

T = TypeVar("T")

ADDRESSES = (Address("you@example.org"), Address("stranger@example.org"))
CERTIFICATES = tuple(new_certificate() for _ in range(6))
FPS = tuple(each.fp for each in CERTIFICATES)

STORES_OWN = {"schema", "since"}
"""The keys that are nobody's."""

LASTING = {"process": "the lease of a process", "limit": "a count of asks or mails"}
"""The keys that may outlive an account, by their noun. They all end by themselves."""

numbers = itertools.count(1)


def proof_by(claim: str | None) -> str | None:
    """What the device is told to prove itself by."""
    return "secret" if claim not in (None, CERTIFICATE) else claim


def tag(owner: int) -> str:
    """How the names in that owner's book begin, and in no other."""
    return f"of {owner}"


class Line(Socket):
    """A socket with its visitor of the contract, and all that was sent to it since somebody looked."""

    def __init__(self, process: Context, device: Device, owner: OwnerName | None, visitor: Visitor) -> None:
        super().__init__(process, device, owner)
        self.visitor = visitor
        self.frames: list[Message] = []
        self.uid: str | None = None
        self.owner: Account | None = None
        self.asked: tuple[int, str, str] | None = None
        self.proof: str | None = None

    def _send(self, frame: bytes) -> bool:
        if self.closed.done():  # like a socket that is closing
            return False
        self.frames.append(json.loads(frame))
        return True

    def __repr__(self) -> str:
        visitor, account = self.visitor, self.visitor.account
        door = account.door(visitor) if account else None
        told = f"told={self.uid or self.proof} code={self.code}"
        return (
            f"{told} {visitor.state} due={visitor.due} looking={visitor.looking} named={visitor.named} {door} {account}"
        )

    def take(self) -> list[Message]:
        taken, self.frames = self.frames, []
        return taken

    @property
    def code(self) -> int | None:
        """The code with which it was closed."""
        return int(self.closed.result()) if self.closed.done() else None


class Truth:
    """The books as the store has them: what happened where more than one thing may."""

    def __init__(self, books: dict[str, Book], accounts: list[Account], lines: dict[Visitor, Line]) -> None:
        self.books = books
        self._accounts = accounts
        self._lines = lines

    def claim(self, account: Account, fp: str) -> str:
        return self.books[account.uid].peers[Fingerprint(fp)].claim

    def verified_on(self, account: Account, fp: str) -> int:
        return self.books[account.uid].peers[Fingerprint(fp)].verified_on

    def account(self, visitor: Visitor) -> Account | None:
        book = self._lines[visitor].connection.book
        return next((account for account in self._accounts if book and account.uid == book.uid), None)

    def state(self, visitor: Visitor) -> tuple[State, int | None, str | None]:
        line = self._lines[visitor]
        if line.code is not None:
            return "closed", line.code, None
        return ("in" if self.is_in(visitor) else "waiting"), None, line.connection.due

    def is_taken(self, account: Account, fp: str) -> bool:
        return fp in self.books[account.uid].online

    def is_in(self, visitor: Visitor) -> bool:
        line = self._lines[visitor]
        book = self.books.get(visitor.account.uid) if visitor.account else None
        place = book.online.get(line.fp) if book else None
        return place is not None and place.connection == line.connection.id


class Ground:
    """Both owners' accounts and all connections: as the contract has them in `world`, and as they are."""

    def __init__(self, store_url: str) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.world = World()
        self.lines: dict[Visitor, Line] = {}
        self.pairs: dict[tuple[int, str, str], str] = {}
        self.cookies: dict[str, tuple[Account, bool]] = {}
        self.uids: dict[str, int] = {}
        self.expected: dict[Line, list[Message]] = {}
        self.sound = True
        self.runner.run(self._open(store_url))

    async def _open(self, store_url: str) -> None:
        self.redis = Redis.from_url(store_url, decode_responses=True)
        await self.redis.flushall()
        self.processes = [new_context(store_url, max_requests=100, mail_interval=60) for _ in range(2)]
        self.probes = []
        for process in self.processes:
            process.absences._delay = 0
            await process.open()
            probe = Socket(process, a_device())
            process.connections.add(probe.connection)
            self.probes.append(probe)
        for owner in (0, 1):
            await self.log_in(owner, 0)
        await self._compare({})

    # Steps

    def step(self, real: Coroutine[Any, Any, T], contract: Callable[[], Any]) -> T | None:
        """Do it, and see that it is refused or done as the contract says, and so is all that follows."""
        listed = {account.uid: account.listed() for account in self.accounts()}
        self.sound = False
        try:
            contract()
            code = None
        except Refused as refused:
            code = refused.code
        answer = self.runner.run(self._do(real, code, listed))
        self.sound = True
        return answer

    async def _do(self, real: Coroutine[Any, Any, T], code: int | None, listed: dict[str, set[str]]) -> T | None:
        answer, refused = None, None
        try:
            answer = await real
        except PeerbookError as error:
            refused = error.code
        assert refused == code
        await self.at_rest()
        await self._compare(listed)
        return answer

    def accounts(self) -> Iterable[Account]:
        return self.world.accounts.values()

    async def at_rest(self) -> None:
        """Wait until both processes have done all that they began, and have heard all of each other."""
        async with asyncio.timeout(SECONDS):
            while True:
                while tasks := [task for process in self.processes for task in process.background._tasks]:
                    await asyncio.wait(tasks)
                for here, there in (self.processes, self.processes[::-1]):
                    await self._hear_out(here, there)
                if not any(process.background._tasks for process in self.processes) and await self._is_up_to_date():
                    return

    async def _hear_out(self, here: Context, there: Context) -> None:
        """Whatever `here` has sent to `there` was heard there when the answer to this comes back."""
        probe, number = self.probes[self.processes.index(here)], next(numbers)
        question = Deliver(NOBODY, probe.fp, "no connection", "{}", here.process, probe.connection.id, 0, number)
        here.bus.publish(there.process, question)
        await probe.hear(lambda heard: heard.get("id") == number)

    async def _is_up_to_date(self) -> bool:
        for process in self.processes:
            for uid, shelf in process.books._shelves.items():
                version = await self.redis.get(f"version:{{{uid}}}")
                if shelf.book and version and shelf.book.version != int(version):
                    return False
        return True

    @asynccontextmanager
    async def deaf(self, here: Context, other: Context) -> AsyncIterator[None]:
        """The other process does not hear what changes, and notices afterwards that there was a gap."""
        hear = dict(other.bus._hear)
        other.bus._hear |= {Changed: lambda event: None, Found: lambda event: None}
        try:
            yield
            await self._hear_out(here, other)
        finally:
            other.bus._hear = hear
        await other.presence._renew()

    # Comparing

    async def _compare(self, listed: dict[str, set[str]]) -> None:
        loaded = [(account.uid, await self.processes[0].books.read(account.uid)) for account in self.accounts()]
        books = {uid: book for uid, book in loaded if book}
        self.world.settle(Truth(books, list(self.accounts()), self.lines))
        heard = listed | {each.uid: listed.get(each.uid, set()) | each.listed() for each in self.accounts()}
        for line in self.lines.values():
            self._check_line(line, heard)
        for account in self.accounts():
            self._check_book(account, books[account.uid])
        self._check_memory(books)
        await self._check_indexes()
        self.lines = {line.visitor: line for line in self.lines.values() if line.visitor.state != "closed"}

    def _check_line(self, line: Line, heard: dict[str, set[str]]) -> None:
        visitor, was_in, frames = line.visitor, line.uid is not None, line.take()
        assert line.code == visitor.code
        for frame in frames:
            if "id" in frame:
                continue
            if frame.get("code") in (200, 401):
                self._check_status(line, frame)
            elif "peers" in frame:
                assert frame["uid"] == line.uid
                self._check_names(frame["uid"], heard, {peer["fp"]: peer["name"] for peer in frame["peers"]})
            elif "peer_update" in frame:
                assert line.uid
                self._check_names(line.uid, heard, {frame["source_fp"]: frame["peer_update"]["name"]})
            else:
                assert line.uid
                self.expected[line].remove(frame)
        assert not self.expected.get(line), "it was not delivered"
        self.expected.pop(line, None)
        if visitor.code == REJECTED and was_in:
            assert all("code" in frame for frame in frames), "one that is shut out hears no more"
        if visitor.state != "closed":
            inside = visitor.account if visitor.state == "in" else None
            assert line.uid == (inside.uid if inside else None), line
            assert line.connection.named is visitor.named
            if visitor.state == "waiting":
                assert line.proof == (proof_by(visitor.due)), line
        if line.uid and line.owner:
            assert line.uid == line.owner.uid, "one that names its owner is in no other book"

    def _check_status(self, line: Line, frame: Message) -> None:
        if frame["code"] == 200:
            assert line.uid is None, "it is welcomed once"
            was_in = line.visitor.state == "in" or line.visitor.code == REPLACED or line.visitor.raced
            assert was_in, "it is welcomed where it belongs only"
            line.uid = frame["text"]
        else:
            line.uid, line.proof = None, frame.get("proof")
            if "pair" in frame:
                assert line.visitor.named
            if line.asked and "pair" in frame:
                assert self.pairs.setdefault(line.asked, frame["pair"]) == frame["pair"]

    def _check_names(self, uid: str, heard: dict[str, set[str]], names: dict[str, str]) -> None:
        """These are told in the book of that uid."""
        assert names.keys() <= heard[uid]
        assert all(name.startswith(tag(self.uids[uid])) for name in names.values())

    def _check_book(self, account: Account, book: Book) -> None:
        peers = {fp: (peer.state, peer.claim, peer.proved) for fp, peer in book.peers.items()}
        assert peers == {fp: (entry.state, entry.claim, entry.proved) for fp, entry in account.entries.items()}
        assert all(peer.name.startswith(tag(account.owner)) for peer in book.peers.values())
        questions = {(each.fp, each.claim, each.asked_as) for each in account.questions}
        assert {(each.fp, each.claim, each.asked_as) for each in book.requests.values()} == questions
        assert book.denied.keys() == {request_id(Fingerprint(fp), claim) for fp, claim in account.denied}
        assert book.owner.require_proof == account.demanded
        online = {fp: self.lines[visitor] for fp, visitor in account.online.items()}
        assert {fp: (place.process, place.connection) for fp, place in book.online.items()} == {
            fp: (line.process.process, line.connection.id) for fp, line in online.items()
        }
        for line in online.values():
            assert line.connection in tuple(line.process.connections)

    def _check_memory(self, books: dict[str, Book]) -> None:
        for process in self.processes:
            for uid, shelf in process.books._shelves.items():
                if shelf.book and uid in books:
                    assert shelf.book == books[uid]
                elif shelf.book:
                    assert (shelf.book.peers, shelf.book.online, shelf.book.requests) == ({}, {}, {})

    async def _check_indexes(self) -> None:
        pipeline = self.redis.pipeline(transaction=False)
        for fp in FPS:
            pipeline.zrange(f"books:{fp[:32]}", 0, -1)
            pipeline.smembers(f"wait:{fp}")
        answers = await pipeline.execute()
        for fp, books, waiting in zip(FPS, answers[::2], answers[1::2], strict=True):
            entries = {account.uid: account.entries.get(fp) for account in self.accounts()}
            assert set(books) == {uid for uid, entry in entries.items() if entry and entry.state != "revoked"}
            looking = [self.lines[visitor] for visitor in self.world.here() if visitor.looking and visitor.fp == fp]
            assert waiting == {line.process.process for line in looking}

    def check_sessions(self) -> None:
        """Each session opens the book of its owner until that is signed out everywhere, or deleted."""
        for cookie, (account, is_good) in self.cookies.items():
            visit = self.runner.run(self.processes[0].sessions.visit(cookie, prolong=False))
            assert (visit.book.uid if visit else None) == (account.uid if is_good else None)

    async def check_remains(self) -> None:
        for key in set(map(str, await self.redis.keys("*"))) - STORES_OWN:
            noun, _, rest = key.partition(":")
            assert noun in LASTING, key
            assert await self.redis.ttl(key) > 0, key
            assert not any(uid in rest for uid in self.uids), key
            assert str(await self.redis.get(key)).isdigit(), key

    # Accounts begin with a login, or with the first ask

    def begin(self, owner: int) -> Account:
        account = self.world.accounts[owner] = Account(owner, f"new {next(numbers)}")
        return account

    async def learn_uid(self, owner: int) -> None:
        account = self.world.accounts.get(owner)
        if account and account.uid.startswith("new"):
            uid = await self.processes[0].store.uid_of(ADDRESSES[owner])
            assert uid
            assert uid not in self.uids, "a new account has a uid of its own"
            account.uid = uid
            self.uids[uid] = owner

    async def log_in(self, owner: int, process: int) -> None:
        context, address = self.processes[process], ADDRESSES[owner]
        uid = await context.books.enroll(address)
        account = self.world.accounts.get(owner) or self.begin(owner)
        await self.learn_uid(owner)
        assert account.uid == uid
        link = await context.sessions.issue_link(uid, address)
        login = await context.sessions.redeem_link(link.url.rpartition("/")[2], None, "a browser")
        account.settled = True
        self.cookies[login.cookie] = (account, True)

    async def close(self) -> None:
        for process in self.processes:
            await process.close()
        await self.redis.aclose()
