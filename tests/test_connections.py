"""Connections: what is sent when, and which of them are here."""

from app.book import Book, Owner
from app.closecodes import CloseCode
from app.connections import Connection, Connections, Stage
from app.peers import Fingerprint, Peer
from tests.parts import a_device


class Wire:
    """The ends of a socket: what was sent, and the codes it was closed with."""

    def __init__(self, fp: Fingerprint | None = None) -> None:
        self.sent: list[bytes] = []
        self.codes: list[int] = []
        self.reads = True
        self.connection = Connection(a_device(fp=fp), None, self._send, lambda code, reason: self.codes.append(code))

    def _send(self, frame: bytes) -> bool:
        if self.reads:
            self.sent.append(frame)
        return self.reads


def a_book(*peers: Peer) -> Book:
    return Book(Owner("u1", "you@example.org", 1, 0), peers={peer.fp: peer for peer in peers})


def test_every_connection_has_an_id_and_a_nonce_of_its_own() -> None:
    first, second = Wire().connection, Wire().connection
    assert first.id != second.id
    assert first.nonce != second.nonce


def test_the_nonce_stands_in_the_first_status_only() -> None:
    connection = Wire().connection
    assert connection.first_nonce() == connection.nonce
    assert connection.first_nonce() is None


def test_a_connection_is_a_peer_only_while_it_is_in_and_verified() -> None:
    connection = Wire().connection
    peer = Peer(connection.fp, "laptop", "lab", "verified")
    assert connection.peer is None
    connection.book = a_book(peer)
    assert connection.peer is None
    connection.stage = Stage.IN
    assert connection.peer == peer
    connection.book.peers[connection.fp] = Peer(connection.fp, "laptop", "lab", "revoked")
    assert connection.peer is None


def test_a_message_goes_to_a_connection_that_is_in() -> None:
    wire = Wire()
    wire.connection.stage = Stage.IN
    assert wire.connection.deliver(b"hello")
    assert wire.sent == [b"hello"]


def test_a_message_for_one_that_is_being_let_in_waits_behind_its_welcome() -> None:
    wire = Wire()
    wire.connection.stage = Stage.ADMITTING
    assert wire.connection.deliver(b"early")
    assert (wire.sent, wire.connection.early) == ([], [b"early"])


def test_one_that_waits_or_is_gone_or_reads_too_slowly_gets_nothing() -> None:
    for stage in (Stage.ARRIVING, Stage.WAITING, Stage.ENDED):
        wire = Wire()
        wire.connection.stage = stage
        assert not wire.connection.deliver(b"hello")
        assert wire.sent == []
    slow = Wire()
    slow.reads, slow.connection.stage = False, Stage.IN
    assert not slow.connection.deliver(b"hello")


def test_one_that_is_gone_is_not_closed_again() -> None:
    wire = Wire()
    wire.connection.end(CloseCode.REJECTED, "revoked")
    wire.connection.stage = Stage.ENDED
    wire.connection.end(CloseCode.REPLACED, "connected elsewhere")
    assert wire.codes == [4403]


def test_connections_are_found_by_id_while_they_are_here() -> None:
    connections, connection = Connections(), Wire().connection
    connections.add(connection)
    assert connections.get(connection.id) is connection
    assert (len(connections), list(connections)) == (1, [connection])
    connections.discard(connection)
    connections.discard(connection)
    assert connections.get(connection.id) is None
    assert len(connections) == 0


def test_connections_may_leave_while_they_are_walked_through() -> None:
    connections = Connections()
    for _ in range(3):
        connections.add(Wire().connection)
    for connection in connections:
        connections.discard(connection)
    assert len(connections) == 0


def test_those_that_wait_for_a_fingerprint_are_found_by_it() -> None:
    connections, first = Connections(), Wire().connection
    second, other = Wire(first.fp).connection, Wire().connection
    for connection in (first, second, other):
        connections.wait_unnamed(connection)
    assert set(connections.unnamed(first.fp)) == {first, second}
    assert connections.stop_unnamed(first) is False
    assert connections.unnamed(first.fp) == (second,)
    assert connections.stop_unnamed(second) is True
    assert connections.unnamed(first.fp) == ()
    assert connections.unnamed(other.fp) == (other,)


def test_one_that_does_not_wait_was_never_the_last() -> None:
    connections, waiting = Connections(), Wire().connection
    assert connections.stop_unnamed(waiting) is False
    connections.wait_unnamed(waiting)
    assert connections.stop_unnamed(Wire(waiting.fp).connection) is False
    assert connections.stop_unnamed(waiting) is True
    assert connections.stop_unnamed(waiting) is False
