"""Signaling: may this source reach that target? Then deliver.

Between two sockets of one process a message takes no step to the store; across processes it takes one PUBLISH.
"""

import contextlib
import itertools
import time
from collections.abc import Awaitable
from functools import partial

from app.background import Background
from app.book import Book, Place
from app.books import Books
from app.bus import Bus, Deliver, Gone
from app.closecodes import CloseCode
from app.connections import Connection, Connections
from app.contact import Contact
from app.descriptions import check_description
from app.errors import NotIn, Offline, PeerbookError, TooMany, UnknownTarget, Unreachable
from app.iceservers import IceServers
from app.messages import (
    BadMessage,
    Command,
    GetIceServers,
    GetList,
    MessageId,
    Prove,
    Rekey,
    Rename,
    ReportOutcome,
    Signal,
    encode_done,
    encode_error,
    encode_ice_servers,
    encode_peers,
    encode_signal,
    parse_message,
)
from app.peers import Fingerprint, Peer
from app.proving import MOST_FAILURES, Proving
from app.tally import Tally


class Signaling:
    """Serves the messages of connections."""

    def __init__(
        self,
        books: Books,
        bus: Bus,
        contact: Contact,
        connections: Connections,
        proving: Proving,
        background: Background,
        tally: Tally,
        ice_servers: IceServers,
    ) -> None:
        self._books = books
        self._background = background
        self._tally = tally
        self._proving = proving
        self._contact = contact
        self._under_way: dict[int, PeerbookError | None] = {}
        self._numbers = itertools.count(1)
        self._bus = bus
        self._connections = connections
        self._ice_servers = ice_servers
        bus.hear(Deliver, self._deliver)
        bus.hear(Gone, self._gone)

    def receive(self, connection: Connection, frame: bytes) -> Awaitable[None] | None:
        """Serve one message. What needs the store is returned to be awaited; the next message waits for it."""
        now = self._contact.clock()
        taken = connection.pace.takes(now, len(frame))
        if connection.pace.flooding:
            connection.end(CloseCode.FLOODING, "too many messages")
            return None
        try:
            command, message_id = parse_message(frame)
        except BadMessage as error:
            self._refuse(connection, error, error.message_id)
            return None
        try:
            if not taken:
                raise TooMany
            return self._serve(connection, command, message_id, now)
        except PeerbookError as error:
            self._refuse(connection, error, message_id)
            return None

    def _refuse(self, connection: Connection, error: PeerbookError, message_id: MessageId | None) -> None:
        self._tally.add("refusals", type(error).__name__)
        connection.send(encode_error(error, message_id))

    def _serve(
        self, connection: Connection, command: Command, message_id: MessageId | None, now: float
    ) -> Awaitable[None] | None:
        if isinstance(command, Prove):
            return self._prove(connection, command, message_id)
        book, peer = connection.book, connection.peer
        if peer is None or book is None:
            raise NotIn
        match command:
            case Signal():
                self._forward(connection, peer, book, command, message_id, now)
            case GetList():
                connection.send(encode_peers(book.uid, book.listed(), book.online))
                _acknowledge(connection, message_id)
            case GetIceServers():
                connection.send(encode_ice_servers(self._ice_servers.of_user(book.uid, time.time())))
                _acknowledge(connection, message_id)
            case Rename():
                renamed = self._books.rename(book.uid, connection.fp, command.name)
                return self._answer(connection, renamed, message_id)
            case ReportOutcome():
                noted = self._note_outcome(connection, command)
                return self._answer(connection, noted, message_id)
            case _:
                return self._rekey(connection, command, message_id)
        return None

    def route(self, source: Connection, target: Fingerprint) -> Peer:
        """The target, if the source may reach it; raises UnknownTarget."""
        peer = source.book.verified(target) if source.book else None
        if peer is None:
            # A peer of somebody else looks exactly like an unknown one, so nobody can probe for peers.
            raise UnknownTarget
        return peer

    def _forward(
        self, source: Connection, sender: Peer, book: Book, signal: Signal, message_id: MessageId | None, now: float
    ) -> None:
        peer = self.route(source, signal.target)
        if not self._contact.trusted:
            raise Unreachable  # who may reach whom could have changed meanwhile
        frame = encode_signal(sender, signal)
        if signal.kind != "candidate":
            check_description(frame, source.fp, source.certificate)
        place = book.online.get(signal.target)
        if place is None:
            raise Offline(peer.last_seen)
        if place.process == self._bus.process:
            target = self._connections.get(place.connection)
            if target is None or target.ended:  # it left, and the store is being told just now
                raise _absent(source, signal.target)
            if not target.deliver(frame):
                raise Unreachable
            _acknowledge(source, message_id)
            self._tally.add_relay("delivered", self._contact.clock() - now)
        else:
            self._send_across(source, signal.target, place, frame, message_id, now)

    # Across processes

    def _send_across(
        self,
        source: Connection,
        target: Fingerprint,
        place: Place,
        frame: bytes,
        message_id: MessageId | None,
        now: float,
    ) -> None:
        assert source.book is not None
        number = next(self._numbers)
        event = Deliver(
            uid=source.book.uid,
            target=target,
            connection=place.connection,
            frame=frame.decode(),
            sender_process=self._bus.process,
            sender=source.id,
            number=number,
            message_id=message_id,
        )
        self._bus.publish(place.process, event, partial(self._handed_over, source, event, place.process, now))
        self._under_way[number] = None

    def _handed_over(
        self, source: Connection, event: Deliver, process: str, began: float, receivers: int | None
    ) -> None:
        """The store said how many processes got it: one, or none; None where the store itself is out of reach."""
        refusal = self._under_way.pop(event.number, None)  # it may have come before the store's own answer
        if refusal is None and receivers:
            _acknowledge(source, event.message_id)
            self._tally.add_relay("handed_over", self._contact.clock() - began)
        elif receivers == 0:
            self._background.start(self._miss(source, event, process))
        else:
            self._refuse(source, refusal or Unreachable(), event.message_id)

    async def _miss(self, source: Connection, event: Deliver, process: str) -> None:
        """Nobody listens there: that process is no more, or builds its subscription anew just now."""
        error: PeerbookError = Unreachable()
        with contextlib.suppress(Unreachable):
            if await self._books.is_dead(process):
                await self._books.forget(event.uid, process)
                error = _absent(source, event.target)
        self._refuse(source, error, event.message_id)

    def _deliver(self, event: Deliver) -> None:
        """Another process forwards to a connection that it takes to be here."""
        target = self._connections.get(event.connection)
        if target is None or target.ended or target.book is None or target.book.uid != event.uid:
            self._bus.refuse(event, slow=False)
            if target is None:
                self._background.start(self._books.leave(event.uid, event.target, event.connection))
        elif not target.deliver(event.frame.encode()):
            self._bus.refuse(event, slow=True)

    def _gone(self, event: Gone) -> None:
        source = self._connections.get(event.sender)
        if source is None:
            return
        error = Unreachable() if event.slow else _absent(source, event.target)
        if event.number in self._under_way:
            self._under_way[event.number] = error
        else:
            self._refuse(source, error, event.message_id)

    # What takes a while

    async def _prove(self, connection: Connection, command: Prove, message_id: MessageId | None) -> None:
        await self._answer(connection, self._proving.prove(connection, command), message_id)
        if connection.failures >= MOST_FAILURES:
            connection.end(CloseCode.NOT_PROVED, "too many failed proofs")

    async def _rekey(self, connection: Connection, command: Rekey, message_id: MessageId | None) -> None:
        await self._answer(connection, self._proving.rekey(connection, command), message_id)
        if connection.rekeying or connection.peer is None:
            connection.end(CloseCode.GOING_AWAY, "it has another fingerprint now")

    async def _note_outcome(self, source: Connection, report: ReportOutcome) -> None:
        """A peer says how its connection to another one of its book went."""
        assert source.book is not None
        self.route(source, report.target)
        self._tally.add("outcomes", report.result)
        await self._books.note_outcome(source.book.uid, source.fp, report)

    async def _answer(self, connection: Connection, work: Awaitable[None], message_id: MessageId | None) -> None:
        """Do what takes a while, and say how it went."""
        try:
            await work
        except PeerbookError as error:
            self._refuse(connection, error, message_id)
        else:
            _acknowledge(connection, message_id)


def _absent(source: Connection, target: Fingerprint) -> PeerbookError:
    """What the sender hears of a target whose connection is no more."""
    peer = source.book.verified(target) if source.book else None
    return Offline(peer.last_seen) if peer else UnknownTarget()


def _acknowledge(connection: Connection, message_id: MessageId | None) -> None:
    if message_id is not None:
        connection.send(encode_done(message_id))
