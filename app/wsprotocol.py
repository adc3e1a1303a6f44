"""The WebSocket (RFC 6455) under Sanic: frames are handled where they arrive, without a task per socket.

Sanic speaks HTTP, routes the request and calls `websocket_handshake`. From there on the transport belongs to a
WebSocket: an asyncio protocol around the `websockets` library's ServerProtocol, which knows the frames and does no
I/O. One callback per message, writes straight to the transport, and one Pinger for all sockets.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from sanic.exceptions import SanicException
from sanic.request import Request
from sanic.server.protocols.websocket_protocol import WebSocketProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from app.closecodes import CloseCode
from app.faults import fault

log = logging.getLogger("peerbook.websocket")

# The library logs every connection's opening and closing; we log people arriving and leaving ourselves.
_silent = logging.getLogger("peerbook.websockets")
_silent.setLevel(logging.CRITICAL)

_MOST_UNSENT = 256 * 1024
_MOST_FRAGMENTS = 64
_LINGER = 1.0  # seconds a client has to answer our close frame
_PING_EVERY = 25
_PONG_WITHIN = 20

OnMessage = Callable[[bytes], None]
OnClose = Callable[[], None]


class Frames(ServerProtocol):
    """The frames of one connection, as the library knows them, but for one thing."""

    def recv_frame(self, frame: Frame) -> None:
        """A close may stand between the fragments of a message (RFC 6455, section 5.4); the library refuses it."""
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)


class SocketProtocol(WebSocketProtocol):
    """Sanic's HTTP protocol, which hands an upgraded connection over to a WebSocket and then lets go of it."""

    __slots__ = ("_handed_over",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._handed_over = False

    async def websocket_handshake(self, request: Request, subprotocols: Any = None) -> "Upgraded":
        """Answer the upgrade; raises SanicException with the status of a refusal."""
        frames = Frames(state=State.OPEN, max_size=self.websocket_max_size, logger=_silent)
        response = frames.accept(self.sanic_request_to_ws_request(request))
        if response.status_code != 101:
            headers = {"Upgrade": "websocket"} if response.status_code == 426 else {}
            raise SanicException("This address speaks WebSocket only.", response.status_code, headers=headers)
        transport = self.transport
        if transport is None or transport.is_closing():
            raise asyncio.CancelledError
        head = "".join(f"{name}: {value}\r\n" for name, value in response.headers.raw_items())
        transport.write(f"HTTP/1.1 101 Switching Protocols\r\n{head}\r\n".encode())
        socket = WebSocket(transport, frames, self.app.ctx.pinger, self.connections)
        self._handed_over = True
        self.connections.discard(self)
        transport.pause_reading()  # until somebody listens
        transport.set_protocol(socket)
        socket.take_over(bytes(self.recv_buffer))
        self.recv_buffer.clear()
        return Upgraded(socket)

    def close_if_idle(self) -> bool:
        """Part of the server's stop. A connection that was just taken in has not said yet what it wants."""
        if self.state["requests_count"] == 0:
            return False
        return bool(super().close_if_idle())  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        """Part of the server's stop: end at once. Sanic's own forgets the transport while its task still needs it."""
        if self.transport:
            self.transport.abort()

    def close(self, timeout: float | None = None) -> None:
        """Sanic closes when its handler is done; a connection that was handed over is not Sanic's any more."""
        if not self._handed_over:
            super().close(timeout)
        elif self._callback_check_timeouts:
            self._callback_check_timeouts.cancel()


class Upgraded:
    """What Sanic gives to a handler: the open `socket`. Sanic ends it when the handler returns; ours goes on."""

    __slots__ = ("socket",)

    def __init__(self, socket: "WebSocket") -> None:
        self.socket = socket

    async def close(self) -> None:
        """The handler returned."""

    def end_connection(self, code: int) -> None:
        """The handler was cancelled."""
        self.socket.close(CloseCode.GOING_AWAY)


class WebSocket(asyncio.Protocol):
    """One open WebSocket. It is born paused: `attach` it to its callbacks, then `resume`."""

    __slots__ = (
        *("_connections", "_fragments", "_frames", "_heard", "_linger", "_on_close", "_on_message"),
        *("_parts", "_paused", "_queue", "_slot", "_text", "_transport", "closed"),
    )

    def __init__(self, transport: asyncio.Transport, frames: Frames, pinger: "Pinger", connections: set[Any]) -> None:
        self.closed = False
        self._transport = transport
        self._frames = frames
        self._slot = pinger.next_slot()
        self._connections = connections
        self._on_message: OnMessage | None = None
        self._on_close: OnClose | None = None
        self._queue: list[bytes] = []
        self._parts: list[bytes] = []
        self._text = True
        self._fragments = 0
        self._paused = True
        self._heard = True
        self._linger: asyncio.TimerHandle | None = None
        connections.add(self)
        self._slot.add(self)

    # For the application

    def attach(self, on_message: OnMessage, on_close: OnClose) -> None:
        """Call `on_message` with each text message (UTF-8 that was checked) and `on_close` once, at the end.

        A binary message is none of the protocol: it is handed on as an empty one and answered like any bad message.
        """
        self._on_message = on_message
        self._on_close = on_close
        if self.closed:
            on_close()

    def send(self, text: bytes) -> bool:
        """Send a text message. False, and nothing is queued, when the socket is closing or the peer reads too slowly."""
        if self._frames.state is not State.OPEN or self._transport.get_write_buffer_size() > _MOST_UNSENT:
            return False
        self._frames.send_text(text)
        self._flush()
        return True

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send a close frame (RFC 6455, section 7.4) and end, with or without the peer's answer."""
        if self._frames.state is State.OPEN:
            self._frames.send_close(code, reason)
            self._flush()
        if self._linger is None:
            self._transport.resume_reading()
            self._linger = asyncio.get_running_loop().call_later(_LINGER, self._transport.abort)

    def pause(self) -> None:
        """Keep further messages back: the application is busy with one."""
        self._paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        """Go on with the messages that were kept back."""
        self._paused = False
        while self._queue and not self._paused:
            self._deliver(self._queue.pop(0))
        if not self._paused and not self.closed:
            self._transport.resume_reading()

    # For the pinger

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        if self._frames.state is State.OPEN:
            self._heard = False
            self._frames.send_ping(b"")
            self._flush()

    def expect_life(self) -> None:
        """Cut a peer that gave no sign of life since the last ping."""
        if not self._heard and not self._paused:
            self._transport.abort()

    # For Sanic, which stops by calling these on everything in its set of connections

    def close_if_idle(self) -> bool:
        """Part of the server's stop."""
        self.close(CloseCode.GOING_AWAY)
        return self.closed

    def abort(self) -> None:
        """Part of the server's stop: end at once."""
        self._transport.abort()

    # asyncio.Protocol

    def take_over(self, received: bytes) -> None:
        """The bytes that came behind the upgrade request."""
        if received:
            self.data_received(received)

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer: answer what the protocol answers, hand on what is a message."""
        self._heard = True
        self._frames.receive_data(data)
        for frame in self._frames.events_received():
            if isinstance(frame, Frame):
                self._receive(frame)
        self._flush()

    def eof_received(self) -> bool:
        """The peer will send no more."""
        self._frames.receive_eof()
        self._flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, however that came."""
        self.closed = True
        self._connections.discard(self)
        self._slot.discard(self)
        if self._linger:
            self._linger.cancel()
        if self._on_close:
            self._on_close()

    def pause_writing(self) -> None:
        """`send` looks at the size of the buffer itself."""

    def resume_writing(self) -> None:
        """`send` looks at the size of the buffer itself."""

    def _receive(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._text = frame.opcode is Opcode.TEXT
            self._parts, self._fragments = [bytes(frame.data)], 1
        elif frame.opcode is Opcode.CONT:
            self._parts.append(bytes(frame.data))
            self._fragments += 1
        else:
            return
        if not frame.fin:
            if self._fragments >= _MOST_FRAGMENTS:
                self._fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            return
        message, self._parts = b"".join(self._parts), []
        if not self._text:
            message = b""
        elif not _is_utf8(message):
            return self._fail(CloseCode.INVALID_DATA, "not UTF-8")
        if self._paused:
            self._queue.append(message)
        else:
            self._deliver(message)

    def _deliver(self, message: bytes) -> None:
        if self._on_message is None or self._frames.state is not State.OPEN:
            return
        try:
            self._on_message(message)
        except Exception as error:  # nobody above us would catch it
            log.error("event=websocket_handler_failed error=%s", fault(error))
            self.close(CloseCode.INTERNAL_ERROR)

    def _fail(self, code: CloseCode, reason: str) -> None:
        if self._frames.state is State.OPEN:
            self._frames.fail(code, reason)

    def _flush(self) -> None:
        for data in self._frames.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._end()

    def _end(self) -> None:
        """Both sides said all. Closing while the peer still sends would make a reset that eats our close frame."""
        if self._transport.can_write_eof():
            self._transport.write_eof()
        if self._linger is None:
            self._transport.resume_reading()
            self._linger = asyncio.get_running_loop().call_later(_LINGER, self._transport.abort)


class Pinger:
    """One timer for all sockets: each is pinged every 25 s and has 20 s to answer."""

    def __init__(self, *, every: int = _PING_EVERY, within: int = _PONG_WITHIN, tick: float = 1.0) -> None:
        self._slots: list[set[WebSocket]] = [set() for _ in range(every)]
        self._within = within
        self._tick = tick
        self._now = 0
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None

    def next_slot(self) -> "set[WebSocket]":
        """The set of a new socket: whatever is in it is pinged in the same second. Sockets are spread evenly."""
        self._next = (self._next + 1) % len(self._slots)
        return self._slots[self._next]

    def start(self) -> None:
        """Begin to tick."""
        self._timer = asyncio.get_running_loop().call_later(self._tick, self._beat)

    def stop(self) -> None:
        """Tick no more."""
        if self._timer:
            self._timer.cancel()

    def _beat(self) -> None:
        self.start()
        self._now += 1
        count = len(self._slots)
        for socket in tuple(self._slots[(self._now - self._within) % count]):
            socket.expect_life()
        for socket in tuple(self._slots[self._now % count]):
            socket.ping()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
