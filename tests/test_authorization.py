"""Authorization as a state machine: whatever devices and owners do in whatever order, nobody gets in who does not belong.

Two owners, six devices of which each owner wants four, and two processes on one store, by their rules without HTTP.
After each step, when both processes are at rest, the sockets, the books in memory and the store must be as
tests/contract.py says. `make fuzz` lets it run for long, with other steps each time.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from redis.asyncio import Redis

from app.addresses import Address
from app.book import Book
from app.bus import Changed, Deliver, Found
from app.context import Context
from app.errors import LinkGone, PeerbookError
from app.invites import invite_digest
from app.owners import NOBODY, OwnerName, Uid
from app.peers import Device, Fingerprint, request_id
from tests.contract import (
    CERTIFICATE,
    MOST_FAILURES,
    NONE,
    NOT_PROVED,
    REJECTED,
    REPLACED,
    Account,
    Question,
    Refused,
    State,
    Visitor,
    World,
)
from tests.keys import Secret, new_certificate, new_secret
from tests.parts import Socket, a_device, new_context
from tests.support import SECONDS, Message

T = TypeVar("T")

ADDRESSES = (Address("you@example.org"), Address("stranger@example.org"))
CERTIFICATES = tuple(new_certificate() for _ in range(6))
FPS = tuple(each.fp for each in CERTIFICATES)
WANTED = (FPS[:4], FPS[2:])
"""Each owner's devices; two of them are wanted by both."""

OTHER_KEY = new_certificate()
SECRETS = (new_secret(), new_secret())
CLAIMS = (NONE, CERTIFICATE, *(secret.claim for secret in SECRETS))
FITTING = "the claim that the owner's book has for this fingerprint"
ORIGIN = "http://book.test"
MOST_LINES = 10
PROOFS = {CERTIFICATE: "certificate"}
ANY = 6
"""A pick from here on is any connection or fingerprint, and below it mostly one that fits the rule."""

LASTING = {"process": "the lease of a process", "limit": "a count of asks or mails"}
"""The keys that may outlive an account, by their noun. They all end by themselves."""

SHORT = settings(
    max_examples=60, stateful_step_count=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
LONG = "long"
"""The profile of `make fuzz`."""

_numbers = itertools.count(1)

owners = st.sampled_from((0, 1))
processes = st.sampled_from((0, 1))
fps = st.sampled_from((2, 2, 3, 3, 0, 1, 4, 5))
claims = st.sampled_from((*CLAIMS, FITTING, FITTING, FITTING))
picks = st.integers(0, 7)


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


class Authorization(RuleBasedStateMachine):
    """Every act of devices and owners."""

    def __init__(self, store_url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.world = World()
        self.lines: dict[Visitor, Line] = {}
        self.pairs: dict[tuple[int, str, str], str] = {}
        self.codes: dict[str, tuple[int, str]] = {}
        self.cookies: dict[str, tuple[Account, bool]] = {}
        self.uids: dict[str, int] = {}
        self.claims: dict[tuple[str, str], str] = {}
        self.expected: dict[Line, list[Message]] = {}
        self.sound = True
        self.runner.run(self._open(store_url))

    async def _open(self, store_url: str) -> None:
        self.redis = Redis.from_url(store_url, decode_responses=True)
        await self.redis.flushall()
        self.processes = [new_context(store_url, max_requests=100) for _ in range(2)]
        self.probes = []
        for process in self.processes:
            process.absences._delay = 0
            await process.open()
            probe = Socket(process, a_device())
            process.connections.add(probe.connection)
            self.probes.append(probe)
        for owner in (0, 1):
            await self._log_in(owner, 0)
        await self._compare({})

    # Steps

    def _step(self, real: Coroutine[Any, Any, T], contract: Callable[[], Any]) -> T | None:
        """Do it, and see that it is refused or done as the contract says, and so is all that follows."""
        listed = {account.uid: account.listed() for account in self._accounts()}
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
        answer: T | None = None
        try:
            answer = await real
        except PeerbookError as error:
            refused: int | None = error.code
        else:
            refused = None
        assert refused == code
        await self._at_rest()
        await self._compare(listed)
        return answer

    def _accounts(self) -> Iterator[Account]:
        yield from self.world.accounts.values()

    def _is_settled(self, owner: int) -> bool:
        return owner in self.world.accounts and self.world.accounts[owner].settled

    def _pick_line(self, pick: int, wanted: Callable[[Visitor], object] = lambda visitor: True) -> Line | None:
        """An open connection, mostly one that is wanted."""
        here = self.world.here()
        some = [visitor for visitor in here if wanted(visitor)]
        if some and pick < ANY:
            here = some
        return self.lines[here[pick % len(here)]] if here else None

    def _fitting(self, claim: str, owner: int, fp: str) -> str:
        account = self.world.accounts.get(owner)
        entry = account.entries.get(fp) if account else None
        return claim if claim != FITTING else entry.claim if entry else NONE

    def _pick_uid(self, pick: int) -> str:
        """One that was never anybody's, or is nobody's any more."""
        alive = {account.uid for account in self._accounts()}
        gone = [uid for uid in self.uids if uid not in alive]
        return [NOBODY, *gone][pick % (1 + len(gone))]

    def _pick_known(self, account: Account | None, pick: int) -> str | None:
        """One pick of two: a fingerprint of that book."""
        known = list(account.entries) if account and pick % 2 else []
        return known[pick % len(known)] if known else None

    def _pick_invite(self, pick: int) -> str | None:
        return list(self.codes)[pick % len(self.codes)] if self.codes else None

    def _pick_question(self, owner: int, pick: int) -> Question | None:
        questions = self.world.accounts[owner].questions
        return questions[pick % len(questions)] if questions and pick < ANY else None

    async def _at_rest(self) -> None:
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
        probe, number = self.probes[self.processes.index(here)], next(_numbers)
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

    # Comparing

    async def _compare(self, listed: dict[str, set[str]]) -> None:
        loaded = [(account.uid, await self.processes[0].books.read(account.uid)) for account in self._accounts()]
        books = {uid: book for uid, book in loaded if book}
        self.world.settle(Truth(books, list(self._accounts()), self.lines))
        heard = listed | {each.uid: listed.get(each.uid, set()) | each.listed() for each in self._accounts()}
        for line in self.lines.values():
            self._check_line(line, heard)
        for account in self._accounts():
            self._check_book(account, books[account.uid])
        self._check_memory(books)
        await self._check_indexes()
        await self._check_sessions()
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
                assert line.proof == (PROOFS.get(visitor.due, "secret") if visitor.due else None), line
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
        assert all(name.startswith(_tag(self.uids[uid])) for name in names.values())

    def _check_book(self, account: Account, book: Book) -> None:
        peers = {fp: (peer.state, peer.claim, peer.proved) for fp, peer in book.peers.items()}
        assert peers == {fp: (entry.state, entry.claim, entry.proved) for fp, entry in account.entries.items()}
        assert all(peer.name.startswith(_tag(account.owner)) for peer in book.peers.values())
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
            pipeline.smembers(f"books:{fp}")
            pipeline.smembers(f"wait:{fp}")
        answers = await pipeline.execute()
        for fp, books, waiting in zip(FPS, answers[::2], answers[1::2], strict=True):
            entries = {account.uid: account.entries.get(fp) for account in self._accounts()}
            assert books == {uid for uid, entry in entries.items() if entry and entry.state != "revoked"}
            looking = [self.lines[visitor] for visitor in self.world.here() if visitor.looking and visitor.fp == fp]
            assert waiting == {line.process.process for line in looking}

    async def _check_sessions(self) -> None:
        for cookie, (account, is_good) in self.cookies.items():
            visit = await self.processes[0].sessions.visit(cookie, prolong=False)
            assert (visit.book.uid if visit else None) == (account.uid if is_good else None)

    # Devices

    @initialize(first=claims, second=claims, third=claims, fourth=claims, fifth=claims)
    def furnish(self, first: str, second: str, third: str, fourth: str, fifth: str) -> None:
        """Both have devices, one of them has a device that the other wants too, and one is not let in yet."""
        self.join(process=0, fp=0, claim=first, owner=0)
        self.join(process=1, fp=2, claim=second, owner=0)
        self.join(process=1, fp=3, claim=third, owner=1)
        self.join(process=0, fp=4, claim=fourth, owner=1)
        self.ask(process=0, owner=1, fp=2, claim=fifth, by_uid=False, pick=ANY, invited=False)
        self._invite(0, 0)

    @rule(
        process=processes,
        device=fps,
        claim=claims,
        naming=st.sampled_from(("address", "uid", "nobody")),
        owner=owners,
        pick=picks,
        invited=st.booleans(),
    )
    def connect(self, process: int, device: int, claim: str, naming: str, owner: int, pick: int, invited: bool) -> None:
        if len(self.world.here()) >= MOST_LINES:
            return
        invite = self._pick_invite(pick) if invited else None
        account = self.world.accounts.get(owner)
        fp = self._pick_known(account, pick) or FPS[device]
        claim = self._fitting(claim, owner, fp)
        uid = account.uid if account else self._pick_uid(pick)
        namings: dict[str, OwnerName | None] = {"address": ADDRESSES[owner], "uid": Uid(uid), "nobody": None}
        names = namings[naming]
        if account is None and naming == "address":
            account = self._begin(owner)
        giver = self.codes[invite][0] if invite and not names else owner
        line = self._new_line(self.processes[process], fp, claim, names, giver, invite)
        self._step(self._arrive(line, owner), partial(self._arrives, line, account, invite))

    def _new_line(
        self, process: Context, fp: str, claim: str, names: OwnerName | None, owner: int, invite: str | None = None
    ) -> Line:
        """A socket that is not there yet, of a device that calls itself like one of that owner."""

        async def make() -> Line:
            device = Device(
                Fingerprint(fp), claim, f"{_tag(owner)} device", "lab", "203.0.113.x", invite_digest(invite)
            )
            return Line(process, device, names, Visitor(fp, claim, named=names is not None))

        line = self.runner.run(make())
        self.lines[line.visitor] = line
        self.world.visitors.append(line.visitor)
        if names:
            line.owner = self.world.accounts.get(owner)
            line.asked = (owner, fp, claim) if line.owner else None
        return line

    async def _arrive(self, line: Line, owner: int) -> None:
        await line.arrive()
        await self._learn_uid(owner)

    def _arrives(self, line: Line, account: Account | None, invite: str | None) -> None:
        visitor = line.visitor
        if not visitor.named:
            giver = next((each for each in self._accounts() if invite and self.codes[invite][1] == each.uid), None)
            visitor.looking = visitor.awake = True
            if giver and giver.ask(visitor.fp, visitor.claim, invite, may_ask=False) in ("verified", "invited"):
                visitor.account, visitor.named, visitor.looking = giver, True, False
        elif account:
            shut = account.door(visitor)[0] == "shut"
            if (shut and account.denies(visitor) and not invite) or (
                shut and account.ask(visitor.fp, visitor.claim, invite) == "denied"
            ):
                visitor.close(REJECTED)
            else:
                visitor.account = account

    @rule(process=processes, fp=fps, claim=claims, owner=owners)
    def join(self, process: int, fp: int, claim: str, owner: int) -> None:
        """The usual way in: it names its owner, who approves it, and it proves itself."""
        if len(self.world.here()) >= MOST_LINES or not self._is_settled(owner):
            return
        claim = self._fitting(claim, owner, FPS[fp])
        self.connect(process=process, device=fp, claim=claim, naming="address", owner=owner, pick=ANY, invited=False)
        visitor, questions = self.world.visitors[-1], self.world.accounts[owner].questions
        asked = [number for number, each in enumerate(questions) if (each.fp, each.claim) == (FPS[fp], claim)]
        if asked and asked[0] < ANY:
            self.approve(owner=owner, process=process, pick=asked[0], device=0, replaces=None, news="heard")
        if visitor.due:
            self._prove(self.lines[visitor], "right")

    @rule(
        process=processes,
        owner=owners,
        pick=picks,
        secret=st.sampled_from(SECRETS),
        news=st.sampled_from(("heard", "at once", "lost", "late")),
    )
    def change_secret(self, process: int, owner: int, pick: int, secret: Secret, news: str) -> None:
        """A device asks with another secret than it had, and its owner approves that."""
        if not self._is_settled(owner):
            return
        account = self.world.accounts[owner]
        known = [fp for fp, entry in account.entries.items() if entry.state == "verified"]
        if known:
            fp = FPS.index(Fingerprint(known[pick % len(known)]))
            self.ask(process=process, owner=owner, fp=fp, claim=secret.claim, by_uid=False, pick=0, invited=False)
            asked = [number for number, each in enumerate(account.questions) if each.claim == secret.claim]
            if asked and asked[-1] < ANY:
                self.approve(owner=owner, process=process, pick=asked[-1], device=fp, replaces=None, news=news)

    @rule(pick=picks)
    def leave(self, pick: int) -> None:
        line = self._pick_line(pick)
        if line is None:
            return
        self._step(line.leave(), line.visitor.close)

    @rule(
        process=processes, owner=owners, fp=fps, claim=claims, by_uid=st.booleans(), pick=picks, invited=st.booleans()
    )
    def ask(self, process: int, owner: int, fp: int, claim: str, by_uid: bool, pick: int, invited: bool) -> None:
        invite = self._pick_invite(pick) if invited else None
        account = self.world.accounts.get(owner)
        device = self._pick_known(account, pick) or FPS[fp]
        claim = self._fitting(claim, owner, device)
        if account is None and not by_uid:
            account = self._begin(owner)
        name: OwnerName = Uid(account.uid if account else self._pick_uid(pick)) if by_uid else ADDRESSES[owner]
        says = Device(Fingerprint(device), claim, f"{_tag(owner)} device", "lab", "203.0.113.x", invite_digest(invite))
        outcome: list[str] = []
        contract = (lambda: outcome.append(account.ask(device, claim, invite))) if account else (lambda: None)
        real = self._ask(self.processes[process], owner, name, says)
        verified, pair = self._step(real, contract) or (False, "")
        assert verified is (outcome in (["verified"], ["invited"]))
        if not verified and account:
            assert self.pairs.setdefault((owner, device, claim), pair) == pair

    async def _ask(self, process: Context, owner: int, name: OwnerName, device: Device) -> tuple[bool, str]:
        ask = await process.asking.ask(name, device, "verify")
        await self._learn_uid(owner)
        return ask.verified, ask.pair

    @rule(
        pick=picks,
        how=st.sampled_from(("right", "right", "certificate", "wrong key", "secret", "nonce", "origin", "fp")),
    )
    def prove(self, pick: int, how: str) -> None:
        line = self._pick_line(pick, lambda visitor: visitor.due)
        if line:
            self._prove(line, how)

    def _prove(self, line: Line, how: str) -> None:
        visitor = line.visitor
        proof, shows = self._proof(line, how, visitor.due or visitor.claim)
        message = {"command": "prove", "id": next(_numbers)} | proof
        codes: list[int] = []

        def contract() -> None:
            if not visitor.named and visitor.state == "in" and CERTIFICATE not in visitor.shown:
                codes.append(400)
            elif shows is None:
                visitor.failures += 1
                codes.append(401)
                if visitor.failures >= MOST_FAILURES:
                    visitor.close(NOT_PROVED)
            else:
                codes.append(200)
                visitor.shown.add(shows)
                visitor.awake = True
                if shows == CERTIFICATE:
                    if visitor.state == "waiting" and visitor.account:
                        visitor.account.certify(visitor.fp, visitor.claim)
                    visitor.claim = CERTIFICATE

        answer = self._step(self._say(line, message), contract)
        assert answer is not None
        told = [frame["code"] for frame in answer]
        assert told == codes or (visitor.code == REJECTED and not told), "it is answered, or closed before"

    def _proof(self, line: Line, how: str, wanted: str) -> tuple[dict[str, str], str | None]:
        """The members of a proof, and the claim that it holds for."""
        own = next(each for each in CERTIFICATES if each.fp == line.fp)
        nonce = line.connection.nonce
        held = [secret for secret in SECRETS if secret.claim == wanted]
        match how:
            case "right" if held:
                return held[0].proof(), wanted
            case "right" | "certificate":
                return own.proof(ORIGIN, nonce), CERTIFICATE
            case "wrong key":
                return OTHER_KEY.proof(ORIGIN, nonce, line.fp) | {
                    "certificate": own.proof(ORIGIN, nonce)["certificate"]
                }, None
            case "nonce":
                return own.proof(ORIGIN, "of another connection"), None
            case "origin":
                return own.proof("http://elsewhere.test", nonce), None
            case "fp":
                return OTHER_KEY.proof(ORIGIN, nonce), None
        return new_secret().proof(), None

    @rule(pick=picks, to=fps, claim=claims, shows=st.sampled_from(("nothing", "certificate", "wrong key")))
    def rekey(self, pick: int, to: int, claim: str, shows: str) -> None:
        line = self._pick_line(pick, lambda visitor: visitor.state == "in" and visitor.shown)
        if line is None:
            return
        visitor, account = line.visitor, line.visitor.account
        claim = self._fitting(claim, account.owner if account else 0, line.fp)
        free = [number for number, each in enumerate(FPS) if account and each not in account.entries]
        to = free[to % len(free)] if free and pick < ANY else to
        message: Message = {"command": "rekey", "fp": FPS[to], "id": next(_numbers)}
        if shows == "nothing":
            message["proof"] = claim
        else:
            claim = CERTIFICATE
            key = OTHER_KEY if shows == "wrong key" else CERTIFICATES[to]
            message |= key.proof(ORIGIN, line.connection.nonce, FPS[to])
        codes: list[int] = []

        def contract() -> None:
            if claim == NONE:
                codes.append(400)
            elif (
                visitor.state != "in"
                or account is None
                or account.entries[visitor.fp].claim not in visitor.shown
                or shows == "wrong key"
            ):
                codes.append(401)
            else:
                try:
                    account.rekey(visitor, FPS[to], claim, shows=shows == "certificate")
                    codes.append(200)
                except Refused as refused:
                    codes.append(refused.code)

        answer = self._step(self._say(line, message), contract)
        assert answer is not None
        assert [frame["code"] for frame in answer] == codes

    async def _say(self, line: Line, message: Message) -> list[Message]:
        """Say it, and return what is answered to it."""
        await line.say(message)
        await self._at_rest()
        return [frame for frame in line.frames if frame.get("id") == message["id"]]

    @rule(pick=picks, fp=fps)
    def relay(self, pick: int, fp: int) -> None:
        line = self._pick_line(pick, lambda visitor: visitor.state == "in")
        if line is None:
            return
        visitor, account, target = line.visitor, line.visitor.account, FPS[fp]
        digits = ":".join(line.fp[i : i + 2] for i in range(0, 64, 2))
        offer = {"type": "offer", "sdp": f"v=0\r\na=fingerprint:sha-256 {digits}\r\na=x:{next(_numbers)}\r\n"}
        if visitor.state != "in" or account is None:
            code = 401
        elif not account.verified(target):
            code = 404
        elif target not in account.online:
            code = 410
        else:
            code = 200
            name = self._name_of(account, line)
            heard = {"source_fp": line.fp, "source_name": name, "offer": offer}
            self.expected.setdefault(self.lines[account.online[target]], []).append(heard)
        message = {"target": target, "offer": offer, "id": next(_numbers)}
        answer = self._step(self._say(line, message), lambda: None)
        assert answer is not None
        assert [frame["code"] for frame in answer] == [code]
        if code == 404:
            assert {key: answer[0][key] for key in answer[0] if key != "id"} == {
                "code": 404,
                "text": "No such peer in your book.",
            }

    def _name_of(self, account: Account, line: Line) -> str:
        book = self.runner.run(self.processes[0].books.read(account.uid))
        assert book
        return book.peers[line.fp].name

    @rule(pick=picks)
    def list_peers(self, pick: int) -> None:
        line = self._pick_line(pick)
        if line is None:
            return
        visitor, account = line.visitor, line.visitor.account
        message = {"command": "get_list", "id": next(_numbers)}
        lists: list[dict[str, tuple[bool, bool]]] = []

        async def real() -> list[Message]:
            await line.say(message)
            lists.extend(
                {peer["fp"]: (peer["verified"], peer["online"]) for peer in frame["peers"]}
                for frame in line.frames
                if "peers" in frame
            )
            return [frame for frame in line.frames if frame.get("id") == message["id"]]

        answer = self._step(real(), lambda: None)
        assert answer is not None
        if visitor.state != "in" or account is None:
            assert ([frame["code"] for frame in answer], lists) == ([401], [])
        else:
            shown = {fp: (account.verified(fp), fp in account.online) for fp in account.listed()}
            assert ([frame["code"] for frame in answer], lists) == ([200], [shown])

    # Owners

    def _owner_step(
        self,
        owner: int,
        process: int,
        contract: Callable[[Account], Any],
        act: Callable[[Context, str], Coroutine[Any, Any, T]],
        news: str = "heard",
        fp: str = "",
    ) -> T | None:
        """An act on one process, of which the other hears, or does not; or a device with that `fp` comes there meanwhile."""
        account, here, other = self.world.accounts[owner], self.processes[process], self.processes[1 - process]
        line: Line | None = None
        claim = self._fitting(FITTING, owner, fp)
        comer = Visitor(fp, claim, named=True)
        is_answered = account.denies(comer) or account.door(comer)[0] == "due"  # by what the other process knows
        if news == "late" and not is_answered:
            line = self._new_line(other, fp, claim, ADDRESSES[owner], owner)

        def follows() -> None:
            try:
                contract(account)
            except Refused:
                if line:
                    line.visitor.close()
                raise
            if line:
                self._arrives(line, account, None)
            for visitor in self.world.here():
                if news != "heard" and self.lines[visitor].process is other:
                    visitor.awake = True  # after a gap all look again

        async def real() -> T:
            if news == "heard":
                return await act(here, account.uid)
            async with self._deaf(here, other):
                answer = await act(here, account.uid)
                if line:
                    await line.arrive()
            return answer

        return self._step(real(), follows)

    @asynccontextmanager
    async def _deaf(self, here: Context, other: Context) -> AsyncIterator[None]:
        """The other process does not hear what changes, and notices afterwards that there was a gap."""
        hear = dict(other.bus._hear)
        other.bus._hear |= {Changed: lambda event: None, Found: lambda event: None}
        try:
            yield
            await self._hear_out(here, other)
        finally:
            other.bus._hear = hear
        await other.presence._renew()

    @rule(
        owner=owners,
        process=processes,
        pick=picks,
        device=fps,
        replaces=st.sampled_from((None, None, None, *range(len(FPS)))),
        news=st.sampled_from(("heard", "at once", "lost", "late")),
    )
    def approve(self, owner: int, process: int, pick: int, device: int, replaces: int | None, news: str) -> None:
        """`at once`: the other process hears of this and of another act at once."""
        if not self._is_settled(owner):
            return
        account = self.world.accounts[owner]
        question = self._pick_question(owner, pick)
        fp = question.fp if question else FPS[device]
        old = Fingerprint(FPS[replaces]) if replaces is not None else None
        pair = self.pairs[owner, fp, question.asked_as] if question else ""
        alike = [each for each in account.questions if question and (each.fp, each.asked_as) == (fp, question.asked_as)]
        assert len(alike) <= 1, "two requests show the same code"

        async def act(process: Context, uid: str) -> None:
            book = await process.books.read(uid)
            assert book
            key = Fingerprint(fp)
            rid = process.asking.request_of(book, key, pair)
            await process.books.approve(uid, key, rid=rid, replaces=old)
            if news == "at once":
                await process.books.rename(uid, key, _new_name(owner))

        self._owner_step(
            owner,
            process,
            lambda account: account.approve(fp, question, old),
            act,
            news="heard" if news == "at once" else news,
            fp=fp,
        )

    @rule(owner=owners, process=processes, pick=picks, device=fps)
    def reject(self, owner: int, process: int, pick: int, device: int) -> None:
        if not self._is_settled(owner):
            return
        question = self._pick_question(owner, pick)
        fp = question.fp if question else FPS[device]
        rid = request_id(Fingerprint(fp), question.claim) if question else None
        self._owner_step(
            owner,
            process,
            lambda account: account.reject(fp, question),
            lambda process, uid: process.books.reject(uid, Fingerprint(fp), rid),
        )

    @rule(
        owner=owners,
        process=processes,
        which=st.sampled_from(range(4)),
        what=st.sampled_from(("revoke", "revoke", "remove", "rename", "add")),
        news=st.sampled_from(("heard", "lost", "late")),
    )
    def act(self, owner: int, process: int, which: int, what: str, news: str) -> None:
        if not self._is_settled(owner):
            return
        fp = WANTED[owner][which]
        if news == "late" and (what == "remove" or (what == "add" and self.world.accounts[owner].demanded)):
            news = "lost"  # the other process may ask the device for its proof, or enter it, before it has heard

        async def act(process: Context, uid: str) -> None:
            match what:
                case "revoke":
                    await process.books.revoke(uid, fp)
                case "remove":
                    await process.books.remove(uid, fp)
                case "rename":
                    await process.books.rename(uid, fp, _new_name(owner))
                case "add":
                    await process.books.add(uid, fp, _new_name(owner), "lab")

        self._owner_step(owner, process, lambda account: getattr(account, what)(fp), act, news=news, fp=fp)

    @rule(
        owner=owners,
        process=processes,
        what=st.sampled_from(("log in", "invite", "demand proof", "demand no proof", "sign out", "delete", "nothing")),
        device=fps,
    )
    def administer(self, owner: int, process: int, what: str, device: int) -> None:
        if what == "log in":
            self._step(self._log_in(owner, process), lambda: None)
        elif self._is_settled(owner):
            match what:
                case "invite":
                    self._invite(owner, process)
                case "demand proof":
                    self._demand(owner, process, FPS[device], on=True)
                case "demand no proof":
                    self._demand(owner, process, FPS[device], on=False)
                case "sign out":
                    self._sign_out(owner, process)
                case "delete":
                    self._delete(owner, process)

    def _invite(self, owner: int, process: int) -> None:
        code = self._owner_step(owner, process, lambda account: None, lambda process, uid: process.books.invite(uid))
        assert code
        account = self.world.accounts[owner]
        account.invites.add(code)
        self.codes[code] = (owner, account.uid)

    def _demand(self, owner: int, process: int, fp: str, *, on: bool) -> None:
        """A device with that fingerprint comes before the other process has heard of it."""

        async def act(process: Context, uid: str) -> None:
            await process.books.require_proof(uid, on)

        self._owner_step(owner, process, lambda account: account.demand(on), act, news="late" if on else "heard", fp=fp)

    async def _log_in(self, owner: int, process: int) -> None:
        context, address = self.processes[process], ADDRESSES[owner]
        uid = await context.books.enroll(address)
        account = self.world.accounts.get(owner) or self._begin(owner)
        await self._learn_uid(owner)
        assert account.uid == uid
        link = await context.sessions.issue_link(uid, address)
        login = await context.sessions.redeem_link(link.url.rpartition("/")[2], None, "a browser")
        account.settled = True
        self.cookies[login.cookie] = (account, True)

    def _sign_out(self, owner: int, process: int) -> None:
        async def act(process: Context, uid: str) -> None:
            link = await process.sessions.issue_link(uid, ADDRESSES[owner])
            await process.books.sign_out(uid)
            with pytest.raises(LinkGone):
                await process.sessions.peek_link(link.url.rpartition("/")[2])

        self._owner_step(owner, process, self._ends_sessions, act)

    def _delete(self, owner: int, process: int) -> None:
        account = self.world.accounts[owner]

        def contract() -> None:
            self._ends_sessions(account)
            account.erase()
            del self.world.accounts[owner]

        self._step(self.processes[process].books.erase(account.uid, ADDRESSES[owner]), contract)

    def _ends_sessions(self, account: Account) -> None:
        for cookie, (whose, _) in self.cookies.items():
            if whose is account:
                self.cookies[cookie] = (account, False)

    # Accounts begin with a login, or with the first ask

    def _begin(self, owner: int) -> Account:
        account = self.world.accounts[owner] = Account(owner, f"new {next(_numbers)}")
        return account

    async def _learn_uid(self, owner: int) -> None:
        account = self.world.accounts.get(owner)
        if account and account.uid.startswith("new"):
            uid = await self.processes[0].store.uid_of(ADDRESSES[owner])
            assert uid
            assert uid not in self.uids, "a new account has a uid of its own"
            account.uid = uid
            self.uids[uid] = owner

    # The end

    def teardown(self) -> None:
        try:
            if self.sound:
                self._end_well()
        finally:
            self.runner.run(self._close())
            self.runner.close()

    def _end_well(self) -> None:
        """All accounts are deleted, and nothing of anybody is left."""
        for owner in tuple(self.world.accounts):
            self._delete(owner, 0)
        for visitor in self.world.here():
            self._step(self.lines[visitor].leave(), visitor.close)
        self.runner.run(self._check_remains())

    async def _check_remains(self) -> None:
        for key in map(str, await self.redis.keys("*")):
            noun, _, rest = key.partition(":")
            assert noun in LASTING, key
            assert await self.redis.ttl(key) > 0, key
            assert not any(uid in rest for uid in self.uids), key
            assert str(await self.redis.get(key)).isdigit(), key

    async def _close(self) -> None:
        for process in self.processes:
            await process.close()
        await self.redis.aclose()


def _tag(owner: int) -> str:
    """How the names in that owner's book begin."""
    return f"of {owner}"


def _new_name(owner: int) -> str:
    return f"{_tag(owner)} called {next(_numbers)}"


def test_whatever_happens_nobody_is_where_he_does_not_belong(store_url: str) -> None:
    is_long = settings.get_current_profile_name() == LONG
    machine: Any = partial(Authorization, store_url)  # it takes whatever makes a machine
    run_state_machine_as_test(machine, settings=settings.get_profile(LONG) if is_long else SHORT)
