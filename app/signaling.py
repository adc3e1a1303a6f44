"""Signaling: may this source reach that target? Then deliver.

Between two sockets of one process a message takes no step to the store; across processes it takes one PUBLISH.
"""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from app.books import Books
from app.bus import Bus, Deliver, Gone
from app.closecodes import CloseCode
from app.connections import Connection, Connections
from app.descriptions import check_description
from app.errors import NotIn, Offline, PeerbookError, TooMany, UnknownTarget, Unreachable
from app.messages import (
    BadMessage,
    Command,
    GetIceServers,
    GetList,
    MessageId,
    Prove,
    Rekey,
    Rename,
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


class Signaling:
    """Serves the messages of connections."""

    def __init__(
        self,
        books: Books,
        bus: Bus,
        connections: Connections,
        proving: Proving,
        ice_servers: list[dict[str, Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._books = books
        self._proving = proving
        self._clock = clock
        self._bus = bus
        self._connections = connections
        self._ice_servers = ice_servers
        bus.hear(Deliver, self._deliver)
        bus.hear(Gone, self._gone)

    def receive(self, connection: Connection, frame: bytes) -> Awaitable[None] | None:
        """Serve one message. What needs the store is returned to be awaited; the next message waits for it."""
        taken = connection.pace.takes(self._clock())
        if connection.pace.flooding:
            connection.end(CloseCode.FLOODING, "too many messages")
            return None
        try:
            command, message_id = parse_message(frame)
        except BadMessage as error:
            connection.send(encode_error(error, error.message_id))
            return None
        try:
            if not taken:
                raise TooMany
            return self._serve(connection, command, message_id)
        except PeerbookError as error:
            connection.send(encode_error(error, message_id))
            return None

    def _serve(self, connection: Connection, command: Command, message_id: MessageId | None) -> Awaitable[None] | None:
        book = connection.book
        if isinstance(command, Prove):
            return self._prove(connection, command, message_id)
        if connection.peer is None or book is None:
            raise NotIn
        match command:
            case Signal():
                self._forward(connection, command, message_id)
            case GetList():
                connection.send(encode_peers(book.uid, book.listed(), book.online))
                _acknowledge(connection, message_id)
            case GetIceServers():
                connection.send(encode_ice_servers(self._ice_servers))
                _acknowledge(connection, message_id)
            case Rename():
                renamed = self._books.rename(book.uid, connection.fp, command.name)
                return self._answer(connection, renamed, message_id)
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

    def _forward(self, source: Connection, signal: Signal, message_id: MessageId | None) -> None:
        assert source.peer is not None
        assert source.book is not None
        peer = self.route(source, signal.target)
        frame = encode_signal(source.peer, signal)
        if signal.kind != "candidate":
            check_description(frame, source.fp, source.certificate)
        place = source.book.online.get(signal.target)
        if place is None:
            raise Offline(peer.last_seen)
        if place.process == self._bus.process:
            target = self._connections.get(place.connection)
            if target is None or target.ended:  # it left, and the store is being told just now
                raise _absent(source, signal.target)
            if not target.deliver(frame):
                raise Unreachable
            _acknowledge(source, message_id)
        else:
            event = Deliver(place.connection, frame.decode(), signal.target, self._bus.process, source.id, message_id)
            self._bus.publish(place.process, event, partial(self._handed_over, source, message_id))

    @staticmethod
    def _handed_over(source: Connection, message_id: MessageId | None, receivers: int | None) -> None:
        """The store said how many processes got it: one, or the target's process is out of reach."""
        if receivers:
            _acknowledge(source, message_id)
        else:
            source.send(encode_error(Unreachable(), message_id))

    def _deliver(self, event: Deliver) -> None:
        """Another process forwards to a connection that it takes to be here."""
        target = self._connections.get(event.connection)
        if target is None or target.ended:
            self._bus.publish(event.sender_process, Gone(event.sender, event.target, event.message_id))
        elif not target.deliver(event.frame.encode()):
            slow = Gone(event.sender, event.target, event.message_id, slow=True)
            self._bus.publish(event.sender_process, slow)

    def _gone(self, event: Gone) -> None:
        source = self._connections.get(event.sender)
        if source:
            error = Unreachable() if event.slow else _absent(source, event.target)
            source.send(encode_error(error, event.message_id))

    async def _prove(self, connection: Connection, command: Prove, message_id: MessageId | None) -> None:
        await self._answer(connection, self._proving.prove(connection, command), message_id)
        if connection.failures >= MOST_FAILURES:
            connection.end(CloseCode.NOT_PROVED, "too many failed proofs")

    async def _rekey(self, connection: Connection, command: Rekey, message_id: MessageId | None) -> None:
        await self._answer(connection, self._proving.rekey(connection, command), message_id)
        if connection.rekeying or connection.peer is None:
            connection.end(CloseCode.GOING_AWAY, "it has another fingerprint now")

    @staticmethod
    async def _answer(connection: Connection, work: Awaitable[None], message_id: MessageId | None) -> None:
        """Do what takes a while, and say how it went."""
        try:
            await work
        except PeerbookError as error:
            connection.send(encode_error(error, message_id))
        else:
            _acknowledge(connection, message_id)


def _absent(source: Connection, target: Fingerprint) -> PeerbookError:
    """What the sender hears of a target whose connection is no more."""
    peer = source.book.verified(target) if source.book else None
    return Offline(peer.last_seen) if peer else UnknownTarget()


def _acknowledge(connection: Connection, message_id: MessageId | None) -> None:
    if message_id is not None:
        connection.send(encode_done(message_id))
