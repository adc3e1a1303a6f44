"""Authorization as a state machine: whatever devices and owners do in whatever order, nobody gets in who does not belong.

Two owners, six devices of which each owner wants four, and two processes on one store, by their rules without HTTP.
After each step, when both processes are at rest, the sockets, the books in memory and the store must be as
tests/contract.py says. `make fuzz` lets it run for long, with other steps each time.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from app.context import Context
from app.errors import LinkGone
from app.invites import invite_digest
from app.owners import NOBODY, OwnerName, Uid
from app.peers import Device, Fingerprint, request_id
from tests.contract import (
    CERTIFICATE,
    MOST_FAILURES,
    NONE,
    NOT_PROVED,
    REJECTED,
    Account,
    Question,
    Refused,
    Visitor,
)
from tests.ground import ADDRESSES, CERTIFICATES, FPS, Ground, Line, numbers, tag
from tests.keys import Secret, new_certificate, new_secret
from tests.support import Message

pytestmark = pytest.mark.timeout(180)

T = TypeVar("T")

WANTED = (FPS[:4], FPS[2:])
"""Each owner's devices; two of them are wanted by both."""

OTHER_KEY = new_certificate()
SECRETS = (new_secret(), new_secret())
CLAIMS = (NONE, CERTIFICATE, *(secret.claim for secret in SECRETS))
FITTING = "the claim that the owner's book has for this fingerprint"
ORIGIN = "http://book.test"
MOST_LINES = 10
ANY = 6
"""A pick from here on is any connection or fingerprint, and below it mostly one that fits the rule."""

SHORT = settings(
    max_examples=40, stateful_step_count=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
LONG = "long"
"""The profile of `make fuzz`."""

owners = st.sampled_from((0, 1))
processes = st.sampled_from((0, 1))
fps = st.sampled_from((2, 2, 3, 3, 0, 1, 4, 5))
claims = st.sampled_from((*CLAIMS, FITTING, FITTING, FITTING))
picks = st.integers(0, 7)


class Authorization(Ground, RuleBasedStateMachine):
    """Every act of devices and owners."""

    def __init__(self, store_url: str) -> None:
        RuleBasedStateMachine.__init__(self)
        Ground.__init__(self, store_url)
        self.codes: dict[str, tuple[int, str]] = {}

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
        alive = {account.uid for account in self.accounts()}
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
        names: OwnerName | None = ADDRESSES[owner] if naming == "address" else Uid(uid) if naming == "uid" else None
        if account is None and naming == "address":
            account = self.begin(owner)
        giver = self.codes[invite][0] if invite and not names else owner
        line = self._new_line(self.processes[process], fp, claim, names, giver, invite)
        self.step(self._arrive(line, owner), partial(self._arrives, line, account, invite))

    def _new_line(
        self, process: Context, fp: str, claim: str, names: OwnerName | None, owner: int, invite: str | None = None
    ) -> Line:
        """A socket that is not there yet, of a device that calls itself like one of that owner."""

        async def make() -> Line:
            device = Device(Fingerprint(fp), claim, f"{tag(owner)} device", "lab", "203.0.113.x", invite_digest(invite))
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
        await self.learn_uid(owner)

    def _arrives(self, line: Line, account: Account | None, invite: str | None) -> None:
        visitor = line.visitor
        if not visitor.named:
            giver = next((each for each in self.accounts() if invite and self.codes[invite][1] == each.uid), None)
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
        self.step(line.leave(), line.visitor.close)

    @rule(
        process=processes, owner=owners, fp=fps, claim=claims, by_uid=st.booleans(), pick=picks, invited=st.booleans()
    )
    def ask(self, process: int, owner: int, fp: int, claim: str, by_uid: bool, pick: int, invited: bool) -> None:
        invite = self._pick_invite(pick) if invited else None
        account = self.world.accounts.get(owner)
        device = self._pick_known(account, pick) or FPS[fp]
        claim = self._fitting(claim, owner, device)
        if account is None and not by_uid:
            account = self.begin(owner)
        name: OwnerName = Uid(account.uid if account else self._pick_uid(pick)) if by_uid else ADDRESSES[owner]
        says = Device(Fingerprint(device), claim, f"{tag(owner)} device", "lab", "203.0.113.x", invite_digest(invite))
        outcome: list[str] = []
        contract = (lambda: outcome.append(account.ask(device, claim, invite))) if account else (lambda: None)
        real = self._ask(self.processes[process], owner, name, says)
        verified, pair = self.step(real, contract) or (False, "")
        assert verified is (outcome in (["verified"], ["invited"]))
        if not verified and account:
            assert self.pairs.setdefault((owner, device, claim), pair) == pair

    async def _ask(self, process: Context, owner: int, name: OwnerName, device: Device) -> tuple[bool, str]:
        ask = await process.asking.ask(name, device, "verify")
        await self.learn_uid(owner)
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
        message = {"command": "prove", "id": next(numbers)} | proof
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

        answer = self.step(self._say(line, message), contract)
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

    @rule(pick=picks, to=fps, claim=claims, shows=st.sampled_from(("nothing", "nothing", "certificate", "wrong key")))
    def rekey(self, pick: int, to: int, claim: str, shows: str) -> None:
        line = self._pick_line(pick, lambda visitor: visitor.state == "in" and visitor.shown)
        if line is None:
            return
        visitor, account = line.visitor, line.visitor.account
        claim = self._fitting(claim, account.owner if account else 0, line.fp)
        free = [number for number, each in enumerate(FPS) if account and each not in account.entries]
        to = free[to % len(free)] if free and pick < ANY else to
        message: Message = {"command": "rekey", "fp": FPS[to], "id": next(numbers)}
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

        answer = self.step(self._say(line, message), contract)
        assert answer is not None
        assert [frame["code"] for frame in answer] == codes

    async def _say(self, line: Line, message: Message) -> list[Message]:
        """Say it, and return what is answered to it."""
        await line.say(message)
        await self.at_rest()
        return [frame for frame in line.frames if frame.get("id") == message["id"]]

    @rule(pick=picks, other=picks, device=fps)
    def relay(self, pick: int, other: int, device: int) -> None:
        line = self._pick_line(pick, lambda visitor: visitor.state == "in")
        if line is None:
            return
        visitor, account = line.visitor, line.visitor.account
        target = self._pick_known(account, other) or FPS[device]
        digits = ":".join(line.fp[i : i + 2] for i in range(0, 64, 2))
        offer = {"type": "offer", "sdp": f"v=0\r\na=fingerprint:sha-256 {digits}\r\na=x:{next(numbers)}\r\n"}
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
        message = {"target": target, "offer": offer, "id": next(numbers)}
        answer = self.step(self._say(line, message), lambda: None)
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
        message = {"command": "get_list", "id": next(numbers)}
        lists: list[dict[str, tuple[bool, bool]]] = []

        async def real() -> list[Message]:
            await line.say(message)
            lists.extend(
                {peer["fp"]: (peer["verified"], peer["online"]) for peer in frame["peers"]}
                for frame in line.frames
                if "peers" in frame
            )
            return [frame for frame in line.frames if frame.get("id") == message["id"]]

        answer = self.step(real(), lambda: None)
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
            async with self.deaf(here, other):
                answer = await act(here, account.uid)
                if line:
                    await line.arrive()
            return answer

        return self.step(real(), follows)

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
            self.step(self.log_in(owner, process), lambda: None)
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
        self.check_sessions()

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

        self.step(self.processes[process].books.erase(account.uid, ADDRESSES[owner]), contract)

    def _ends_sessions(self, account: Account) -> None:
        for cookie, (whose, _) in self.cookies.items():
            if whose is account:
                self.cookies[cookie] = (account, False)

    # The end

    def teardown(self) -> None:
        try:
            if self.sound:
                self._end_well()
        finally:
            self.runner.run(self.close())
            self.runner.close()

    def _end_well(self) -> None:
        """All accounts are deleted, and nothing of anybody is left."""
        for owner in tuple(self.world.accounts):
            self._delete(owner, 0)
        self.check_sessions()
        for visitor in self.world.here():
            self.step(self.lines[visitor].leave(), visitor.close)
        self.runner.run(self.check_remains())


def _new_name(owner: int) -> str:
    return f"{tag(owner)} called {next(numbers)}"


def test_whatever_happens_nobody_is_where_he_does_not_belong(store_url: str) -> None:
    is_long = settings.get_current_profile_name() == LONG
    profile = settings.get_profile(LONG) if is_long else SHORT
    run_state_machine_as_test(cast(Any, partial(Authorization, store_url)), settings=profile)
