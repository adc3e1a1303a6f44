"""Presence: a connection arrives, waits or is let in, hears of the others, and leaves; and this process's lease."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial

from app.addresses import Address
from app.admission import Admission
from app.asking import Asking
from app.background import Background
from app.book import Book, Change, Door, Update
from app.books import Books, Departure
from app.bus import Bus, Found
from app.claims import CERTIFICATE, is_secret, proof_by
from app.closecodes import CloseCode
from app.connections import Connection, Connections, Stage
from app.errors import NoRoom, PeerbookError, TooMany, Unreachable
from app.faults import fault
from app.messages import (
    encode_error,
    encode_peers,
    encode_proof_due,
    encode_update,
    encode_waiting,
    encode_welcome,
)
from app.notices import Notices
from app.owners import OwnerName, Uid
from app.peers import Fingerprint
from app.tally import Tally
from app.wheel import Wheel

log = logging.getLogger("peerbook.presence")

LEASE_SECONDS = 30
PROOF_SECONDS = 20.0
"""How long a connection has to prove itself."""

_REFRESH_SECONDS = 9.0  # what was missed is made up for within 10 s, and who was killed is offline within 40
_RETRY_SECONDS = 0.5

_WAITING = "Waiting for the owner to approve this device."
_UNPROVED = "The owner of this book demands that devices prove themselves."
_PROOF_DUE = "Prove that you are this device."
_DENIED = "The owner of this book does not want this device."


class Presence:
    """Who is here. Everything that happens to a connection follows from its Book."""

    def __init__(
        self,
        books: Books,
        bus: Bus,
        connections: Connections,
        admission: Admission,
        asking: Asking,
        notices: Notices,
        background: Background,
        tally: Tally,
        wheel: Wheel,
        *,
        wait_timeout: int,
        require_proof: bool,
    ) -> None:
        self._books = books
        self._process = bus.process
        self._connections = connections
        self._admission = admission
        self._asking = asking
        self._notices = notices
        self._background = background
        self._tally = tally
        self._wheel = wheel
        self._wait_timeout = wait_timeout
        self._require_proof = require_proof
        self.proof_timeout = PROOF_SECONDS
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False  # asked by the loops too, since the store's client may swallow a cancellation
        self._unsaid: set[tuple[str, Fingerprint, str]] = set()
        bus.hear(Found, self._found)
        bus.after_gap(self._renew)

    async def open(self) -> None:
        """Take the lease that says this process is alive."""
        await self._keep_lease()
        self._tasks = [asyncio.create_task(self._repeat(each)) for each in (self._keep_lease, self._refresh)]

    async def close(self) -> None:
        """Give the lease back; raises Unreachable."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # cut off in a command, one would leave that open
        await self._books.store.end_lease(self._process)

    async def arrive(self, connection: Connection) -> None:
        """Find the connection's book and let it in, or have it wait for its owner; unless it is gone already."""
        if connection.ended:
            return
        self._connections.add(connection)
        self._note("arrived", connection)
        self._admission.arrives(connection)
        try:
            await self._find_book(connection)
        except TooMany as error:
            connection.send(encode_error(error))
            connection.end(CloseCode.FLOODING, "too many asks")

    def _note(self, event: str, connection: Connection) -> None:
        self._tally.add("arrivals", event)
        log.info("event=%s connection=%s peer=%s", event, connection.id, connection.fp[:8])

    async def _find_book(self, connection: Connection) -> None:
        """Raises TooMany where its network asks too often."""
        try:
            if connection.owner is None:
                await self._arrive_unnamed(connection)
            else:
                await self._arrive_named(connection, connection.owner)
        except (NoRoom, Unreachable) as error:
            self._send_off(connection, error)

    @staticmethod
    def _send_off(connection: Connection, error: PeerbookError) -> None:
        connection.send(encode_error(error))
        connection.end(CloseCode.TRY_AGAIN_LATER, "no room" if isinstance(error, NoRoom) else "out of reach")

    def leave(self, connection: Connection) -> Callable[[], Awaitable[None]]:
        """The socket is gone, and nothing reaches it from now on. Returns what tells the store, to be called."""
        return partial(self._depart, [] if connection.ended else [self._part(connection)])

    def send_away(self, connections: Sequence[Connection]) -> None:
        """The server stops: end them, and tell the store of all in one go, without waiting for their answers."""
        for connection in connections:
            connection.end(CloseCode.GOING_AWAY, "the server restarts")
        self._background.start(self._depart([self._part(connection) for connection in connections]))

    def _part(self, connection: Connection) -> Departure:
        """It is here no more; returns what the store has to hear of that."""
        book, was, connection.stage = connection.book, connection.stage, Stage.ENDED
        if self._connections.discard(connection):
            self._note("left", connection)
        self._admission.leave(connection)
        self._stop_timer(connection)
        self._let_go(connection)
        return Departure(
            connection.device,
            connection.id,
            left=book.uid if book and was is Stage.IN else None,
            asked=book.uid if book and was is not Stage.IN and _has_asked(book, connection.fp) else None,
            last_unnamed=self._connections.stop_unnamed(connection),
        )

    async def _depart(self, departures: Sequence[Departure]) -> None:
        """Tell the store who left; where that fails it is told again later, so that nobody is online for ever."""
        left = {(each.left, each.device.fp, each.connection) for each in departures if each.left}
        self._unsaid |= left
        await self._books.depart(departures)
        self._unsaid -= left

    async def _say_left(self, uid: str, fp: Fingerprint, connection: str) -> None:
        self._unsaid.add((uid, fp, connection))
        await self._books.leave(uid, fp, connection)
        self._unsaid.discard((uid, fp, connection))

    # Keeping the truth

    async def _renew(self) -> None:
        """Events may have been missed: read what changed, tell every local peer how things stand, go on until it is done."""
        while not self._closed:
            try:
                await self._keep_lease()
                return await self._refresh(tell=True)
            except Unreachable:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _refresh(self, *, tell: bool = False) -> None:
        """Compare what this process holds with the store, and say what could not be said before. Raises Unreachable."""
        await self._books.check(tell=tell)
        if not tell:  # after an outage of the store all leases may be over, and the others renew theirs just now
            await self._books.forget_the_dead()
        ghosts = [place for place in self._books.places_here() if not self._is_in(place[2])]
        for uid, fp, name in self._unsaid.union(ghosts):
            await self._say_left(uid, fp, name)
        for connection in self._connections.all_looking():
            await self._look_everywhere(connection)

    def _is_in(self, name: str) -> bool:
        connection = self._connections.get(name)
        return connection is not None and connection.stage in (Stage.ADMITTING, Stage.IN)

    # Arriving

    async def _arrive_named(self, connection: Connection, owner: OwnerName) -> None:
        """Its owner's book or none: a connection that names an owner never enters another book."""
        uid: str | None = await self._books.store.uid_of(owner) if isinstance(owner, Address) else owner
        if uid and await self._enter(connection, uid):
            return
        if connection.ended:
            return
        if connection.book and self._is_denied(connection.book, connection) and not connection.device.invite:
            return self._turn_away(connection)
        if not connection.device.invite:
            self._admission.let_wait(connection)
        ask = await self._asking.ask(owner, connection.device, "ws", connection.id)
        if ask.verified and ask.uid and await self._enter(connection, ask.uid):
            return
        if ask.denied:
            return self._turn_away(connection)
        if ask.uid and connection.book is None:
            await self._hold(connection, ask.uid)
        self._wait(connection, None if ask.verified else ask.pair)

    def _turn_away(self, connection: Connection) -> None:
        connection.send(encode_waiting(_DENIED, None, connection.first_nonce()))
        connection.end(CloseCode.REJECTED, "denied")

    async def _arrive_unnamed(self, connection: Connection) -> None:
        """The book that its invite opens, or that has its fingerprint; where there is none it waits until there is."""
        if connection.device.invite and await self._arrive_invited(connection, connection.device.invite):
            return
        connection.looking = asyncio.Lock()
        if await self._enter_any(connection, await self._books.store.books_of(connection.fp)):
            return
        if connection.ended:
            return
        self._admission.let_wait(connection)
        await self._asking.count(connection.device, "ws")
        if connection.ended:
            return
        self._connections.wait_unnamed(connection)
        self._wait(connection, None)
        await self._look_everywhere(connection)

    async def _arrive_invited(self, connection: Connection, invite: str) -> bool:
        uid = await self._books.store.uid_of_invite(invite)
        if uid is None or not await self._asking.invited(Uid(uid), connection.device):
            return False
        connection.named = True
        if await self._enter(connection, uid):
            return True
        self._let_go(connection)
        connection.named = False
        return False

    async def _look_everywhere(self, connection: Connection) -> None:
        """Look into every book that may have its fingerprint, and be found by those that will."""
        uids = await self._books.store.wait_for(connection.fp, self._process, self._wait_timeout)
        await self._look_at(connection, uids)

    async def _look_at(self, connection: Connection, uids: set[str]) -> None:
        """One look after the other, so that two approvals at once don't let it in twice."""
        assert connection.looking is not None
        async with connection.looking:
            if await self._enter_any(connection, uids) and self._connections.stop_unnamed(connection):
                await self._books.store.stop_waiting_for([connection.fp], self._process)

    async def _enter_any(self, connection: Connection, uids: set[str]) -> bool:
        """Enter one of the books, or be asked for proof there.

        First the one where its certificate was proved, which nobody else can do; then the one that verified it earliest.
        """
        found: list[tuple[bool, bool, bool, int, str]] = []
        for uid in uids:
            book = await self._books.read(uid)
            if book and self._door(connection, book)[0] in (Door.OPEN, Door.PROOF_DUE):
                peer = book.peers[connection.fp]
                found.append(
                    (peer.claim != CERTIFICATE, is_secret(peer.claim), not peer.verified, peer.verified_on, uid)
                )
        for *_, uid in sorted(found):
            if connection.stage in (Stage.ARRIVING, Stage.WAITING) and connection.due is None:
                try:
                    if await self._enter(connection, uid):
                        return True
                except Unreachable:
                    self._let_go(connection)  # so that it is looked for again
                    raise
                self._let_go(connection)
        return False

    async def _enter(self, connection: Connection, uid: str) -> bool:
        """Hold that book and do what it says. False where it does not know this device."""
        if connection.book is None:
            await self._hold(connection, uid)
        if connection.ended or connection.book is None:
            return False
        door, by = self._door(connection, connection.book)
        if door is Door.OPEN:
            return await self._admit(connection) or connection.due is not None
        if door is Door.PROOF_DUE:
            self._demand(connection, by)
        elif door is Door.PROOF_DEMANDED and connection.named:
            self._wait(connection, None)
        else:
            return False
        return True

    def _door(self, connection: Connection, book: Book) -> tuple[Door, str]:
        return book.door(
            connection.fp, connection.claim, connection.shown, named=connection.named, demanded=self._require_proof
        )

    def _let_go(self, connection: Connection) -> None:
        if connection.book and connection.listener:
            self._books.release(connection.book.uid, connection.listener)
            connection.book = connection.listener = None

    async def _hold(self, connection: Connection, uid: str) -> None:
        listener = partial(self._hear, connection)
        book = await self._books.hold(uid, listener)
        if connection.ended:
            self._books.release(uid, listener)
        elif book:
            connection.book, connection.listener = book, listener

    def _wait(self, connection: Connection, pair: str | None) -> None:
        if connection.ended:
            return
        try:
            self._admission.let_wait(connection)
        except NoRoom as error:
            return self._send_off(connection, error)
        connection.stage, connection.due = Stage.WAITING, None
        self._note("waiting", connection)
        shut_out = connection.book and self._door(connection, connection.book)[0] is Door.PROOF_DEMANDED
        connection.send(encode_waiting(_UNPROVED if shut_out else _WAITING, pair, connection.first_nonce()))
        self._end_after(self._wait_timeout, connection, CloseCode.UNANSWERED, "nobody answered in time")
        self._settle(connection)

    def _demand(self, connection: Connection, claim: str) -> None:
        """It is verified, and has to prove itself."""
        self._admission.leave(connection)
        connection.stage, connection.due = Stage.WAITING, claim
        self._note("proof_due", connection)
        connection.first_nonce()
        connection.send(encode_proof_due(_PROOF_DUE, proof_by(claim), connection.nonce))
        self._end_after(self.proof_timeout, connection, CloseCode.NOT_PROVED, "proof was due")

    def _end_after(self, seconds: float, connection: Connection, code: CloseCode, reason: str) -> None:
        self._stop_timer(connection)
        connection.timer = self._wheel.after(seconds, connection.end, code, reason)

    # Proving

    async def proved(self, connection: Connection, claim: str) -> None:
        """It has proved this claim: what that opens."""
        connection.shown |= {claim}
        if claim == CERTIFICATE and connection.claim != CERTIFICATE:
            if connection.stage is Stage.WAITING and connection.book:
                await self._books.certify(connection.book.uid, connection.device)
            connection.device = replace(connection.device, claim=CERTIFICATE)
        if connection.stage is Stage.IN:
            await self._admit_again(connection)
        elif connection.stage is Stage.WAITING and connection.book:
            if self._door(connection, connection.book)[0] is Door.OPEN:
                await self._admit(connection)
            else:
                self._settle(connection)
        elif connection.stage is Stage.WAITING and connection.looking:
            await self._look_at(connection, await self._books.store.books_of(connection.fp))

    # Being let in

    async def _admit(self, connection: Connection) -> bool:
        assert connection.book is not None
        before, connection.stage = connection.stage, Stage.ADMITTING
        book, version = connection.book, connection.book.version
        self._unsaid.discard((book.uid, connection.fp, connection.id))
        try:
            outcome = await self._come_in(connection, book)
        except Unreachable:
            self._unsaid.add((book.uid, connection.fp, connection.id))  # the store may have let it in all the same
            connection.early.clear()
            if not connection.ended:
                connection.stage = before
            raise
        if connection.ended:
            if outcome != "out":  # its socket went away meanwhile, and left before it had come
                await self._say_left(book.uid, connection.fp, connection.id)
            return False
        if outcome == "out":
            connection.stage = before
            if book.version != version:
                self._settle(connection)  # what changed while it was being let in was not looked at
            return False
        self._welcome(connection, book)
        return True

    async def _come_in(self, connection: Connection, book: Book, *, again: bool = False) -> str:
        """Have the store let it in, by the claim by which the book's door is open to it."""
        _, by = self._door(connection, book)
        outcome, since = await self._books.admit(
            book.uid,
            connection.fp,
            by,
            connection.id,
            named=connection.named,
            demanded=self._require_proof,
            again=again,
        )
        connection.since = max(connection.since, since)
        peer = book.verified(connection.fp)
        if outcome == "proof changed" and peer:
            self._notices.proof_changed(book, peer.name)
        return outcome

    async def _admit_later(self, connection: Connection) -> None:
        try:
            if connection.stage is Stage.WAITING:  # an earlier change may have let it in by now
                await self._admit(connection)
        except Unreachable as error:
            self._send_off(connection, error)

    def _welcome(self, connection: Connection, book: Book) -> None:
        """200, then the list, then whatever came for it meanwhile."""
        self._stop_timer(connection)
        self._admission.leave(connection)
        connection.stage, connection.due = Stage.IN, None
        self._note("in", connection)
        connection.send(encode_welcome(book.uid, connection.first_nonce()))
        connection.send(encode_peers(book.uid, book.listed(), book.online))
        early, connection.early = connection.early, []
        for frame in early:
            connection.send(frame)
        self._settle(connection)

    def _found(self, event: Found) -> None:
        for connection in self._connections.unnamed(event.fp):
            self._background.start(self._look_at(connection, {event.uid}))  # no other book has changed

    # Hearing

    def _hear(self, connection: Connection, change: Change) -> None:
        """Its Book changed. Where that shuts it out, it hears nothing more."""
        if change.lost:
            return self._background.start(self._arrive_again(connection))
        if change.owner or connection.fp in change.fps or connection.device.rid in change.rids:
            self._settle(connection)
        if connection.peer:
            for update in change.updates:
                if update.fp != connection.fp or update.renamed:
                    connection.send(_encode(update))
            if change.whole and connection.book:
                connection.send(encode_peers(connection.book.uid, connection.book.listed(), connection.book.online))

    async def _arrive_again(self, connection: Connection) -> None:
        """The store came back without its book: it has to ask like everybody else."""
        self._let_go(connection)
        if connection.ended:
            return
        self._stop_timer(connection)
        self._admission.keep(connection)
        connection.stage, connection.due = Stage.ARRIVING, None
        try:
            await self._find_book(connection)
        except TooMany as error:  # all who were here ask at once, so some ask when it is their turn
            self._wait(connection, None)
            self._stop_timer(connection)
            connection.timer = self._wheel.after(error.retry_after, self._begin_again, connection)

    def _begin_again(self, connection: Connection) -> None:
        self._background.start(self._arrive_again(connection))

    def _settle(self, connection: Connection) -> None:
        """Do what the Book says of this connection: let it in, ask it for proof, shut it out, or nothing."""
        book = connection.book
        if book is None or connection.rekeying:
            return
        door, by = self._door(connection, book)
        if connection.stage is Stage.IN:
            self._settle_inside(connection, book, door, by)
        elif connection.stage is Stage.WAITING:
            if door is Door.OPEN:
                self._background.start(self._admit_later(connection))
            elif door is Door.PROOF_DUE:
                if connection.due != by:
                    self._demand(connection, by)
            elif door is not Door.PROOF_DEMANDED and self._is_denied(book, connection):
                connection.end(CloseCode.REJECTED, "rejected")

    def _settle_inside(self, connection: Connection, book: Book, door: Door, by: str) -> None:
        if door in (Door.PROOF_DUE, Door.PROOF_DEMANDED):
            self._background.start(self._books.leave(book.uid, connection.fp, connection.id))
            if door is Door.PROOF_DUE:
                self._demand(connection, by)
            else:
                self._wait(connection, None)
        elif door is not Door.OPEN:
            connection.end(CloseCode.REJECTED, "revoked or removed")
        elif book.version >= connection.since:  # or else what it says of places is from before this admission
            place = book.online.get(connection.fp)
            if place is None or by != book.peers[connection.fp].claim:
                self._background.start(self._admit_again(connection))
            elif (place.process, place.connection) != (self._process, connection.id):
                connection.end(CloseCode.REPLACED, "connected elsewhere")

    async def _admit_again(self, connection: Connection) -> None:
        """Somebody took this process for dead: say that the peer is still here. Or it proves itself by more than before."""
        book = connection.book
        if connection.stage is not Stage.IN or book is None:
            return
        door, by = self._door(connection, book)
        if door is Door.OPEN and (connection.fp not in book.online or by != book.peers[connection.fp].claim):
            await self._come_in(connection, book, again=True)

    @staticmethod
    def _is_denied(book: Book, connection: Connection) -> bool:
        peer = book.peers.get(connection.fp)
        return (peer is not None and peer.state == "revoked") or book.denies(connection.device.rid, time.time())

    @staticmethod
    def _stop_timer(connection: Connection) -> None:
        if connection.timer:
            connection.timer.cancel()
            connection.timer = None

    async def _keep_lease(self) -> None:
        await self._books.store.keep_lease(self._process, LEASE_SECONDS)

    async def _repeat(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it every turn, whatever becomes of it. The lease has turns of its own: all else may take long."""
        while not self._closed:
            await asyncio.sleep(_REFRESH_SECONDS)
            try:
                await work()
            except Unreachable:
                continue  # the next turn tries again; the lease outlives two that fail
            except Exception as error:  # what befalls one book must not end it for all
                log.error("event=refresh_failed error=%s", fault(error))


def _has_asked(book: Book, fp: Fingerprint) -> bool:
    return any(request.fp == fp for request in book.requests.values())


@lru_cache(maxsize=64)
def _encode(update: Update) -> bytes:
    """One update goes to every peer of a book, so it is encoded once."""
    return encode_update(update.fp, update.name, verified=update.verified, online=update.online)
