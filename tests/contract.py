"""Who may be in which book, and what becomes of whom: sections 4 to 6 of docs/protocol.md once more, in plain Python.

The state machine of test_authorization.py holds the server against it. It calls none of the server's rules. Where
several connections race for one place, either may win: then it is looked up in the `Outcome` which one did.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol

NONE, CERTIFICATE = "none", "certificate"

REJECTED, NOT_PROVED, REPLACED, GOING_AWAY = 4403, 4408, 4409, 1001
MOST_FAILURES = 5

Door = Literal["open", "due", "demanded", "shut"]
State = Literal["waiting", "in", "closed"]


class Refused(Exception):
    """What is asked for is not done, with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Outcome(Protocol):
    """What happened where more than one thing may."""

    def claim(self, account: "Account", fp: str) -> str:
        """The claim that the peer has now."""

    def verified_on(self, account: "Account", fp: str) -> int:
        """When the peer was let in."""

    def is_in(self, visitor: "Visitor") -> bool:
        """Whether that connection is in now."""

    def account(self, visitor: "Visitor") -> "Account | None":
        """The book that this connection has found."""

    def state(self, visitor: "Visitor") -> "tuple[State, int | None, str | None]":
        """How far it has come, the code it was closed with, and the claim that it was told to prove."""

    def is_taken(self, account: "Account", fp: str) -> bool:
        """Whether another connection of that peer is in."""


def strength(claim: str) -> int:
    return {NONE: 0, CERTIFICATE: 2}.get(claim, 1)


@dataclass
class Entry:
    """A peer. `proved`: its claim was shown on a connection that named the owner."""

    state: Literal["verified", "added", "revoked"]
    claim: str = NONE
    proved: bool = False


@dataclass
class Question:
    """A request. `asked_as`: the claim that its pair code is made of."""

    fp: str
    claim: str
    asked_as: str


@dataclass(eq=False)
class Visitor:
    """A connection. `account` is the book that it is in or waits at, `looking` that it waits for any.

    `awake`: it looks now, and not only when its fingerprint is let in somewhere. `raced`: others with its fingerprint
    came at the same time and said something else.
    """

    fp: str
    claim: str
    named: bool
    account: "Account | None" = None
    looking: bool = False
    awake: bool = False
    raced: bool = False
    state: State = "waiting"
    code: int | None = None
    shown: set[str] = field(default_factory=set)
    due: str | None = None
    failures: int = 0

    @property
    def says(self) -> str:
        """The most that it says of itself."""
        return CERTIFICATE if CERTIFICATE in self.shown else self.claim

    def close(self, code: int | None = None) -> None:
        if self.account and self.account.online.get(self.fp) is self:
            del self.account.online[self.fp]
        self.state, self.code, self.looking = "closed", code, False


@dataclass(eq=False)
class Account:
    """A user, from the first ask or login until the account is deleted. `found` are those that were just let in."""

    owner: int
    uid: str
    settled: bool = False
    demanded: bool = False
    entries: dict[str, Entry] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    denied: set[tuple[str, str]] = field(default_factory=set)
    invites: set[str] = field(default_factory=set)
    online: dict[str, Visitor] = field(default_factory=dict)
    found: set[str] = field(default_factory=set)

    def listed(self) -> set[str]:
        """Whom the peers of this book may hear of."""
        return {fp for fp, entry in self.entries.items() if entry.state != "added"}

    def verified(self, fp: str) -> bool:
        return fp in self.entries and self.entries[fp].state == "verified"

    def door(self, visitor: Visitor) -> tuple[Door, str]:
        """How it meets this connection, and the claim that decides."""
        entry, says = self.entries.get(visitor.fp), visitor.says
        if entry is None or entry.state == "revoked":
            return "shut", says
        needed = says
        if entry.state == "verified":
            if self._is_new_secret(entry, says):
                return "shut", says
            needed = max(says, entry.claim, key=strength)
        if needed == NONE:
            return ("demanded" if self.demanded else "open"), needed
        knows_the_way = entry.proved and needed == entry.claim and needed in (visitor.claim, CERTIFICATE)
        if not visitor.named and not knows_the_way:
            return "shut", needed
        return ("open" if needed in visitor.shown else "due"), needed

    def denies(self, visitor: Visitor) -> bool:
        entry = self.entries.get(visitor.fp)
        return (entry is not None and entry.state == "revoked") or (visitor.fp, visitor.claim) in self.denied

    # Acts of devices

    def ask(self, fp: str, claim: str, invite: str | None = None, *, may_ask: bool = True) -> str:
        """verified, invited, asked, denied, or unasked where it may not ask."""
        entry = self.entries.get(fp)
        if entry and entry.state == "verified" and not self._is_new_secret(entry, claim):
            return "verified"
        if entry and entry.state == "added":
            if claim == NONE:
                self._verify_added(fp, claim)
                self.found.add(fp)
            return "verified"
        if entry is None and invite in self.invites:
            self.invites.discard(invite)
            self.denied.discard((fp, claim))
            self.drop(fp)
            self.entries[fp] = Entry("verified", claim)
            self.found.add(fp)
            return "invited"
        if (entry and entry.state == "revoked") or (fp, claim) in self.denied:
            return "denied"
        if not may_ask:
            return "unasked"
        if not any(each.fp == fp and each.claim == claim for each in self.questions) and not any(
            each.fp == fp and (each.claim, each.asked_as) == (CERTIFICATE, claim) for each in self.questions
        ):
            self.questions.append(Question(fp, claim, claim))
        return "asked"

    def certify(self, fp: str, claim: str) -> None:
        """A waiting device that asked with this claim has shown its certificate."""
        asked = next((each for each in self.questions if (each.fp, each.claim) == (fp, claim)), None)
        if asked is None or claim == CERTIFICATE:
            return
        self.questions = [each for each in self.questions if (each.fp, each.claim) != (fp, CERTIFICATE)]
        if (fp, CERTIFICATE) in self.denied:
            self.questions.remove(asked)
        else:
            asked.claim = CERTIFICATE

    def rekey(self, visitor: Visitor, to: str, claim: str, *, shows: bool) -> None:
        """`shows`: the new certificate is shown with it."""
        entry = self.entries[visitor.fp]
        if entry.claim not in visitor.shown:
            raise Refused(401)
        if to in self.entries or strength(claim) < strength(entry.claim):
            raise Refused(409)
        for fp in (visitor.fp, to):
            self.drop(fp)
        self._forget(visitor.fp)
        self.denied.discard((to, claim))
        self.entries[to] = Entry("verified", claim, proved=shows)
        self.found.add(to)
        visitor.close(GOING_AWAY)

    # Acts of the owner

    def approve(self, fp: str, question: Question | None, replaces: str | None) -> None:
        question = question or next((each for each in self.questions if each.fp == fp), None)
        entry = self.entries.get(fp)
        if question is None and not (entry and entry.state == "revoked"):
            raise Refused(404)
        if replaces and (replaces == fp or replaces not in self.entries):
            raise Refused(404)
        claim = question.claim if question else self.entries[fp].claim
        if entry and entry.state == "verified" and strength(claim) < strength(entry.claim):
            raise Refused(404)
        if replaces:
            self.drop(replaces)
            self._forget(replaces)
        same = entry is not None and entry.claim == claim
        self.entries[fp] = Entry("verified", claim, proved=same and entry is not None and entry.proved)
        if question:
            self.questions.remove(question)
            self.denied.discard((fp, claim))
        self.drop(fp, weaker_than=claim)
        self.found.add(fp)

    def reject(self, fp: str, question: Question | None) -> None:
        rejected = [question] if question else [each for each in self.questions if each.fp == fp]
        if not rejected:
            raise Refused(404)
        for each in rejected:
            self.questions.remove(each)
            self.denied |= {(fp, each.claim), (fp, each.asked_as)}

    def add(self, fp: str) -> None:
        if fp in self.entries:
            raise Refused(409)
        self.entries[fp] = Entry("added")
        self.found.add(fp)

    def revoke(self, fp: str) -> None:
        self._known(fp).state = "revoked"
        self.online.pop(fp, None)
        self.drop(fp)

    def remove(self, fp: str) -> None:
        entry = self._known(fp)
        self.drop(fp)
        denied = set(self.denied)
        self._forget(fp)
        if entry.state == "added":
            self.denied = denied  # it was never here, so it may ask

    def rename(self, fp: str) -> None:
        self._known(fp)

    def demand(self, on: bool) -> None:
        self.demanded = on
        if not on:
            self.found |= set(self.entries)

    def erase(self) -> None:
        for kept in (self.entries, self.questions, self.denied, self.invites, self.online):
            kept.clear()
        self.settled = self.demanded = False

    def drop(self, fp: str, weaker_than: str | None = None) -> None:
        """Its requests are answered: all, or those that would prove less."""
        self.questions = [
            each
            for each in self.questions
            if each.fp != fp or (weaker_than is not None and strength(each.claim) >= strength(weaker_than))
        ]

    def _known(self, fp: str) -> Entry:
        if fp not in self.entries:
            raise Refused(404)
        return self.entries[fp]

    def _forget(self, fp: str) -> None:
        self.denied.add((fp, self.entries.pop(fp).claim))
        self.online.pop(fp, None)

    def _verify_added(self, fp: str, claim: str) -> None:
        self.entries[fp] = Entry("verified", claim)
        self.drop(fp)

    @staticmethod
    def _is_new_secret(entry: Entry, claim: str) -> bool:
        return strength(claim) == 1 and claim != entry.claim and entry.claim != CERTIFICATE

    # What follows for the connections with one fingerprint

    def settle(self, fp: str, here: list[Visitor], outcome: Outcome) -> None:
        coming = {visitor.says for visitor in here if self.door(visitor)[0] in ("open", "due")}
        self._bind(fp, here, outcome)
        doors = {visitor: self.door(visitor) for visitor in here}
        entry = self.entries.get(fp)
        inside = [visitor for visitor in here if doors[visitor][0] == "open"]
        if entry and any(visitor.named and doors[visitor][1] != NONE for visitor in inside):
            entry.proved = True
        if len(coming) > 1:
            for visitor in here:
                self._follow(visitor, doors[visitor][0], outcome)
            return
        for visitor in here:
            self._shut_out(visitor, *doors[visitor])
        self._let_in(fp, inside, outcome)

    def _follow(self, visitor: Visitor, door: Door, outcome: Outcome) -> None:
        """Connections that say different things came at once, and it was told what was right at its turn."""
        visitor.raced = True
        state, code, due = outcome.state(visitor)
        if state == "in":
            assert door == "open"
        elif code == REPLACED:
            assert outcome.is_taken(self, visitor.fp)
        elif code == REJECTED:
            assert door == "shut"
        else:
            assert (state, code) == ("waiting", None)
            assert door != "open"
        visitor.state, visitor.code, visitor.due = state, code, due
        if state == "in":
            self.online[visitor.fp] = visitor
        elif self.online.get(visitor.fp) is visitor:
            del self.online[visitor.fp]

    def _bind(self, fp: str, here: list[Visitor], outcome: Outcome) -> None:
        """One that comes in binds a peer that was entered ahead; its certificate raises any other."""
        entry = self.entries.get(fp)
        coming = [visitor for visitor in here if self.door(visitor)[0] == "open"]
        if entry and entry.state == "added" and coming:
            claim = outcome.claim(self, fp)
            assert claim in {self.door(visitor)[1] for visitor in coming}
            self._verify_added(fp, claim)
        entry = self.entries.get(fp)
        if entry and entry.claim != CERTIFICATE and ("open", CERTIFICATE) in map(self.door, here):
            entry.claim, entry.proved = CERTIFICATE, True
            self.drop(fp)

    def _shut_out(self, visitor: Visitor, door: Door, claim: str) -> None:
        was_in = visitor.state == "in"
        if door != "open" and was_in:
            visitor.state = "waiting"
            if self.online.get(visitor.fp) is visitor:
                del self.online[visitor.fp]
        if door == "due":
            visitor.due = claim
        elif door == "demanded" and was_in:
            visitor.due = None
        elif door == "shut" and (was_in or self.denies(visitor)):
            visitor.close(REJECTED)

    def _let_in(self, fp: str, inside: list[Visitor], outcome: Outcome) -> None:
        """The newest that was let in wins, and the others end."""
        if all(visitor.state == "in" for visitor in inside):
            return
        winners = [visitor for visitor in inside if outcome.is_in(visitor)]
        assert len(winners) == 1, (winners, inside)
        (winner,) = winners
        assert winner.state == "waiting", "one that was in before has won over one that came later"
        winner.state, winner.due = "in", None
        self.online[fp] = winner
        for visitor in inside:
            if visitor is not winner:
                visitor.close(REPLACED)


class World:
    """The accounts that are alive, by the number of their owner, and every connection."""

    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self.visitors: list[Visitor] = []

    def here(self) -> list[Visitor]:
        """The connections that are open."""
        return [visitor for visitor in self.visitors if visitor.state != "closed"]

    def settle(self, outcome: Outcome) -> None:
        """All follow from the accounts as they are now, and some of those that look for a book find one."""
        for visitor in self.visitors:
            visitor.raced = False
        fps = {fp for account in self.accounts.values() for fp in account.found}
        looking = [visitor for visitor in self.here() if visitor.looking and (visitor.awake or visitor.fp in fps)]
        first = {visitor: self._find(visitor, outcome) for visitor in looking}
        for visitor in looking:
            ended = outcome.state(visitor)[0] == "closed"
            visitor.account = first[visitor][0] if ended else outcome.account(visitor)
            visitor.looking = visitor.account is None
        self._settle_books(outcome)
        for visitor in looking:
            last = self._find(visitor, outcome)
            changed = last != first[visitor]  # by others that came at the same time
            assert visitor.account in (first[visitor][0], last[0]) or (visitor.looking and changed), visitor
        for account in self.accounts.values():
            account.found.clear()
        for visitor in self.visitors:
            visitor.awake = False

    def _settle_books(self, outcome: Outcome) -> None:
        for account in {visitor.account for visitor in self.here() if visitor.account}:
            places = {visitor.fp for visitor in self.here() if visitor.account is account}
            for fp in places:
                here = [each for each in self.here() if each.account is account and each.fp == fp]
                account.settle(fp, here, outcome)

    def _find(self, visitor: Visitor, outcome: Outcome) -> tuple[Account | None, Door]:
        """The book where its certificate was proved, then the one that let it in earliest; and its door."""
        doors = [account for account in self.accounts.values() if account.door(visitor)[0] in ("open", "due")]

        def rank(account: Account) -> tuple[bool, bool, int, str]:
            entry = account.entries[visitor.fp]
            added = entry.state == "added"
            since = 0 if added else outcome.verified_on(account, visitor.fp)
            return entry.claim != CERTIFICATE, added, since, account.uid

        best = min(doors, key=rank, default=None)
        return best, best.door(visitor)[0] if best else "shut"
