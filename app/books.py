"""The Books that this process holds, and every act that changes one.

An act is one atomic script in the store. Its report is followed here at once and sent to the other processes that
hold the book. Whoever holds a Book (a socket, an open page) is a listener of it and hears of each change.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from app import invites
from app.absences import Absences
from app.addresses import Address
from app.background import Background
from app.book import Book, Change, Report, Update
from app.bus import Bus, Changed, Found
from app.errors import AlreadyInBook, BookFull, NameTaken, NotFound, Unreachable, WeakerProof
from app.invites import invite_digest, new_invite
from app.messages import ReportOutcome
from app.peers import Device, Fingerprint
from app.store import Answer, Store, name_given
from app.tally import Tally

log = logging.getLogger("peerbook.books")

REJECTED_SECONDS = 24 * 3600
REMOVED_SECONDS = 3600
_KEEP_SECONDS = 30.0
_RETRY_SECONDS = 1.0
_PATIENCE_SECONDS = 0.2
_SCRIPTS_AT_ONCE = 100  # in one round trip
_LOADS_AT_ONCE = 4  # of those that nobody waits for: others need the store's connections too

_DONE = {
    "approve": "approved",
    "reject": "rejected",
    "add": "added",
    "rename": "renamed",
    "revoke": "revoked",
    "remove": "removed",
    "rekey": "rekeyed",
}
"""What an act is called once it is done."""

Listener = Callable[[Change], None]


@dataclass(slots=True, eq=False)
class _Shelf:
    """The place of one Book in this process: who listens, and what arrived while it was loading or came too early."""

    uid: str
    book: Book | None = None
    listeners: set[Listener] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    pending: list[Report] | None = None
    ahead: dict[int, Report] = field(default_factory=dict)
    catch_up: asyncio.TimerHandle | None = None
    drop: asyncio.TimerHandle | None = None

    @property
    def behind(self) -> bool:
        """Whether the store is known to have more than the Book."""
        return self.book is None or bool(self.ahead) or self.pending is not None


@dataclass(frozen=True, slots=True)
class Departure:
    """What the store hears when a connection ends: the book that it `left`, or the one where it had `asked`.

    `last_unnamed`: it waited for any book to have its fingerprint, and was the last one of this process that did.
    """

    device: Device
    connection: str
    left: str | None = None
    asked: str | None = None
    last_unnamed: bool = False


class Books:
    """Holds the Books of this process's sockets and pages, and acts on any book."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        background: Background,
        absences: Absences,
        tally: Tally,
        *,
        most_peers: int,
        most_requests: int,
        most_near: int,
        request_seconds: int,
        wait_seconds: int,
    ) -> None:
        self.store = store
        self._bus = bus
        self._background = background
        self._absences = absences
        self._tally = tally
        self.most_peers = most_peers
        self._most_requests = most_requests
        self._most_near = most_near
        self._request_seconds = request_seconds
        self._wait_seconds = wait_seconds
        self._shelves: dict[str, _Shelf] = {}
        self._store_run: str | None = None
        self._loads = asyncio.Semaphore(_LOADS_AT_ONCE)
        bus.hear(Changed, lambda event: self._follow(event.report))

    # Holding

    async def hold(self, uid: str, listener: Listener) -> Book | None:
        """The Book, kept up to date while `listener` holds it; None where there is no such user."""
        shelf = self._shelves.setdefault(uid, _Shelf(uid))
        shelf.listeners.add(listener)
        if shelf.drop:
            shelf.drop.cancel()
            shelf.drop = None
        book = None
        try:
            if shelf.behind:
                await self._load(shelf, first=True)
            book = shelf.book
        finally:
            if book is None:
                self.release(uid, listener)
        return book

    def release(self, uid: str, listener: Listener) -> None:
        """`listener` needs the Book no more. It is kept a while, since devices come back."""
        shelf = self._shelves.get(uid)
        if shelf is None:
            return
        shelf.listeners.discard(listener)
        self._drop_later(shelf)

    async def check(self, *, tell: bool = False) -> None:
        """Read every Book anew whose version is not the store's: events may have been missed.

        All of them where the store is another than before: it may have lost acts that it had answered, and counted on.
        `tell`: listeners of the others hear too that theirs is as the store has it. Raises Unreachable.
        """
        held = [shelf for shelf in self._shelves.values() if shelf.book]
        run = await self.store.run_name()
        forgot = self._store_run not in (None, run)
        versions = await self.store.versions([shelf.uid for shelf in held])
        stale: list[_Shelf] = []
        for shelf, version in zip(held, versions, strict=True):
            if shelf.book and (forgot or _is_stale(shelf.book, version, tell)):
                stale.append(shelf)
            elif shelf.book and tell:
                self._notify(shelf, Change(whole=True))
        await asyncio.gather(*(self._load_in_turn(shelf, whole=forgot) for shelf in stale))
        self._store_run = run

    async def _load_in_turn(self, shelf: _Shelf, *, whole: bool) -> None:
        async with self._loads:
            if shelf.book:
                await self._load(shelf, first=False, whole=whole)

    async def forget_the_dead(self) -> None:
        """Take everybody offline whose process is no more: it was killed, or lost its store for too long."""
        named = {
            place.process for shelf in self._shelves.values() if shelf.book for place in shelf.book.online.values()
        }
        dead = named - {self._bus.process} - await self.store.living(named)
        held = tuple(self._shelves.values())
        places = [(shelf.uid, process) for shelf in held for process in dead & _processes_in(shelf.book)]
        for start in range(0, len(places), _SCRIPTS_AT_ONCE):
            some = places[start : start + _SCRIPTS_AT_ONCE]
            for answer in await self.store.run_all([("forget", uid, {"process": process}) for uid, process in some]):
                self._spread(answer)

    async def _forget_the_dead_of(self, shelf: _Shelf, interested: frozenset[str]) -> None:
        """Whoever loads a book is told the truth at once, and tells nothing to processes that are no more."""
        others = (_processes_in(shelf.book) | interested) - {self._bus.process}
        for process in others - await self.store.living(others):
            await self.forget(shelf.uid, process)

    async def is_dead(self, process: str) -> bool:
        """Whether that process is no more."""
        return not await self.store.living([process])

    def places_here(self) -> Iterator[tuple[str, Fingerprint, str]]:
        """User, peer and connection of every peer that is online in this process, as the Books have it."""
        for shelf in self._shelves.values():
            for fp, place in shelf.book.online.items() if shelf.book else ():
                if place.process == self._bus.process:
                    yield shelf.uid, fp, place.connection

    async def close(self) -> None:
        """This process holds no Book any more; the other processes need not tell it of changes."""
        await self.store.lose_interest(self._shelves, self._bus.process)

    async def read(self, uid: str) -> Book | None:
        """The Book as it stands in the store, without holding it."""
        report = await self.store.load(uid)
        return Book.of(report) if report else None

    # Acts. Each raises NotFound, NameTaken, BookFull or Unreachable, and then has changed nothing.

    async def ask(
        self, uid: str, address: Address | None, device: Device, *, waiter: str | None = None, silently: bool = False
    ) -> str:
        """A device asks to enter: `verified`, `invited`, `asked`, `denied`, or `unknown` where there is no such user.

        It is `full` where too many others are waiting for their answer. `waiter` is the connection that waits, if one
        does. `silently`: it is `unasked` where it would have to be asked about.
        """
        given = {
            "address": address.typed if address else None,
            "fp": device.fp,
            "claim": device.claim,
            "name": name_given(device.name, exact=False),
            "kind": device.kind,
            "place": device.place,
            "invite": device.invite,
            "most": 0 if silently else self._most_requests,
            "most_near": self._most_near,
            "most_peers": self.most_peers,
            "seconds": self._request_seconds,
            "waiter": waiter,
            "live": self._wait_seconds,
        }
        answer = await self.store.run("ask", uid, {key: value for key, value in given.items() if value is not None})
        self._spread(answer)
        if answer.outcome in ("asked", "invited", "denied", "full"):
            self._note(answer.outcome, device.fp)
        if answer.outcome in ("verified", "invited") and answer.report:
            await self._found(uid, device.fp)
        return answer.outcome

    async def certify(self, uid: str, device: Device) -> None:
        """A device that waits has shown its certificate, so that its request is one of that claim."""
        self._spread(await self.store.run("certify", uid, {"fp": device.fp, "claim": device.claim}))

    async def rekey(self, uid: str, fp: Fingerprint, to: Fingerprint, claim: str, *, proved: bool) -> None:
        """A peer takes another fingerprint, with this claim, which was `proved` at once or is only named.

        Raises WeakerProof where the claim is less than it was.
        """
        given = {"fp": fp, "to": to, "claim": claim, "proved": proved, "seconds": REMOVED_SECONDS}
        await self._act("rekey", uid, given)
        await self._unindex(fp, uid)
        await self._found(uid, to)

    async def uid_for(self, address: Address) -> str:
        """The uid of the user with that address; a new one where there is none, for whoever makes that user now."""
        return await self.store.enroll(address, secrets.token_hex(16), self._request_seconds)

    async def enroll(self, address: Address) -> str:
        """The uid of the user with that address, who is made if need be."""
        uid = await self.uid_for(address)
        await self.store.run("enroll", uid, {"address": address.typed, "seconds": self._request_seconds})
        return uid

    async def approve(
        self,
        uid: str,
        fp: Fingerprint,
        *,
        rid: str | None = None,
        name: str | None = None,
        replaces: Fingerprint | None = None,
    ) -> None:
        """Let a device in, under `name` or as it calls itself; or in the place of one that it `replaces`."""
        book = await self.read(uid)
        if name is None and book:
            requests = [
                request for request in book.requests.values() if request.fp == fp and rid in (None, request.rid)
            ]
            known = requests[0] if requests else book.peers.get(fp)
            given = name_given(known.name if known else "", exact=False)
        else:
            given = name_given(name or "", exact=True)
        options = {key: value for key, value in (("rid", rid), ("replaces", replaces)) if value}
        await self._act(
            "approve", uid, {"fp": fp, "name": given, "most": self.most_peers, "deny": REMOVED_SECONDS} | options
        )
        if replaces:
            await self._unindex(replaces, uid)
        await self._found(uid, fp)

    async def reject(self, uid: str, fp: Fingerprint, rid: str | None = None) -> None:
        """Turn a device away that asked; it is not asked about again for a day."""
        await self._act("reject", uid, {"fp": fp, "seconds": REJECTED_SECONDS} | ({"rid": rid} if rid else {}))

    async def add(self, uid: str, fp: Fingerprint, name: str, kind: str) -> None:
        """Enter a device ahead: it is in from the moment that it is seen."""
        given = {"fp": fp, "name": name_given(name, exact=True), "kind": kind, "most": self.most_peers}
        await self._act("add", uid, given)
        await self._found(uid, fp)

    async def rename(self, uid: str, fp: Fingerprint, name: str) -> None:
        """Give a peer another name."""
        await self._act("rename", uid, {"fp": fp, "name": name_given(name, exact=True)})

    async def note_outcome(self, uid: str, fp: Fingerprint, report: ReportOutcome) -> None:
        """Keep how a peer's latest connection went, for the owner's page."""
        outcome: dict[str, object] = {
            "fp": fp,
            "target": report.target,
            "result": report.result,
            "milliseconds": report.milliseconds,
        }
        await self._act("note_outcome", uid, outcome)

    async def revoke(self, uid: str, fp: Fingerprint) -> None:
        """Shut a peer out until its owner approves or removes it; its connection ends at once."""
        await self._act("revoke", uid, {"fp": fp})
        await self._unindex(fp, uid)

    async def remove(self, uid: str, fp: Fingerprint) -> None:
        """Take a peer out of the book; its connection ends at once."""
        await self._act("remove", uid, {"fp": fp, "seconds": REMOVED_SECONDS})
        await self._unindex(fp, uid)

    async def invite(self, uid: str) -> str:
        """A new invite's code: the first device that brings it within an hour is in."""
        code = new_invite()
        digest = invite_digest(code)
        assert digest is not None
        self._spread(await self.store.keep_invite(uid, digest, most=invites.MOST, seconds=invites.SECONDS))
        return code

    async def import_peers(self, uid: str, peers: Iterable[tuple[Fingerprint, str, str]]) -> None:
        """Enter devices ahead (fingerprint, name, kind), as far as they are not in the book and it has place."""
        entries = [{"fp": fp, "name": name_given(name, exact=False), "kind": kind} for fp, name, kind in peers]
        answer = await self.store.run("import", uid, {"peers": entries, "most": self.most_peers})
        self._spread(answer)
        for fp in answer.report.peers if answer.report else ():
            await self._found(uid, fp)

    async def require_proof(self, uid: str, on: bool) -> None:
        """Demand proof from all devices: those that did not prove themselves wait outside, until it is demanded no more."""
        answer = await self.store.run("require_proof", uid, {"on": on})
        self._spread(answer)
        for fp, peer in answer.report.peers.items() if answer.report and not on else ():
            if peer and peer.state != "revoked":
                await self._found(uid, fp)

    async def note(self, uid: str, what: str, name: str = "", detail: str = "") -> None:
        """Write a line into the book's activity."""
        self._spread(await self.store.run("note", uid, {"what": what, "name": name, "detail": detail}))

    async def settle(self, uid: str, address: Address, browser: str, detail: str) -> str:
        """The owner came by a mailed link: `settled`, `new browser`, or `unknown` where there is no such user."""
        return self._spread(await self.store.settle(uid, address, browser, detail))

    async def sign_out(self, uid: str, generation: int | None = None) -> bool:
        """Make all links and sessions void; False where `generation` is given and is not the present one."""
        given = {} if generation is None else {"generation": generation}
        return self._spread(await self.store.run("sign_out", uid, given)) == "signed out"

    async def erase(self, uid: str, address: Address) -> None:
        """Delete the account: everything goes, and whoever is connected is shut out."""
        self._spread(await self.store.erase(uid, address))

    async def admit(
        self,
        uid: str,
        fp: Fingerprint,
        claim: str,
        connection: str,
        *,
        named: bool,
        demanded: bool,
        again: bool = False,
    ) -> tuple[str, int]:
        """Make a connection of this process the place where the peer is online, by `none` or by a claim that it proved.

        It is `in`, or `out`, or in and its `proof changed`; and that from this version of the Book on, 0 where it is
        out. `named`: the connection names this user; `demanded`: the server demands proof; `again`: it was here all the
        time, so where another process has the peer by now it is `elsewhere`.
        """
        given: dict[str, object] = {"fp": fp, "claim": claim, "named": named, "demanded": demanded}
        given |= {"process": self._bus.process, "connection": connection, "again": again}
        answer = await self.store.run("admit", uid, given)
        return self._spread(answer), answer.report.version if answer.report else 0

    async def leave(self, uid: str, fp: Fingerprint, connection: str) -> None:
        """A connection of this process is not in that book any more."""
        self._spread(await self.store.run("leave", uid, self._leaving(fp, connection)))

    async def depart(self, departures: Sequence[Departure]) -> None:
        """Connections of this process ended."""
        calls: list[tuple[str, str, dict[str, str]]] = []
        for each in departures:
            if each.left:
                calls.append(("leave", each.left, self._leaving(each.device.fp, each.connection)))
            if each.asked:
                asked = {"fp": each.device.fp, "claim": each.device.claim, "waiter": each.connection}
                calls.append(("unwait", each.asked, asked))
        await self.store.stop_waiting_for(
            [each.device.fp for each in departures if each.last_unnamed], self._bus.process
        )
        for answer in await self.store.run_all(calls):
            self._spread(answer)

    def _leaving(self, fp: Fingerprint, connection: str) -> dict[str, str]:
        return {"fp": fp, "process": self._bus.process, "connection": connection}

    async def forget(self, uid: str, process: str) -> None:
        """A process is no more: whoever was online there is offline."""
        self._spread(await self.store.run("forget", uid, {"process": process}))

    def _note(self, decided: str, fp: object) -> None:
        self._tally.add("decisions", decided)
        log.info("event=%s peer=%.8s", decided, fp)

    async def _act(self, script: str, uid: str, given: dict[str, object]) -> None:
        match self._spread(await self.store.run(script, uid, given)):
            case "unknown":
                raise NotFound
            case "taken":
                raise NameTaken
            case "full":
                raise BookFull
            case "known":
                raise AlreadyInBook
            case "weaker":
                raise WeakerProof
        if script in _DONE:
            self._note(_DONE[script], given["fp"])

    async def _found(self, uid: str, fp: Fingerprint) -> None:
        """It is in: whoever waits for that hears of it. The act is done by now, so it does not fail if this does."""
        try:
            await self._index(uid, fp)
        except Unreachable:
            self._background.start(self._index_later(uid, fp))

    async def _index_later(self, uid: str, fp: Fingerprint) -> None:
        while True:
            await asyncio.sleep(_RETRY_SECONDS)
            with contextlib.suppress(Unreachable):
                return await self._index(uid, fp)

    async def _index(self, uid: str, fp: Fingerprint) -> None:
        for process in await self.store.index(fp, uid):
            with contextlib.suppress(Unreachable):  # it looks again by itself before long
                self._bus.publish(process, Found(fp, uid))

    async def _unindex(self, fp: Fingerprint, uid: str) -> None:
        with contextlib.suppress(Unreachable):  # an entry too many does no harm: every reader looks into the book
            await self.store.unindex(fp, uid)

    # Following

    def _spread(self, answer: Answer) -> str:
        if answer.report:
            uid = answer.report.owner.uid
            self._bus.tell(
                answer.report.interested,
                Changed(answer.report),
                lambda process: self._background.start(self._forget_if_dead(uid, process)),
            )
            self._follow(answer.report)
        return answer.outcome

    async def _forget_if_dead(self, uid: str, process: str) -> None:
        if await self.is_dead(process):
            await self.forget(uid, process)

    def _follow(self, report: Report) -> None:
        """Apply a report to the Book if it is held: in order of versions, and after a gap by loading it anew."""
        shelf = self._shelves.get(report.owner.uid)
        if shelf is None:
            return
        if shelf.pending is not None:
            shelf.pending.append(report)
        elif shelf.book is not None and report.version > shelf.book.version:
            shelf.ahead[report.version] = report
            while next_one := shelf.ahead.pop(shelf.book.version + 1, None):
                self._apply(shelf, shelf.book, next_one)
            self._expect_the_missing(shelf)

    def _expect_the_missing(self, shelf: _Shelf) -> None:
        """Two acts at once may be answered in the other order; what does not come soon was lost, and is read anew."""
        if not shelf.ahead and shelf.catch_up:
            shelf.catch_up.cancel()
            shelf.catch_up = None
        elif shelf.ahead and shelf.catch_up is None:
            shelf.catch_up = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._give_up, shelf)

    def _give_up(self, shelf: _Shelf) -> None:
        shelf.catch_up = None
        shelf.ahead.clear()
        self._background.start(self._reload(shelf))

    def _apply(self, shelf: _Shelf, book: Book, report: Report) -> None:
        change = book.apply(report)
        updates = self._absences.sift(shelf.uid, change.updates, lambda update: self._tell_later(shelf, update))
        self._notify(shelf, replace(change, updates=updates))

    def _tell_later(self, shelf: _Shelf, update: Update) -> None:
        self._notify(shelf, Change(updates=(update,)))

    @staticmethod
    def _notify(shelf: _Shelf, change: Change) -> None:
        for listener in tuple(shelf.listeners):
            listener(change)

    async def _load(self, shelf: _Shelf, *, first: bool, whole: bool = False) -> None:
        """Load under the shelf's lock. Reports that arrive meanwhile wait, and those that are newer follow.

        `first`: not where somebody else has just loaded it. `whole`: its version says nothing.
        """
        async with shelf.lock:
            if first and not shelf.behind:
                return
            is_new, shelf.pending = shelf.book is None, []
            try:
                report = await self.store.load(shelf.uid, self._bus.process)
                self._replace(shelf, report, whole=whole)
            finally:
                pending, shelf.pending = shelf.pending, None
                for late in pending:
                    self._follow(late)
            if is_new and report:
                await self._forget_the_dead_of(shelf, report.interested)

    def _replace(self, shelf: _Shelf, report: Report | None, *, whole: bool) -> None:
        """What was loaded takes the place of what there was; where that has its version, only where `whole`."""
        shelf.ahead.clear()
        self._expect_the_missing(shelf)
        if report is None:
            if shelf.book is not None:
                self._lose(shelf)
        elif shelf.book is None:
            shelf.book = Book.of(report)
        elif whole or report.version != shelf.book.version or report.owner != shelf.book.owner:
            self._apply(shelf, shelf.book, report)

    def _lose(self, shelf: _Shelf) -> None:
        """The store came back without this book. Nothing is written from memory, so that nothing revoked rises again."""
        shelf.book = None
        self._notify(shelf, Change(lost=True))

    async def _reload(self, shelf: _Shelf) -> None:
        while shelf.listeners:
            try:
                return await self._load(shelf, first=False)
            except Unreachable:
                await asyncio.sleep(_RETRY_SECONDS)
        shelf.book = None  # nobody needs it now, and whoever comes next must not find it stale

    def _drop_later(self, shelf: _Shelf) -> None:
        if not shelf.listeners and shelf.drop is None:
            shelf.drop = asyncio.get_running_loop().call_later(_KEEP_SECONDS, self._begin_drop, shelf)

    def _begin_drop(self, shelf: _Shelf) -> None:
        self._background.start(self._drop(shelf))

    async def _drop(self, shelf: _Shelf) -> None:
        """Let go of a Book that nobody needs. Whoever comes meanwhile waits for the lock and loads it anew."""
        async with shelf.lock:
            shelf.drop = None
            if shelf.listeners:
                return
            shelf.book = None
            try:
                await self.store.lose_interest([shelf.uid], self._bus.process)
            except Unreachable:
                return self._drop_later(shelf)
        if not shelf.listeners:
            if shelf.drop:  # somebody came meanwhile, and is gone again
                shelf.drop.cancel()
            self._shelves.pop(shelf.uid, None)


def _is_stale(book: Book, version: int | None, gap: bool) -> bool:
    """Whether the store has another version. Without a gap, a lower one was read before what was heard since."""
    return version is None or version > book.version or (gap and version < book.version)


def _processes_in(book: Book | None) -> set[str]:
    """The processes in which peers of the book are online."""
    return {place.process for place in book.online.values()} if book else set()
