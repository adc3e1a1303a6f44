"""Presence: a connection arrives, waits or is let in, hears of the others, and leaves; and this process's lease."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable
from functools import lru_cache, partial

from app.addresses import Address
from app.asking import Asking
from app.background import Background
from app.book import Book, Change, Update
from app.books import Books
from app.bus import Bus, Found
from app.closecodes import CloseCode
from app.connections import Connection, Connections, Stage
from app.errors import Unreachable
from app.messages import encode_error, encode_peers, encode_update, encode_waiting, encode_welcome
from app.owners import OwnerName, Uid
from app.peers import NO_CLAIM, Peer

log = logging.getLogger("peerbook.presence")

LEASE_SECONDS = 30
_REFRESH_SECONDS = 10.0

_WAITING = "Waiting for the owner to approve this device."
_UNPROVED = "The owner of this book demands that devices prove themselves."
_DENIED = "The owner of this book does not want this device."


class Presence:
    """Who is here. Everything that happens to a connection follows from its Book."""

    def __init__(
        self,
        books: Books,
        bus: Bus,
        connections: Connections,
        asking: Asking,
        background: Background,
        *,
        wait_timeout: int,
    ) -> None:
        self._books = books
        self._process = bus.process
        self._connections = connections
        self._asking = asking
        self._background = background
        self._wait_timeout = wait_timeout
        self._lease: asyncio.Task[None] | None = None
        bus.hear(Found, self._found)

    async def open(self) -> None:
        """Take the lease that says this process is alive."""
        await self._books.store.keep_lease(self._process, LEASE_SECONDS)
        self._lease = asyncio.create_task(self._keep_lease())

    async def close(self) -> None:
        """Give the lease back."""
        if self._lease:
            self._lease.cancel()
        with contextlib.suppress(Unreachable):
            await self._books.store.end_lease(self._process)

    async def arrive(self, connection: Connection) -> None:
        """Find the connection's book and let it in, or have it wait for its owner."""
        self._connections.add(connection)
        try:
            if connection.owner is None:
                await self._arrive_unnamed(connection)
            else:
                await self._arrive_named(connection, connection.owner)
        except Unreachable as error:
            connection.send(encode_error(error))
            connection.end(CloseCode.TRY_AGAIN_LATER, "out of reach")

    async def leave(self, connection: Connection) -> None:
        """The socket is gone."""
        was, connection.stage = connection.stage, Stage.ENDED
        self._connections.discard(connection)
        self._stop_timer(connection)
        book = connection.book
        self._let_go(connection)
        if self._connections.stop_unnamed(connection):
            await self._books.store.stop_waiting_for(connection.fp, self._process)
        log.info("event=left peer=%s", connection.fp[:8])
        if book and was is Stage.IN:
            await self._books.leave(book.uid, connection.fp, connection.id)

    # Arriving

    async def _arrive_named(self, connection: Connection, owner: OwnerName) -> None:
        """Its owner's book or none: a connection that names an owner never enters another book."""
        uid: str | None = await self._books.store.uid_of(owner) if isinstance(owner, Address) else owner
        if uid and await self._enter(connection, uid):
            return
        ask = await self._asking.ask(owner, connection.device)
        if ask.verified and ask.uid and await self._enter(connection, ask.uid):
            return
        pair = None if ask.verified else ask.pair
        if ask.denied:
            connection.send(encode_waiting(_DENIED, None, connection.first_nonce()))
            connection.end(CloseCode.REJECTED, "denied")
            return
        if ask.uid and connection.book is None:
            await self._hold(connection, ask.uid)
        self._wait(connection, pair)

    async def _arrive_unnamed(self, connection: Connection) -> None:
        """The book that its invite opens, or that has its fingerprint; where there is none it waits until there is."""
        invite = connection.device.invite
        uid = await self._books.store.uid_of_invite(invite) if invite else None
        if uid and await self._asking.invited(Uid(uid), connection.device):
            if await self._enter(connection, uid):
                return
            self._let_go(connection)
        connection.looking = asyncio.Lock()
        if await self._enter_any(connection, await self._books.store.books_of(connection.fp)):
            return
        if connection.ended:
            return
        self._connections.wait_unnamed(connection)
        self._wait(connection, None)
        await self._look_again(connection, self._books.store.wait_for(connection.fp, self._process, self._wait_timeout))

    async def _look_again(self, connection: Connection, uids: Awaitable[set[str]]) -> None:
        """One look after the other, so that two approvals at once don't let it in twice."""
        assert connection.looking is not None
        async with connection.looking:
            if await self._enter_any(connection, await uids) and self._connections.stop_unnamed(connection):
                await self._books.store.stop_waiting_for(connection.fp, self._process)

    async def _enter_any(self, connection: Connection, uids: set[str]) -> bool:
        """Enter one of the books: one with a proven claim first, then the one that verified it earliest."""
        found: list[tuple[bool, bool, int, str]] = []
        for uid in uids:
            book = await self._books.read(uid)
            peer = book.peers.get(connection.fp) if book else None
            if book and peer and _lets_in(book, connection):
                found.append((not peer.verified, peer.claim == NO_CLAIM, peer.verified_on, uid))
        for *_, uid in sorted(found):
            if connection.stage in (Stage.ARRIVING, Stage.WAITING):
                if await self._enter(connection, uid):
                    return True
                self._let_go(connection)
        return False

    async def _enter(self, connection: Connection, uid: str) -> bool:
        """Hold that book and come in, where its owner lets this device in."""
        if connection.book is None:
            await self._hold(connection, uid)
        if connection.ended or connection.book is None or not _lets_in(connection.book, connection):
            return False
        return await self._admit(connection)

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
        connection.stage = Stage.WAITING
        log.info("event=waiting peer=%s", connection.fp[:8])
        peer = connection.book.verified(connection.fp) if connection.book else None
        connection.send(encode_waiting(_UNPROVED if peer else _WAITING, pair, connection.first_nonce()))
        connection.timer = asyncio.get_running_loop().call_later(
            self._wait_timeout, connection.end, CloseCode.UNANSWERED, "nobody answered in time"
        )
        self._settle(connection)

    # Being let in

    async def _admit(self, connection: Connection) -> bool:
        assert connection.book is not None
        before, connection.stage = connection.stage, Stage.ADMITTING
        uid, version = connection.book.uid, connection.book.version
        admitted = await self._books.admit(
            uid, connection.fp, connection.device.claim, connection.id, proved=connection.proved
        )
        if connection.ended:
            if admitted:  # its socket went away meanwhile, and left before it had come
                await self._books.leave(uid, connection.fp, connection.id)
            return False
        if not admitted:
            connection.stage = before
            if connection.book.version != version:
                self._settle(connection)  # what changed while it was being let in was not looked at
            return False
        self._welcome(connection, connection.book)
        return True

    async def _admit_later(self, connection: Connection) -> None:
        try:
            await self._admit(connection)
        except Unreachable as error:
            connection.send(encode_error(error))
            connection.end(CloseCode.TRY_AGAIN_LATER, "out of reach")

    def _welcome(self, connection: Connection, book: Book) -> None:
        """200, then the list, then whatever came for it meanwhile."""
        self._stop_timer(connection)
        connection.stage = Stage.IN
        log.info("event=in peer=%s", connection.fp[:8])
        connection.send(encode_welcome(book.uid, connection.first_nonce()))
        connection.send(encode_peers(book.uid, book.listed(), book.online))
        early, connection.early = connection.early, []
        for frame in early:
            connection.send(frame)
        self._settle(connection)

    def _found(self, event: Found) -> None:
        for connection in self._connections.unnamed(event.fp):
            self._background.start(self._look_again(connection, self._books.store.books_of(connection.fp)))

    # Hearing

    def _hear(self, connection: Connection, change: Change) -> None:
        """Its Book changed."""
        if connection.stage is Stage.IN:
            for update in change.updates:
                if update.fp != connection.fp or update.renamed:
                    connection.send(_encode(update))
            if change.whole and connection.book:
                connection.send(encode_peers(connection.book.uid, connection.book.listed(), connection.book.online))
        if change.owner or connection.fp in change.fps or connection.device.rid in change.rids:
            self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        """Do what the Book says of this connection: let it in, shut it out, or nothing."""
        book = connection.book
        if book is None:
            return
        peer = book.peers.get(connection.fp)
        if connection.stage is Stage.IN:
            place = book.online.get(connection.fp)
            if peer is None or not peer.verified:
                connection.end(CloseCode.REJECTED, "revoked or removed")
            elif not _lets_in(book, connection):
                self._background.start(self._books.leave(book.uid, connection.fp, connection.id))
                self._wait(connection, None)
            elif place is None:
                self._background.start(self._admit_again(connection, book))
            elif (place.process, place.connection) != (self._process, connection.id):
                connection.end(CloseCode.REPLACED, "connected elsewhere")
        elif connection.stage is Stage.WAITING:
            if _lets_in(book, connection):
                self._background.start(self._admit_later(connection))
            elif _is_denied(book, connection, peer):
                connection.end(CloseCode.REJECTED, "rejected")

    async def _admit_again(self, connection: Connection, book: Book) -> None:
        """Somebody took this process for dead: say that the peer is still here."""
        if connection.stage is Stage.IN and connection.fp not in book.online:
            await self._books.admit(
                book.uid, connection.fp, connection.device.claim, connection.id, proved=connection.proved
            )

    @staticmethod
    def _stop_timer(connection: Connection) -> None:
        if connection.timer:
            connection.timer.cancel()
            connection.timer = None

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            try:
                await self._books.store.keep_lease(self._process, LEASE_SECONDS)
            except Unreachable:
                continue  # the next turn tries again; the lease outlives two that fail


def _lets_in(book: Book, connection: Connection) -> bool:
    return book.lets_in(connection.fp, connection.device.claim, proved=connection.proved)


def _is_denied(book: Book, connection: Connection, peer: Peer | None) -> bool:
    return (peer is not None and peer.state == "revoked") or book.denies(connection.device.rid, time.time())


@lru_cache(maxsize=64)
def _encode(update: Update) -> bytes:
    """One update goes to every peer of a book, so it is encoded once."""
    return encode_update(update.fp, update.name, verified=update.verified, online=update.online)
