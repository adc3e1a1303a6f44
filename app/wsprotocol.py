"""What Sanic is given for its `protocol=`: HTTP with deadlines, and the upgrade of a connection to a WebSocket.

Sanic speaks HTTP, routes the request and calls `websocket_handshake`. From there on the transport belongs to a WebSocket
(sockets.py), and Sanic is done with it. What this leans on of Sanic and `websockets` is held by tests/test_leans.py.
"""

import asyncio
import logging
from typing import Any

from sanic.exceptions import RequestTimeout, SanicException
from sanic.http import Stage
from sanic.request import Request
from sanic.server.protocols.websocket_protocol import WebSocketProtocol
from websockets.server import ServerProtocol

from app.closecodes import CloseCode
from app.sockets import DRAIN_WITHIN, LINGER, WebSocket

REQUEST_SECONDS = 15.0
"""Seconds for the head of a request, and as many for its body, in whatever pieces they come."""

# The library would log every handshake.
_silent = logging.getLogger("peerbook.websockets")
_silent.setLevel(logging.CRITICAL)

_NEVER = float("inf")
_MOST_AHEAD = 16 * 1024  # bytes that are kept of one whose turn has not come


class SocketProtocol(WebSocketProtocol):
    """Sanic's HTTP protocol, which hands an upgraded connection over to a WebSocket and then lets go of it."""

    __slots__ = ("_first", "_handed_over", "_handler", "_part", "_part_due", "_unsent", "_unsent_due")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._handed_over = False
        self._handler: Any = None
        self._first: bytes | None = b""
        self._part: tuple[int, str] | None = None
        self._part_due = _NEVER
        self._unsent = 0
        self._unsent_due = _NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody called."""
        super().connection_made(transport)  # type: ignore[no-untyped-call]
        self.app.ctx.lobby.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.app.ctx.lobby.leave(self)
        super().connection_lost(exc)  # type: ignore[no-untyped-call]

    def data_received(self, data: bytes) -> None:
        """Bytes of a request. The first ones wait for their turn, so not all who call at once are served at once."""
        if self._first is None:
            return super().data_received(data)  # type: ignore[no-untyped-call,no-any-return]
        if not self._first:
            self._first = data
            is_socket = data.startswith(b"GET /ws")
            return self.app.ctx.lobby.queue(self, is_socket=is_socket)  # type: ignore[no-any-return]
        self._first += data
        if len(self._first) > _MOST_AHEAD and self.transport:
            self.transport.pause_reading()

    def come_in(self) -> None:
        """Part of the lobby's order: its turn has come."""
        first, self._first = self._first, None
        if self.transport and not self.transport.is_closing():
            self.transport.resume_reading()
            super().data_received(first)  # type: ignore[no-untyped-call]

    async def websocket_handshake(self, request: Request, subprotocols: Any = None) -> "Upgraded":
        """Answer the upgrade; raises SanicException with the status of a refusal."""
        response = ServerProtocol(logger=_silent).accept(self.sanic_request_to_ws_request(request))
        if response.status_code != 101:
            headers = {"Upgrade": "websocket"} if response.status_code == 426 else {}
            raise SanicException("This address speaks WebSocket only.", response.status_code, headers=headers)
        transport = self.transport
        if transport is None or transport.is_closing():
            raise asyncio.CancelledError
        head = "".join(f"{name}: {value}\r\n" for name, value in response.headers.raw_items())
        context = self.app.ctx
        most = self.websocket_max_size
        assert most is not None
        socket = WebSocket(transport, most, context.wheel, context.outbox, self.connections)
        transport.write(f"HTTP/1.1 101 Switching Protocols\r\n{head}\r\n".encode())
        self._handed_over, self._handler = True, self.http
        self.connections.discard(self)
        context.lobby.leave(self)
        transport.pause_reading()  # until somebody listens
        transport.set_protocol(socket)
        if transport.get_write_buffer_size():  # Sanic's protocol was told
            socket.pause_writing()
        if self.recv_buffer:  # what came behind the request
            socket.data_received(bytes(self.recv_buffer))
            self.recv_buffer.clear()
        return Upgraded(socket)

    # For the lobby

    def beat(self, now: float) -> bool:
        """End what takes too long: a request to come, an answer to be read."""
        http, transport = self.http, self.transport
        if http is None or transport is None or transport.is_closing():
            return False
        unsent = transport.get_write_buffer_size()
        if not unsent or unsent < self._unsent or self._unsent_due == _NEVER:
            self._unsent_due = now + DRAIN_WITHIN if unsent else _NEVER
        elif now >= self._unsent_due:
            transport.abort()
            return True
        self._unsent = unsent
        part = self._coming_part()
        if part != self._part:
            self._part, self._part_due = part, now + REQUEST_SECONDS if part else _NEVER
        elif now >= self._part_due:
            self._end_late(now)
            return True
        return False

    def _coming_part(self) -> tuple[int, str] | None:
        """Which part of which request the client has to send now."""
        number, stage = self.state["requests_count"], self.http.stage
        if stage is Stage.REQUEST:
            return number, "head"
        if stage in (Stage.HANDLER, Stage.IDLE) and self.http.request_body:
            return number, "body"  # when it is idle, Sanic has answered and reads what is left
        return (number, "beginning") if stage is Stage.IDLE and number == 0 else None

    def _end_late(self, now: float) -> None:
        """As Sanic ends what takes too long by its own clock, which begins anew with each byte. At first it answers."""
        self._part_due = now + LINGER
        self.http.exception = RequestTimeout()
        if self._task:
            self._task.cancel()

    def make_room(self) -> bool:
        """Part of the lobby's order: one that brought no request goes."""
        if self.transport is None or (self.http and self.http.stage in (Stage.HANDLER, Stage.RESPONSE)):
            return False
        self.transport.abort()
        return True

    # For the server's stop

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
            return
        if self._callback_check_timeouts:
            self._callback_check_timeouts.cancel()
            self._callback_check_timeouts = None
        if self._handler:  # it holds itself, so all this would stay until Python looks for cycles
            self._handler.response_func = None
            self._handler = None


class Upgraded:
    """What Sanic gives to a handler: the open `socket`. Sanic ends it when the handler returns; ours goes on."""

    __slots__ = ("socket",)

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket

    async def close(self) -> None:
        """The handler returned."""

    def end_connection(self, code: int) -> None:
        """The handler was cancelled."""
        self.socket.close(CloseCode.GOING_AWAY)
