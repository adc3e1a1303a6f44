"""Frames against the `websockets` library: whatever a client sends, in whatever pieces, both read the same."""

import secrets

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from app.closecodes import CloseCode
from app.frames import (
    BINARY,
    CLOSE,
    MOST_FRAGMENTS,
    PING,
    TEXT,
    BadFrame,
    Reader,
    Received,
    check_close,
    encode_close,
    encode_frame,
)

MOST = 1000


def a_frame(opcode: int, payload: bytes, *, final: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """A frame as a client sends it, or as it should not."""
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    size, mask = len(payload), 0x80 if masked else 0
    if size < 126:
        head += bytes([mask | size])
    elif size < 1 << 16:
        head += bytes([mask | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([mask | 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    key = secrets.token_bytes(4)
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def read_here(pieces: list[bytes]) -> tuple[list[Received], str]:
    """What our reader reads, and how that ends: with 'more', a close, or what is wrong."""
    reader, read = Reader(MOST), []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (received := reader.read()) is not None:
                if received[0] == CLOSE:
                    check_close(received[1])
                read.append(received)
                if received[0] == CLOSE:
                    return read, "closed"
    except BadFrame as error:
        return read, str(int(error.code))
    return read, "more"


def read_there(pieces: list[bytes]) -> tuple[list[Received], str]:
    """What the library reads, put together as an application would."""
    there = ServerProtocol(state=State.OPEN, max_size=MOST)
    read: list[Received] = []
    opcode, parts, number = 0, b"", 0
    for piece in pieces:
        there.receive_data(piece)
        for frame in there.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE):
                read.append((int(frame.opcode), bytes(frame.data)))
                continue
            if frame.opcode is not Opcode.CONT:
                opcode, parts, number = int(frame.opcode), b"", 0
            parts, number = parts + bytes(frame.data), number + 1
            assert number <= MOST_FRAGMENTS
            if frame.fin:
                read.append((opcode, parts))
        if there.close_sent is not None:
            closed = there.close_rcvd is not None and bool(read) and read[-1][0] == CLOSE
            return read, "closed" if closed else str(int(there.close_sent.code))
    return read, "more"


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """The bytes in pieces."""
    ends = sorted({min(each, len(data)) for each in at} | {len(data)})
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False) if end > begin]


frames = st.builds(
    a_frame,
    st.sampled_from([0, 0, 1, 1, 2, 8, 9, 10, 3, 11]),
    st.one_of(st.text(max_size=30).map(str.encode), st.binary(max_size=130), st.just(b"x" * 600)),
    final=st.booleans(),
    reserved=st.sampled_from([0] * 12 + [1, 2, 4]),
    masked=st.sampled_from([True] * 12 + [False]),
)


def is_text(received: Received) -> bool:
    try:
        received[1].decode()
    except UnicodeDecodeError:
        return received[0] != TEXT
    return True


@given(st.one_of(st.lists(frames, max_size=12).map(b"".join), st.binary(max_size=40)), st.lists(st.integers(0, 2000)))
@example(a_frame(TEXT, b"a", final=False) + a_frame(CLOSE, b"\x03\xe8"), [])
@example(a_frame(TEXT, b"\xff", final=False) + a_frame(0, b"", final=False) + b"\x00", [])
def test_whatever_comes_in_whatever_pieces_is_read_as_the_library_reads_it(data: bytes, at: list[int]) -> None:
    pieces = cut(data, at)
    here, how_here = read_here(pieces)
    there, how_there = read_there(pieces)
    if how_here == "1007":
        # Ours alone checks texts, and does so as soon as it can be known.
        assert there[: len(here)] == here
        assert all(map(is_text, here))
    elif how_here == "closed" and how_there == "1002":
        # A close between fragments is refused by the library; RFC 6455, section 5.4, allows it.
        assert here[:-1] == there
    elif how_here in ("1002", "1009") and how_there != how_here:
        # Ours refuses a frame as soon as its first two bytes tell, the library when it is there.
        assert here == there
        assert how_there in ("more", "1002", "1009")
    else:
        assert (here, how_here) == (there, how_there)
        assert all(map(is_text, here))


@given(st.lists(frames, max_size=8).map(b"".join), st.lists(st.integers(0, 2000)))
def test_the_pieces_in_which_bytes_come_change_nothing(data: bytes, at: list[int]) -> None:
    assert read_here(cut(data, at)) == read_here(cut(data, list(range(len(data)))))


@given(st.sampled_from([TEXT, BINARY, PING]), st.sampled_from([0, 1, 125, 126, 65535, 65536, 70000]))
def test_what_is_written_is_what_the_library_writes(opcode: int, size: int) -> None:
    if opcode == PING:
        size = min(size, 125)
    payload = b"x" * size
    assert encode_frame(opcode, payload) == Frame(Opcode(opcode), payload).serialize(mask=False)


@pytest.mark.parametrize("code", CloseCode)
def test_a_close_is_what_the_library_writes(code: CloseCode) -> None:
    payload = Close(int(code), "why").serialize()
    assert encode_close(code, "why") == Frame(Opcode.CLOSE, payload).serialize(mask=False)
    check_close(payload)


def test_as_many_fragments_as_there_may_be_are_a_message_and_one_more_is_none() -> None:
    pieces = [a_frame(TEXT, b"a", final=False), *[a_frame(0, b"", final=False)] * (MOST_FRAGMENTS - 2)]
    assert read_here([*pieces, a_frame(0, b"b")]) == ([(TEXT, b"ab")], "more")
    assert read_here([*pieces, a_frame(0, b"", final=False), a_frame(0, b"b")]) == ([], "1009")


def test_a_fragment_that_is_no_text_is_refused_before_the_message_is_whole() -> None:
    assert read_here([a_frame(TEXT, b"\xc3", final=False), a_frame(0, b"x", final=False)]) == ([], "1007")
    assert read_here([a_frame(TEXT, b"\xc3")]) == ([], "1007")


@pytest.mark.parametrize("size", [MOST + 1, 1 << 16, 1 << 31, 1 << 62, 1 << 63, (1 << 64) - 1])
def test_a_length_that_is_too_large_is_refused_by_its_head(size: int) -> None:
    assert read_here([bytes([0x81, 0xFF]) + size.to_bytes(8, "big")]) == ([], "1009")


def test_what_was_read_is_not_kept() -> None:
    reader = Reader(MOST)
    reader.feed(a_frame(TEXT, b"x" * 900) + a_frame(TEXT, b"y"))
    assert [reader.read(), reader.read(), reader.read()] == [(TEXT, b"x" * 900), (TEXT, b"y"), None]
    assert not reader.held
    assert not reader._data
