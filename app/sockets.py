"""Sockets: an open WebSocket, whose frames are handled where they arrive, without a task or a timer of its own.

Whatever a client sends or fails to read, it costs little, delays nobody else, and ends by itself. The states and limits
are in docs/websocket.md.
"""

import asyncio
import logging
from enum import Enum, auto
from typing import Any, Protocol

from app.closecodes import CloseCode
from app.faults import fault
from app.frames import BINARY, CLOSE, PING, PONG, TEXT, BadFrame, Reader, check_close, encode_close, encode_frame
from app.outbox import Outbox
from app.wheel import Wheel

log = logging.getLogger("peerbook.websocket")

MOST_UNSENT = 256 * 1024
"""Bytes that wait for a slow reader before nothing more is queued for it."""

MOST_UNSENT_IN_ALL = 2 * 1024 * 1024
"""Bytes that wait for all slow readers of a process before nothing more is queued for any of them."""

DRAIN_WITHIN = 10.0
"""Seconds in which a peer must read 16 KiB of what waits for it, or all."""

LINGER = 1.0
"""Seconds a client has to answer our close frame."""

_LEAST_READ = 16 * 1024  # what a peer has to read within that time

# Bytes of a message that has begun, of a client that is not known. To prove itself it needs fewer.
_MOST_OF_STRANGERS = 16 * 1024

_MOST_TOGETHER = 8 * 1024  # bytes that wait for the end of a turn of the loop, to leave as one

# Bytes come into this, and are taken out of it at once. So no more of them are kept for a socket whose message waits
# for its turn; the system keeps the rest.
_ARRIVING = memoryview(bytearray(8 * 1024))

# Noise is what comes and brings no message. So much may come in one turn of the wheel; a control frame counts as ten,
# a small piece of a frame as one. So ten pings a second are fine, and a message may come in a hundred pieces a second.
_MOST_NOISE = 2500
_PIECE = 512  # bytes of one that is not small
_CONTROL_NOISE = 10

_PING = encode_frame(PING, b"")


class Application(Protocol):
    """Who listens to a socket."""

    @property
    def is_known(self) -> bool:
        """Whether it may say as much as anybody."""

    def message(self, data: bytes, is_text: bool) -> None:
        """A whole message; text is UTF-8 that was checked."""

    def closed(self) -> None:
        """It is over. Called once, at the end."""


class _State(Enum):
    OPEN = auto()
    CLOSING = auto()  # we said close, and wait for the other's
    OVER = auto()  # nothing more is read or said; the other side hangs up, or is cut


_OPEN, _CLOSING, _OVER = _State.OPEN, _State.CLOSING, _State.OVER


class WebSocket(asyncio.BufferedProtocol):
    """One open WebSocket. It is born paused: `attach` it to its application, then `resume`."""

    __slots__ = (
        *("_application", "_connections", "_due", "_heard", "_left", "_noise", "_outbox", "_paused"),
        *("_reader", "_slot", "_state", "_transport", "_unsent", "_wheel", "closed"),
    )

    def __init__(
        self, transport: asyncio.Transport, most: int, wheel: Wheel, outbox: Outbox, connections: set[Any]
    ) -> None:
        self.closed = False
        self._transport = transport
        self._reader = Reader(most)
        self._wheel = wheel
        self._outbox = outbox
        self._unsent = b""
        self._slot = wheel.next_slot()
        self._connections = connections
        self._application: Application | None = None
        self._state = _OPEN
        self._paused = True
        self._heard = True
        self._noise = 0
        self._left = 0
        self._due = 0.0
        transport.set_write_buffer_limits(high=0)  # so it tells us as soon as anything has to wait
        connections.add(self)
        self._slot.add(self)

    # For the application

    def attach(self, application: Application) -> None:
        """Have `application` hear of each message, and of the end."""
        if self.closed:
            return application.closed()
        self._application = application

    @property
    def is_open(self) -> bool:
        """Whether neither side has said close."""
        return self._state is _OPEN

    def send(self, message: bytes, *, is_text: bool = True) -> bool:
        """Send a message. False, and nothing is queued, when the socket is closing or the peer reads too slowly."""
        if self._state is not _OPEN:
            return False
        size = self._transport.get_write_buffer_size()
        if size and (size > MOST_UNSENT or self._outbox.unread > MOST_UNSENT_IN_ALL):
            return False
        self._write(encode_frame(TEXT if is_text else BINARY, message))
        return True

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send a close frame (RFC 6455, section 7.4) and end, with or without the peer's answer."""
        if self._state is _OPEN:
            self._state = _CLOSING
            self._write(encode_close(code, reason))
            self._hang_up_soon()
            if code is CloseCode.FLOODING:  # whatever it still says
                self._end()

    def pause(self) -> None:
        """Keep further messages back: the application is busy with one."""
        self._paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        """Go on with what was kept back."""
        self._paused = False
        if not self.closed:
            self._transport.resume_reading()
            self._read()

    # For the wheel

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self._noise = 0
        if self._state is _OPEN:
            self._heard = False
            self._write(_PING)

    def expect_life(self) -> None:
        """Cut a peer that gave no sign of life since the last ping."""
        if not self._heard and not self._paused:
            self._transport.abort()

    def beat(self, now: float) -> None:
        """Cut a peer that has read next to nothing for a while. Its system may take a byte now and then, and so may it."""
        size = self._transport.get_write_buffer_size()
        if size <= self._left - _LEAST_READ:
            self._wait_for(size)
        elif now >= self._due:
            self._wheel.unwatch(self)
            self.close(CloseCode.TRY_AGAIN_LATER, "you read nothing")

    # For the outbox

    def flush(self) -> None:
        """Hand over to the system what was said in this turn."""
        frames, self._unsent = self._unsent, b""
        if frames and not self.closed:
            if self._left:
                self._left += len(frames)
                self._outbox.unread += len(frames)
            self._transport.write(frames)

    # For Sanic, which stops by calling these on everything in its set of connections

    def close_if_idle(self) -> bool:
        """Part of the server's stop."""
        self.close(CloseCode.GOING_AWAY)
        return self.closed

    def abort(self) -> None:
        """Part of the server's stop: end at once."""
        self._transport.abort()

    # asyncio.BufferedProtocol

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes may be put."""
        return _ARRIVING

    def buffer_updated(self, nbytes: int) -> None:
        """So many came."""
        self.data_received(bytes(_ARRIVING[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer: answer what the protocol answers, hand on what is a message.

        The name is asyncio's, since uvloop keeps hold of a protocol's `data_received` until the next one brings its own.
        """
        self._heard = True
        if self._state is not _OVER:
            self._reader.feed(data)
            if not self._paused or self._state is _CLOSING:
                self._read()
                if len(data) < _PIECE and self._reader.held:
                    self._make_noise(1)

    def eof_received(self) -> bool:
        """The peer will send no more."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, however that came."""
        self.closed = True
        self._state = _OVER
        self._connections.discard(self)
        self._slot.discard(self)
        self.resume_writing()
        application, self._application = self._application, None  # which may hold us
        if application:
            application.closed()

    def pause_writing(self) -> None:
        """The system takes no more: from now on something must be read."""
        self._wait_for(self._transport.get_write_buffer_size())
        self._wheel.watch(self)

    def resume_writing(self) -> None:
        """It took all."""
        self._wait_for(0)
        self._wheel.unwatch(self)

    def _wait_for(self, size: int) -> None:
        """So much is left to be read, and something of it within a while."""
        self._outbox.unread += size - self._left
        self._left, self._due = size, self._wheel.now + DRAIN_WITHIN

    def _read(self) -> None:
        application = self._application
        try:
            while self._state is not _OVER and (not self._paused or self._state is _CLOSING):
                received = self._reader.read()
                if received is None:
                    if self._reader.held > _MOST_OF_STRANGERS and not (application and application.is_known):
                        raise BadFrame(CloseCode.MESSAGE_TOO_BIG, "too large for one that is not in")
                    return
                opcode, payload = received
                if opcode == CLOSE:
                    self._hear_close(payload)
                elif self._state is _CLOSING:
                    self._make_noise(_CONTROL_NOISE + len(payload) // _PIECE)
                elif opcode in (TEXT, BINARY):
                    if application:
                        application.message(payload, opcode == TEXT)
                else:
                    self._make_noise(_CONTROL_NOISE)
                    if opcode == PING:
                        self._pong(payload)
        except BadFrame as error:
            self.close(error.code, error.reason)
            self._end()
        except Exception as error:  # nobody above us would catch it
            log.error("event=websocket_handler_failed error=%s", fault(error))
            self.close(CloseCode.INTERNAL_ERROR)

    def _hear_close(self, payload: bytes) -> None:
        """Answer it with the same; or it is the answer to ours."""
        check_close(payload)
        if self._state is _OPEN:
            self._write(encode_frame(CLOSE, payload))
            self._hang_up_soon()
        self._end()

    def _pong(self, payload: bytes) -> None:
        if self._state is _OPEN and self._transport.get_write_buffer_size() <= MOST_UNSENT:
            self._write(encode_frame(PONG, payload))

    def _make_noise(self, noise: int) -> None:
        self._noise += noise
        if self._noise > _MOST_NOISE:
            self.close(CloseCode.FLOODING, "too much that is no message")
            self._end()

    def _write(self, frame: bytes) -> None:
        if self._unsent:
            self._unsent += frame
        else:
            self._unsent = frame
            self._outbox.add(self)
        if len(self._unsent) > _MOST_TOGETHER:
            self.flush()

    def _end(self) -> None:
        """Nothing more is read or said. To hang up while the peer still sends would make a reset that eats our close."""
        if self._state is not _OVER:
            self._state = _OVER
            self._reader = Reader(0)
            self.flush()
            if self._transport.can_write_eof() and not self._transport.is_closing():
                self._transport.write_eof()

    def _hang_up_soon(self) -> None:
        self._transport.resume_reading()
        self._wheel.after(LINGER, self._transport.abort)
