"""The WebSocket protocol (RFC 6455) against clients that misbehave: every byte is sent by hand."""

import asyncio
import base64
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, cast

import pytest
from sanic.http import Stage

from app.closecodes import CloseCode
from app.connections import Connection
from app.lobby import MOST_UNDER_WAY
from app.sockets import DRAIN_WITHIN, MOST_UNSENT
from app.wheel import Wheel
from app.wsprotocol import REQUEST_SECONDS
from tests.conftest import Start
from tests.support import SECONDS, Message, Scene, eventually, new_fingerprint

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 0x1, 0x2, 0x8, 0x9, 0xA, 0x0


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """A frame as a client sends it, or as it should not."""
    first, mask = (0x80 if fin else 0) | reserved << 4 | opcode, 0x80 if masked else 0
    head = bytes([first])
    if len(payload) < 126:
        head += bytes([mask | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([mask | 126]) + len(payload).to_bytes(2)
    else:
        head += bytes([mask | 127]) + len(payload).to_bytes(8)
    if not masked:
        return head + payload
    key = secrets.token_bytes(4)
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def upgrade(fp: str, host: str, more: str = "") -> bytes:
    """The request that asks for a WebSocket."""
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    return (
        f"GET /ws?fp={fp}{more} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


class RawSocket:
    """A client that says exactly the bytes it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, scene: Scene, behind: bytes = b"", **query: str) -> "RawSocket":
        """Upgrade, with `behind` in the segment of the request, and read the server's 101."""
        host, port = scene.http.base_url.host, scene.http.base_url.port
        raw = cls(*await asyncio.open_connection(host, port))
        fp = query.pop("fp", "") or new_fingerprint()
        extra = "".join(f"&{key}={value}" for key, value in query.items())
        raw.writer.write(upgrade(fp, str(host), extra) + behind)
        head = await asyncio.wait_for(raw.reader.readuntil(b"\r\n\r\n"), SECONDS)
        assert head.startswith(b"HTTP/1.1 101 "), head
        return raw

    def say(self, *frames: bytes) -> None:
        """Send the bytes in one piece."""
        self.writer.write(b"".join(frames))

    async def hear_frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame, which a server sends whole and unmasked."""
        async with asyncio.timeout(SECONDS):
            first, second = await self.reader.readexactly(2)
            assert first & 0xF0 == 0x80
            size = second
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2))
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8))
            return first & 0xF, await self.reader.readexactly(size)

    async def hear(self) -> Message:
        """The next message."""
        opcode, payload = await self.hear_frame()
        assert opcode == TEXT
        return cast(Message, json.loads(payload))

    async def close_code(self) -> int:
        """The code of the server's close frame, and the end of the connection behind it."""
        opcode, payload = await self.hear_frame()
        while opcode != CLOSE:
            opcode, payload = await self.hear_frame()
        assert await asyncio.wait_for(self.reader.read(), SECONDS) == b""
        return int.from_bytes(payload[:2])

    async def is_cut(self) -> bool:
        """Wait for the end of the connection; True where no close frame came before it."""
        try:
            while (await self.hear_frame())[0] != CLOSE:
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            return True
        finally:
            self.writer.transport.abort()
        return False


Open = Callable[..., Any]


@pytest.fixture
async def scene(start: Start, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A server whose wheel turns eight times as fast, so nobody waits long for a client that does not answer."""
    monkeypatch.setattr("app.context.Wheel", quiet_wheel)
    return await start()


def quiet_wheel() -> Wheel:
    """It pings nobody within the time of a test."""
    wheel = Wheel(every=250, speed=8)
    wheel._next_slot = 500
    return wheel


@pytest.fixture
async def opened(scene: Scene) -> AsyncIterator[Open]:
    """Opens raw sockets, reads their first status, and cuts them at the end."""
    sockets: list[RawSocket] = []

    async def open_one(behind: bytes = b"", **query: str) -> RawSocket:
        raw = await RawSocket.open(scene, behind, **query)
        sockets.append(raw)
        assert (await raw.hear())["code"] in (200, 401)
        return raw

    yield open_one
    for raw in sockets:
        raw.writer.transport.abort()


UNKNOWN = b'{"command": "fly", "id": 1}'


async def test_a_message_in_fragments_is_one_message(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, UNKNOWN[:5], fin=False), frame(CONTINUATION, b"", fin=False), frame(CONTINUATION, UNKNOWN[5:]))
    assert (await raw.hear())["id"] == 1


async def test_a_ping_between_fragments_is_answered_and_disturbs_nothing(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, UNKNOWN[:5], fin=False), frame(PING, b"still there?"), frame(CONTINUATION, UNKNOWN[5:]))
    heard = [await raw.hear_frame(), await raw.hear_frame()]
    assert (PONG, b"still there?") in heard
    assert any(opcode == TEXT and json.loads(payload)["id"] == 1 for opcode, payload in heard)


async def test_a_character_that_is_split_between_fragments_is_whole(opened: Open) -> None:
    raw = await opened()
    text = '{"command": "fly", "id": "é"}'.encode()
    cut = text.index("é".encode()) + 1
    raw.say(frame(TEXT, text[:cut], fin=False), frame(CONTINUATION, text[cut:]))
    assert (await raw.hear())["id"] == "é"


async def test_endless_empty_fragments_close_with_1009(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, b"", fin=False), *[frame(CONTINUATION, b"", fin=False)] * 100)
    assert await raw.close_code() == 1009


async def test_fragments_that_are_too_large_together_close_with_1009(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, b"x" * 40000, fin=False), frame(CONTINUATION, b"x" * 40000))
    assert await raw.close_code() == 1009


async def test_one_that_is_not_in_may_begin_no_large_message(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, b"x" * 60000)[:20000])
    assert await raw.close_code() == 1009


async def test_one_that_is_in_may_send_a_large_message_in_whatever_pieces(scene: Scene, opened: Open) -> None:
    owner = scene.owner()
    device = await scene.join(owner)
    await device.leave()
    raw = await opened(fp=device.fp, email=owner.address)
    assert "peers" in await raw.hear()
    large = frame(TEXT, b'{"command": "fly", "id": 1, "more": "%s"}' % (b"x" * 60000))
    raw.say(large[:20000])
    await scene.at_rest()
    raw.say(large[20000:])
    assert (await raw.hear())["id"] == 1


@pytest.mark.parametrize("text", [b"\xff", b'{"id": "\xc3"}', b"\xed\xa0\x80", b"\xc0\xaf"])
async def test_what_is_not_utf8_closes_with_1007(opened: Open, text: bytes) -> None:
    raw = await opened()
    raw.say(frame(TEXT, text))
    assert await raw.close_code() == 1007


async def test_what_is_not_utf8_over_fragments_closes_with_1007(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, b"\xc3", fin=False), frame(CONTINUATION, b"x"))
    assert await raw.close_code() == 1007


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(frame(TEXT, b"{}", masked=False), id="unmasked"),
        pytest.param(frame(TEXT, b"{}", reserved=1), id="rsv3"),
        pytest.param(frame(TEXT, b"{}", reserved=2), id="rsv2"),
        pytest.param(frame(TEXT, b"{}", reserved=4), id="compressed, which nobody agreed on"),
        pytest.param(frame(0x3), id="unknown opcode"),
        pytest.param(frame(0xB), id="unknown control opcode"),
        pytest.param(frame(CONTINUATION, b"{}"), id="continuation of nothing"),
        pytest.param(frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), id="text inside a fragmented text"),
        pytest.param(frame(PING, b"x" * 126), id="large ping"),
        pytest.param(frame(PING, b"x", fin=False), id="fragmented ping"),
        pytest.param(frame(CLOSE, b"\x03"), id="close of one byte"),
        pytest.param(frame(CLOSE, (1005).to_bytes(2)), id="close with a code that is never sent"),
    ],
)
async def test_bad_framing_closes_with_1002(opened: Open, wrong: bytes) -> None:
    raw = await opened()
    raw.say(wrong)
    assert await raw.close_code() == 1002


@pytest.mark.parametrize("size", [65537, 1 << 31, 1 << 62, 1 << 63, (1 << 64) - 1])
async def test_a_length_that_is_too_large_closes_before_its_bytes_come(opened: Open, size: int) -> None:
    raw = await opened()
    raw.say(bytes([0x80 | TEXT, 0x80 | 127]) + size.to_bytes(8) + b"mask")
    assert await raw.close_code() in (1009, 1002)


async def test_nothing_behind_bad_framing_is_served(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(0x3), frame(TEXT, UNKNOWN))
    opcode, _ = await raw.hear_frame()
    assert opcode == CLOSE
    assert await asyncio.wait_for(raw.reader.read(), SECONDS) == b""


async def test_a_ping_is_answered_with_its_own_payload(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(PING, b"\x00\xffhello"))
    assert await raw.hear_frame() == (PONG, b"\x00\xffhello")


async def test_an_unasked_pong_is_no_fault(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(PONG, b"?"), frame(TEXT, UNKNOWN))
    assert (await raw.hear())["id"] == 1


@pytest.mark.parametrize("payload", [b"", (1000).to_bytes(2), (1001).to_bytes(2) + b"bye", (4000).to_bytes(2)])
async def test_a_close_is_echoed_and_the_connection_ends(scene: Scene, opened: Open, payload: bytes) -> None:
    raw = await opened()
    raw.say(frame(CLOSE, payload))
    opcode, echoed = await raw.hear_frame()
    assert (opcode, echoed[:2]) == (CLOSE, payload[:2])
    assert await asyncio.wait_for(raw.reader.read(), SECONDS) == b""
    raw.writer.close()
    await eventually(lambda: len(scene.context.connections) == 0)


async def test_a_close_inside_a_fragmented_message_is_echoed(opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, b"{", fin=False), frame(CLOSE, (1000).to_bytes(2)))
    assert await raw.close_code() == 1000


async def test_a_message_in_the_segment_of_the_upgrade_request_is_served(opened: Open) -> None:
    raw = await opened(frame(TEXT, UNKNOWN))
    assert (await raw.hear())["id"] == 1


async def test_bytes_that_come_one_by_one_are_one_message(opened: Open) -> None:
    raw = await opened()
    for byte in frame(TEXT, UNKNOWN):
        raw.say(bytes([byte]))
        await asyncio.sleep(0)
    assert (await raw.hear())["id"] == 1


async def test_a_client_that_hangs_up_without_a_close_is_gone(scene: Scene, opened: Open) -> None:
    raw = await opened()
    raw.writer.transport.abort()
    await eventually(lambda: len(scene.context.connections) == 0)


async def test_a_client_that_says_no_more_is_gone(scene: Scene, opened: Open) -> None:
    raw = await opened()
    raw.writer.write_eof()
    await eventually(lambda: len(scene.context.connections) == 0)


async def test_a_client_that_does_not_answer_a_close_is_cut(scene: Scene, opened: Open) -> None:
    raw = await opened()
    raw.say(frame(TEXT, b"\xff"))
    assert await raw.close_code() == 1007
    await eventually(lambda: len(scene.context.connections) == 0)


async def test_a_plain_get_is_426_and_says_what_to_upgrade_to(scene: Scene) -> None:
    answer = await scene.http.get("/ws", params={"fp": new_fingerprint()})
    assert (answer.status_code, answer.json()["code"]) == (426, 426)
    assert answer.headers["upgrade"] == "websocket"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Sec-WebSocket-Version": "12"}, id="old version"),
        pytest.param({"Sec-WebSocket-Key": "short"}, id="bad key"),
        pytest.param({"Connection": "keep-alive"}, id="no upgrade"),
    ],
)
async def test_a_bad_handshake_is_refused(scene: Scene, headers: dict[str, str]) -> None:
    good = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    }
    answer = await scene.http.get("/ws", params={"fp": new_fingerprint()}, headers=good | headers)
    assert answer.status_code in (400, 426)
    assert answer.json()["code"] == answer.status_code


async def test_compression_is_never_agreed_on(scene: Scene) -> None:
    device = await scene.connect()
    assert device.socket.protocol.extensions == []


# Large messages wait for their turn


async def test_large_messages_are_served_in_their_order_and_others_in_between(opened: Open) -> None:
    busy, calm = await opened(), await opened()
    large = [b'{"command": "fly", "id": %d, "more": "%s"}' % (n, b"x" * 10000) for n in range(100)]
    busy.say(*[frame(TEXT, each) for each in large], frame(TEXT, b'{"command": "fly", "id": 100}'))
    calm.say(frame(TEXT, UNKNOWN))
    assert (await calm.hear())["id"] == 1
    assert [(await busy.hear())["id"] for _ in range(101)] == list(range(101))


async def test_a_fault_while_a_large_message_is_served_closes_with_1011(
    scene: Scene, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(connection: Connection, message: bytes) -> None:
        raise ZeroDivisionError

    raw, other = await opened(), await opened()
    receive = scene.context.signaling.receive
    scene.context.signaling.receive = fail  # type: ignore[assignment, method-assign]
    raw.say(frame(TEXT, b"x" * 10000))
    with caplog.at_level(logging.CRITICAL):
        assert await raw.close_code() == 1011
    scene.context.signaling.receive = receive  # type: ignore[method-assign]
    other.say(frame(TEXT, b'{"command": "fly", "id": 1, "more": "%s"}' % (b"x" * 10000)))
    assert (await other.hear())["id"] == 1


async def test_what_waits_for_its_turn_is_not_served_after_a_close(
    scene: Scene, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, waiting, served = await opened(), list[Callable[[], None]](), list[bytes]()
    turns = scene.context.large_turns
    monkeypatch.setattr(turns, "take", lambda size: False)
    monkeypatch.setattr(turns, "wait", lambda size, call: waiting.append(call))
    monkeypatch.setattr(scene.context.signaling, "receive", lambda connection, data: served.append(data))
    raw.say(frame(TEXT, b"x" * 10000))
    await eventually(lambda: len(waiting) == 1)
    (connection,) = scene.context.connections
    connection.end(CloseCode.REPLACED, "elsewhere")
    waiting.pop()()
    assert await raw.close_code() == CloseCode.REPLACED
    assert served == []


# Noise: what comes and is no message


@pytest.mark.parametrize("opcode", [PING, PONG])
async def test_a_flood_of_control_frames_is_cut_and_some_are_fine(scene: Scene, opened: Open, opcode: int) -> None:
    calm, flooding = await opened(), await opened()
    calm.say(*[frame(opcode)] * 250, frame(TEXT, UNKNOWN))
    flooding.say(*[frame(opcode)] * 251, frame(TEXT, UNKNOWN))
    if opcode == PING:
        assert [await calm.hear_frame() for _ in range(250)] == [(PONG, b"")] * 250
    assert (await calm.hear())["id"] == 1
    assert await flooding.close_code() == 4429
    await eventually(lambda: len(scene.context.connections) == 1)


async def test_noise_is_forgotten_with_the_next_turn_of_the_wheel(fast: Scene) -> None:
    raw = await RawSocket.open(fast)
    await raw.hear()
    for _ in range(2):
        raw.say(*[frame(PONG)] * 200)
        while (await raw.hear_frame())[0] != PING:
            pass
    raw.say(frame(TEXT, UNKNOWN))
    while (heard := await raw.hear_frame())[0] != TEXT:
        pass
    assert json.loads(heard[1])["id"] == 1
    raw.writer.transport.abort()


async def test_a_message_that_comes_byte_by_byte_for_ever_is_cut(scene: Scene, opened: Open) -> None:
    raw = await opened()
    await scene.at_rest()
    (socket,) = scene.running._server.connections
    for byte in frame(TEXT, b" " * 3000)[:2600]:
        socket.data_received(bytes([byte]))
    assert await raw.close_code() == 4429


async def test_nothing_is_read_of_a_client_that_was_told_to_go(scene: Scene, opened: Open) -> None:
    raw = await opened()
    raw.say(*[frame(PING, b"x" * 100)] * 300, *[frame(TEXT, UNKNOWN)] * 1000)
    assert await raw.close_code() == 4429
    await eventually(lambda: len(scene.context.connections) == 0)


async def test_a_client_that_goes_on_talking_after_our_close_is_heard_no_more(scene: Scene, opened: Open) -> None:
    raw = await opened()
    (socket,) = scene.running._server.connections
    socket.close(CloseCode.GOING_AWAY)
    assert await raw.hear_frame() == (CLOSE, (1001).to_bytes(2))
    raw.say(*[frame(TEXT, UNKNOWN)] * 300)
    assert await asyncio.wait_for(raw.reader.read(), SECONDS) == b""


# The states: open, closing, over


async def test_our_close_is_answered_and_the_connection_ends_at_once(scene: Scene, opened: Open) -> None:
    raw = await opened()
    (socket,) = scene.running._server.connections
    socket.close(CloseCode.GOING_AWAY, "bye")
    assert await raw.hear_frame() == (CLOSE, (1001).to_bytes(2) + b"bye")
    assert not socket.send(b"too late")
    raw.say(frame(TEXT, UNKNOWN), frame(CLOSE, (1001).to_bytes(2)))
    assert await asyncio.wait_for(raw.reader.read(), SECONDS) == b""
    raw.writer.close()
    await eventually(lambda: socket.closed)


async def test_a_close_that_crosses_ours_ends_both(scene: Scene, opened: Open) -> None:
    raw = await opened()
    (socket,) = scene.running._server.connections
    raw.say(frame(CLOSE, (1000).to_bytes(2)))
    socket.close(CloseCode.GOING_AWAY)
    assert await raw.hear_frame() == (CLOSE, (1001).to_bytes(2))
    assert await asyncio.wait_for(raw.reader.read(), SECONDS) == b""


async def test_a_second_close_says_nothing_more(scene: Scene, opened: Open) -> None:
    raw = await opened()
    (socket,) = scene.running._server.connections
    socket.close(CloseCode.GOING_AWAY)
    socket.close(CloseCode.FLOODING)
    assert not socket.close_if_idle()
    assert await raw.hear_frame() == (CLOSE, (1001).to_bytes(2))
    raw.say(frame(CLOSE, (1001).to_bytes(2)))
    assert await asyncio.wait_for(raw.reader.read(), SECONDS) == b""


async def test_a_socket_that_is_gone_takes_everything_and_does_nothing(scene: Scene, opened: Open) -> None:
    raw = await opened()
    (socket,) = scene.running._server.connections
    raw.writer.transport.abort()
    await eventually(lambda: socket.closed)
    assert not socket.send(b"too late")
    socket.close(CloseCode.GOING_AWAY)
    socket.resume()
    socket.ping()
    ended: list[bool] = []
    listener = Listener(ended)
    socket.attach(listener)
    assert ended == [True]


async def test_what_comes_while_a_message_is_served_waits_for_it(scene: Scene, opened: Open) -> None:
    raw = await opened()
    await scene.at_rest()
    (socket,) = scene.running._server.connections
    listener = Listener([])
    socket.attach(listener)
    socket.pause()
    socket.data_received(frame(TEXT, b"1") + frame(PING) + frame(TEXT, b"2"))
    assert listener.messages == []
    socket.resume()
    assert listener.messages == [b"1", b"2"]
    assert await raw.hear_frame() == (PONG, b"")


async def test_a_message_that_pauses_keeps_back_those_behind_it(scene: Scene, opened: Open) -> None:
    await opened()
    await scene.at_rest()
    (socket,) = scene.running._server.connections
    listener = Listener([], each=socket.pause)
    socket.attach(listener)
    socket.data_received(frame(TEXT, b"1") + frame(TEXT, b"2"))
    assert listener.messages == [b"1"]
    socket.resume()
    assert listener.messages == [b"1", b"2"]


class Listener:
    """An application that keeps what it hears."""

    is_known = True

    def __init__(self, ended: list[bool], each: Callable[[], None] = lambda: None) -> None:
        self.messages: list[bytes] = []
        self._ended = ended
        self._each = each

    def message(self, data: bytes, is_text: bool) -> None:
        self.messages.append(data)
        self._each()

    def closed(self) -> None:
        self._ended.append(True)


# Dead sockets, and those that read nothing


@pytest.fixture
async def fast(start: Start, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A server whose wheel turns forty times as fast."""
    monkeypatch.setattr("app.context.Wheel", partial(Wheel, speed=40))
    return await start()


async def test_a_client_that_does_not_answer_pings_is_cut(fast: Scene) -> None:
    raw = await RawSocket.open(fast)
    alive = await fast.connect()
    await alive.hear()
    assert await raw.is_cut()
    await eventually(lambda: len(fast.context.connections) == 1)
    await alive.hears_nothing()


async def test_a_client_that_answers_pings_stays(fast: Scene) -> None:
    raw = await RawSocket.open(fast)
    for _ in range(3):
        opcode, payload = await raw.hear_frame()
        while opcode != PING:
            opcode, payload = await raw.hear_frame()
        raw.say(frame(PONG, payload))
    assert len(fast.context.connections) == 1
    raw.writer.transport.abort()


async def test_one_that_reads_nothing_is_told_1013_and_cut_and_its_senders_hear_503_meanwhile(fast: Scene) -> None:
    owner = fast.owner()
    sender, stuck = await fast.join(owner, "sender"), await fast.join(owner, "stuck")
    target = next(each for each in fast.context.connections if each.fp == stuck.fp)
    socket = target.send.__self__  # type: ignore[attr-defined]
    stuck.socket.transport.pause_reading()
    codes = set()
    while 503 not in codes:
        codes.add((await sender.ask({"target": stuck.fp, "offer": "x" * 60000}))["code"])
    assert codes == {200, 503}
    assert socket._transport.get_write_buffer_size() <= MOST_UNSENT + 65536
    await eventually(lambda: socket.closed)
    assert (await sender.ask({"target": stuck.fp, "offer": "x"}))["code"] == 410


async def test_what_was_not_read_before_the_upgrade_is_to_be_read_in_time_too(scene: Scene) -> None:
    """Sanic's protocol is told that the system takes no more, and the socket is not."""
    reader, writer = await asyncio.open_connection(scene.http.base_url.host, scene.http.base_url.port, limit=1)
    await eventually(lambda: bool(scene.running._server.connections))
    (guest,) = scene.running._server.connections
    transport, served = guest.transport, 0
    while not transport.get_write_buffer_size():
        served += 1
        writer.write(f"GET {scene.context.assets.url('htmx.min.js')} HTTP/1.1\r\nHost: book\r\n\r\n".encode())
        await eventually(lambda: guest.state["requests_count"] == served)  # noqa: B023 - asked at once
        await eventually(lambda: guest.http.stage is Stage.IDLE)
    writer.write(upgrade(new_fingerprint(), "book"))
    await eventually(lambda: len(scene.context.wheel) == 1)
    (socket,) = scene.running._server.connections
    assert socket in scene.context.wheel._watched
    assert scene.context.outbox.unread >= transport.get_write_buffer_size() > 0
    assert b"HTTP/1.1 101 " in await asyncio.wait_for(_all_until(reader, b"\r\nSec-WebSocket-Accept:"), SECONDS)
    await eventually(lambda: socket not in scene.context.wheel._watched)
    assert scene.context.outbox.unread == 0
    writer.transport.abort()


async def _all_until(reader: asyncio.StreamReader, end: bytes) -> bytes:
    read = b""
    while end not in read:
        read += await reader.read(65536)
    return read


async def test_one_that_reads_slowly_stays(fast: Scene) -> None:
    """It reads a little in each of the times in which it has to read something."""
    owner = fast.owner()
    sender, slow = await fast.join(owner, "sender"), await fast.join(owner, "slow")
    target = next(each for each in fast.context.connections if each.fp == slow.fp)
    socket = target.send.__self__  # type: ignore[attr-defined]
    slow.socket.transport.pause_reading()
    while (await sender.ask({"target": slow.fp, "offer": "x" * 60000}))["code"] == 200:
        pass
    began, transport = fast.context.wheel.now, socket._transport
    while fast.context.wheel.now < began + 2 * DRAIN_WITHIN:
        size, seen = transport.get_write_buffer_size(), fast.context.wheel.now
        slow.socket.transport.resume_reading()
        while transport.get_write_buffer_size() > max(0, size - 16 * 1024):
            await slow.hear()
        slow.socket.transport.pause_reading()
        await eventually(lambda seen=seen: fast.context.wheel.now > seen + 2)  # type: ignore[misc]
        while (await sender.ask({"target": slow.fp, "offer": "x" * 60000}))["code"] == 200:
            pass
    assert not socket.closed


# HTTP: a request has so much time, in whatever pieces it comes

SLOW_HEAD = b"POST /verify HTTP/1.1\r\nHost: book\r\nX-Slow: "
SLOW_BODY = b"POST /verify HTTP/1.1\r\nHost: book\r\nContent-Length: 60000\r\n\r\n{"
SLOW_CHUNKS = b"POST /verify HTTP/1.1\r\nHost: book\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{    \r\n"


@pytest.mark.parametrize(
    ("begin", "drip", "status"),
    [
        pytest.param(b"", b"", b"", id="nothing"),
        pytest.param(b"P", b"O", b"408", id="request line"),
        pytest.param(SLOW_HEAD, b"x", b"408", id="head"),
        pytest.param(SLOW_BODY, b" ", b"408", id="body"),
        pytest.param(SLOW_CHUNKS, b"1\r\n \r\n", b"408", id="chunks"),
    ],
)
async def test_a_request_that_is_dripped_ends_in_time(fast: Scene, begin: bytes, drip: bytes, status: bytes) -> None:
    reader, writer = await asyncio.open_connection(fast.http.base_url.host, fast.http.base_url.port)
    writer.write(begin)
    began, answer = fast.context.wheel.now, asyncio.create_task(first_line(reader))
    while not answer.done():
        writer.write(drip)
        await asyncio.wait((answer,), timeout=0.02)
    assert answer.result()[9:12] == status
    assert REQUEST_SECONDS <= fast.context.wheel.now - began <= 2 * REQUEST_SECONDS + 1  # to begin, and to go on
    writer.close()


async def first_line(reader: asyncio.StreamReader) -> bytes:
    """The first line of an answer, or nothing. Who goes on to drip may be reset before the end of it."""
    try:
        return await reader.readuntil(b"\r\n")
    except asyncio.IncompleteReadError as error:
        return error.partial


async def test_a_connection_that_is_kept_may_rest_between_requests_and_drip_none(fast: Scene) -> None:
    reader, writer = await asyncio.open_connection(fast.http.base_url.host, fast.http.base_url.port)
    get = b"GET /livez HTTP/1.1\r\nHost: book\r\n\r\n"
    for _ in range(2):
        writer.write(get)
        await asyncio.wait_for(reader.readuntil(b'"ok"}'), SECONDS)
        began = fast.context.wheel.now
        await eventually(lambda began=began: fast.context.wheel.now > began + REQUEST_SECONDS + 1)  # type: ignore[misc]
    writer.write(get[:-2])
    assert (await asyncio.wait_for(reader.read(), SECONDS))[9:12] == b"408"
    writer.close()


async def test_a_page_that_nobody_reads_is_cut(fast: Scene) -> None:
    reader, writer = await asyncio.open_connection(fast.http.base_url.host, fast.http.base_url.port, limit=1)
    page = fast.context.assets.url("htmx.min.js")
    writer.write(f"GET {page} HTTP/1.1\r\nHost: book\r\n\r\n".encode() * 500)
    await eventually(lambda: len(fast.context.lobby) == 1)
    await eventually(lambda: len(fast.context.lobby) == 0)
    writer.close()
    assert reader


async def test_a_full_lobby_makes_the_oldest_go_that_brought_no_request(start: Start) -> None:
    scene = await start()
    scene.context.lobby._most = 3
    host, port = scene.http.base_url.host, scene.http.base_url.port
    silent = []
    for _ in range(3):
        silent.append(await asyncio.open_connection(host, port))
        await eventually(lambda: len(scene.context.lobby) == len(silent))
    answer = await scene.http.get("/livez")
    assert answer.status_code == 200
    assert await asyncio.wait_for(silent[0][0].read(), SECONDS) == b""
    assert len(scene.context.lobby) == 3
    for _, writer in silent:
        writer.close()


async def test_upgrades_wait_while_many_arrive_and_pages_do_not(scene: Scene, opened: Open) -> None:
    lobby = scene.context.lobby
    lobby.under_way += MOST_UNDER_WAY
    patient = asyncio.create_task(opened())
    host, port = scene.http.base_url.host, scene.http.base_url.port
    _, hasty = await asyncio.open_connection(host, port)
    hasty.write(b"GET /ws?fp=" + new_fingerprint().encode() + b" HTTP/1.1\r\n")
    await eventually(lambda: len(lobby._sockets) == 2)
    assert (await scene.http.get("/livez")).status_code == 200
    hasty.transport.abort()
    await eventually(lambda: len(lobby._sockets) == 1)
    assert not patient.done()
    lobby.under_way -= MOST_UNDER_WAY
    assert await patient
    assert len(scene.context.wheel) == 1


async def test_what_is_said_before_its_turn_is_kept_up_to_a_limit(scene: Scene) -> None:
    lobby = scene.context.lobby
    lobby.under_way += MOST_UNDER_WAY
    reader, writer = await asyncio.open_connection(scene.http.base_url.host, scene.http.base_url.port)
    writer.write(b"GET /ws?fp=abc HTTP/1.1\r\nHost: book\r\nX-Long: ")
    await eventually(lambda: len(lobby._sockets) == 1)
    writer.write(b"x" * 100_000)
    (guest,) = lobby._sockets
    await eventually(lambda: len(vars_of(guest, "_first")) > 16 * 1024)
    lobby.under_way -= MOST_UNDER_WAY
    assert (await asyncio.wait_for(reader.read(), SECONDS))[9:12] == b"413"
    writer.close()


def vars_of(each: object, name: str) -> bytes:
    """A member of it, which is text that it keeps."""
    return cast(bytes, getattr(each, name))


# Faults of our own


async def test_a_fault_while_a_message_is_served_closes_with_1011(
    scene: Scene, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(connection: Connection, message: bytes) -> None:
        raise ZeroDivisionError

    raw = await opened()
    scene.context.signaling.receive = fail  # type: ignore[assignment, method-assign]
    raw.say(frame(TEXT, UNKNOWN))
    with caplog.at_level(logging.CRITICAL):
        assert await raw.close_code() == 1011
    await eventually(lambda: len(scene.context.connections) == 0)
