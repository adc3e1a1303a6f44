"""Frames: what a WebSocket puts on the wire (RFC 6455, section 5), read as it arrives and written. Pure."""

import codecs
from struct import Struct
from typing import Final

from app.closecodes import CloseCode

try:  # the library's own way to the faster of its two
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
_CONTINUATION: Final = 0x0
_FINAL: Final = 0x80
_MASKED: Final = 0x80
_CONTROL: Final = 0x08

MOST_FRAGMENTS = 64
"""Frames of one message. An empty one counts like any other."""

# What may stand in the first byte beside the final bit. No reserved bit: nothing was agreed that would use one.
_KNOWN = frozenset({_CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_SMALL, _MEDIUM, _LARGE = Struct("!BB"), Struct("!BBH"), Struct("!BBQ")
_CLOSE_CODE = Struct("!H")

# RFC 6455, section 7.4, and what was registered since; 1004, 1005, 1006 and 1015 are never sent.
_CLOSE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})

Received = tuple[int, bytes]
"""The opcode and payload of a whole message, or of a control frame."""


class BadFrame(Exception):
    """The client broke the protocol: the code with which it is closed, and why."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Reader:
    """Reads what one client sends: `feed` it the bytes, then `read` until that is None.

    It keeps no more than one message of at most `most` bytes, and what was fed and not read yet. Nothing that is read
    costs more than its own bytes, so whoever reads may stop at any time, and does when it has had enough.
    """

    __slots__ = ("_at", "_data", "_message", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._data: bytes | bytearray = b""
        self._at = 0
        self._message: _Fragments | None = None

    @property
    def held(self) -> int:
        """Bytes that came and are not read: of what has begun, and of what whoever reads has left."""
        return len(self._data) - self._at + (self._message.size if self._message else 0)

    def feed(self, data: bytes) -> None:
        """Bytes that arrived."""
        if not self._data:
            self._data = data
            return
        if not isinstance(self._data, bytearray):
            self._data = bytearray(self._data)
        del self._data[: self._at]
        self._data += data
        self._at = 0

    def read(self) -> Received | None:
        """The next message or control frame, None where more has to come. Raises BadFrame."""
        while (frame := self._next_frame()) is not None:
            first, payload = frame
            opcode = first & 0xF
            if opcode & _CONTROL:
                return opcode, payload
            if self._message is None:
                if first & _FINAL:
                    if opcode == TEXT and not payload.isascii():
                        _check_text(payload)
                    return frame[0] & 0xF, payload
                self._message = _Fragments(opcode)
            message = self._message
            message.add(payload, final=first >= _FINAL)
            if first & _FINAL:
                self._message = None
                return message.opcode, b"".join(message.parts)
        return None

    def _next_frame(self) -> Received | None:
        """The first byte and the payload of the next frame that has come whole."""
        data, at = self._data, self._at
        left = len(data) - at
        if left < 6:  # the shortest one is its mask and two bytes
            if left >= 2:
                self._check_head(data[at], data[at + 1])
            return None
        first, second = data[at], data[at + 1]
        self._check_head(first, second)
        length, begin = second & 0x7F, at + 6
        if length == 126:
            length, begin = (data[at + 2] << 8) | data[at + 3], at + 8
        elif length == 127:
            if left < 10:
                return None
            length, begin = int.from_bytes(data[at + 2 : at + 10], "big"), at + 14
        if length > self._most - (self._message.size if self._message and not first & _CONTROL else 0):
            raise BadFrame(CloseCode.MESSAGE_TOO_BIG, "too large")
        end = begin + length
        if end > len(data):
            return None
        payload = apply_mask(data[begin:end], data[begin - 4 : begin])
        if end > len(data) // 2:
            self._data, self._at = data[end:], 0  # what was read is not kept
        else:
            self._at = end
        return first, payload

    def _check_head(self, first: int, second: int) -> None:
        opcode = first & 0x7F
        if opcode not in _KNOWN:
            raise BadFrame(CloseCode.PROTOCOL_ERROR, "unknown opcode or reserved bit")
        if second < _MASKED:
            raise BadFrame(CloseCode.PROTOCOL_ERROR, "not masked")
        if opcode & _CONTROL:
            if first < _FINAL or second > _MASKED + 125:
                raise BadFrame(CloseCode.PROTOCOL_ERROR, "a control frame is short and whole")
        elif (opcode == _CONTINUATION) is (self._message is None):
            raise BadFrame(CloseCode.PROTOCOL_ERROR, "a fragment at the wrong place")


class _Fragments:
    """A message of which not all frames have come."""

    __slots__ = ("_decoder", "opcode", "parts", "size")

    def __init__(self, opcode: int) -> None:
        self.opcode = opcode
        self.parts: list[bytes] = []
        self.size = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT else None

    def add(self, payload: bytes, *, final: bool) -> None:
        """One more of its frames; raises BadFrame, where it is no text as soon as that shows."""
        if len(self.parts) == MOST_FRAGMENTS:
            raise BadFrame(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        self.parts.append(payload)
        self.size += len(payload)
        if self._decoder:
            try:
                self._decoder.decode(payload, final)
            except UnicodeDecodeError:
                raise BadFrame(CloseCode.INVALID_DATA, "not UTF-8") from None


def _check_text(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        raise BadFrame(CloseCode.INVALID_DATA, "not UTF-8") from None


def check_close(payload: bytes) -> None:
    """Check what stands in a close frame (section 5.5.1): nothing, or a code and a reason. Raises BadFrame."""
    _check_text(payload[2:])
    if payload and (len(payload) < 2 or _CLOSE_CODE.unpack_from(payload)[0] not in _CLOSE_CODES):
        raise BadFrame(CloseCode.PROTOCOL_ERROR, "no close code")


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """A frame as a server sends it: whole and not masked."""
    size = len(payload)
    if size < 126:
        return _SMALL.pack(_FINAL | opcode, size) + payload
    if size < 1 << 16:
        return _MEDIUM.pack(_FINAL | opcode, 126, size) + payload
    return _LARGE.pack(_FINAL | opcode, 127, size) + payload


def encode_close(code: int, reason: str = "") -> bytes:
    """A close frame; of the reason go as many bytes as there is room for."""
    return encode_frame(CLOSE, _CLOSE_CODE.pack(code) + reason.encode()[:123])
