"""The outbox: what is said to one peer in one turn leaves together, in its order, and nothing of it is lost or kept."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.closecodes import CloseCode
from app.outbox import Outbox
from app.sockets import WebSocket
from tests.crowds import Wire, connect
from tests.support import SECONDS, Scene, eventually
from tests.test_wsprotocol import CLOSE, TEXT, frame

BURST = 8
CANDIDATE = {"candidate": "candidate:1 1 udp 1 192.0.2.7 9 typ host", "sdpMid": "0"}


class Counting(Wire):
    """A wire that counts the segments in which it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.segments: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.segments.append(data)
        super().data_received(data)


@pytest.fixture
async def wire(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counting]:
    """A device that waits for its owner."""
    monkeypatch.setattr("tests.crowds.Wire", Counting)
    wire = await connect(str(scene.http.base_url).rstrip("/"))
    assert isinstance(wire, Counting)
    await scene.at_rest()
    wire.segments.clear()
    yield wire
    wire.transport.abort()


def socket_of(scene: Scene) -> WebSocket:
    """The only one that is open."""
    (socket,) = scene.running._server.connections
    assert isinstance(socket, WebSocket)
    return socket


async def test_candidates_that_come_together_leave_together(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.crowds.Wire", Counting)
    owner = scene.owner()
    sender, target = await scene.join(owner, "sender"), await scene.join(owner, "target")
    await target.leave()
    url = str(scene.http.base_url).rstrip("/")
    wire = await connect(url, fp=target.fp, email=owner.address)
    assert isinstance(wire, Counting)
    await eventually(lambda: b'"peers"' in wire.heard)
    wire.segments.clear()
    message = json.dumps({"target": target.fp, "candidate": CANDIDATE}).encode()
    sender.socket.transport.write(frame(TEXT, message) * BURST)
    await eventually(lambda: wire.heard.count(b'"candidate":{') == BURST)
    assert len(wire.segments) == 1
    wire.transport.abort()


async def test_what_is_said_in_one_turn_leaves_in_its_order_and_as_one(scene: Scene, wire: Counting) -> None:
    socket = socket_of(scene)
    for number in range(BURST):
        assert socket.send(b"%d" % number)
    assert wire.segments == []
    await eventually(lambda: bool(wire.segments))
    assert wire.segments == [b"".join(bytes((0x81, 1)) + b"%d" % number for number in range(BURST))]


async def test_what_was_said_before_a_close_comes_before_it(scene: Scene, wire: Counting) -> None:
    socket = socket_of(scene)
    socket.send(b"the last word")
    socket.close(CloseCode.FLOODING)
    await eventually(lambda: bool(wire.segments))
    assert wire.segments[0].startswith(b"\x81\x0dthe last word\x88")
    assert wire.close_code == CloseCode.FLOODING


async def test_a_clients_close_is_answered_after_what_was_said_to_it(scene: Scene, wire: Counting) -> None:
    socket = socket_of(scene)
    socket.send(b"the last word")
    socket.data_received(frame(CLOSE, (1000).to_bytes(2)))
    await eventually(lambda: wire.close_code == 1000)
    assert wire.segments[0].startswith(b"\x81\x0dthe last word\x88")


async def test_what_is_much_does_not_wait_for_the_end_of_the_turn(scene: Scene, wire: Counting) -> None:
    """So a peer that reads nothing is known as such, however much is said to it in one turn."""
    socket = socket_of(scene)
    wire.transport.pause_reading()
    said = 0
    while socket.send(bytes(10_000)):
        said += 10_000
        assert said < 2_000_000
    assert socket._transport.get_write_buffer_size() > 0


async def test_what_waits_for_one_that_is_gone_is_forgotten(scene: Scene, wire: Counting) -> None:
    socket = socket_of(scene)
    socket.send(b"too late")
    socket.connection_lost(None)
    await asyncio.sleep(0)
    assert wire.segments == []


class Recorder:
    """Something that has things to send."""

    def __init__(self, outbox: Outbox, *, says_more: bool = False) -> None:
        self.outbox = outbox
        self.says_more = says_more
        self.flushed = asyncio.Event()

    def flush(self) -> None:
        self.flushed.set()
        if self.says_more:
            self.says_more = False
            self.flushed.clear()
            self.outbox.add(self)


async def test_one_that_fails_keeps_nobody_else_back() -> None:
    failures = list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    outbox = Outbox()
    failing, next_one = Recorder(outbox), Recorder(outbox)
    failing.flush = lambda: 1 / 0  # type: ignore[assignment, method-assign]
    outbox.add(failing)
    outbox.add(next_one)
    await asyncio.wait_for(next_one.flushed.wait(), SECONDS)
    assert [type(each["exception"]) for each in failures] == [ZeroDivisionError]


async def test_what_is_added_while_others_leave_has_the_next_turn() -> None:
    outbox = Outbox()
    more, once = Recorder(outbox, says_more=True), Recorder(outbox)
    outbox.add(more)
    outbox.add(once)
    await asyncio.sleep(0)
    assert (more.flushed.is_set(), once.flushed.is_set()) == (False, True)
    await asyncio.wait_for(more.flushed.wait(), SECONDS)
