"""A load generator: peers on bare WebSocket frames, cheap enough that a server on the next core is what gets measured."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

Pair = tuple["LoadPeer", "LoadPeer"]

_AT_ONCE = 100  # connections that arrive at the same time
_PATIENCE = 60.0
_TIMER_SECONDS = 0.002  # by which a timer may come late
_TEXT, _PING = 1, 9
_PONG = b"\x8a\x80\0\0\0\0"


class LoadPeer(asyncio.Protocol):
    """One peer: it arrives, sends candidates to another, and calls `heard` with each that comes for it."""

    def __init__(self, fp: str, uid: str) -> None:
        self.fp = fp
        self.uid = uid
        self.heard: Callable[[], None] = lambda: None
        self.refusals: list[bytes] = []
        self.turned_away = 0
        self._rest = b""
        self._arrived: asyncio.Future[bool]
        self._closed: asyncio.Future[None]
        self._transport: asyncio.Transport
        self._upgraded = False

    async def connect(self, url: str) -> None:
        """Open the socket, and wait until this peer is in and has its list; again where the server turns it away."""
        while not await self._arrive(url):
            self.turned_away += 1
            await asyncio.sleep(1)

    async def _arrive(self, url: str) -> bool:
        loop, address = asyncio.get_running_loop(), urlsplit(url)
        self._arrived, self._closed = loop.create_future(), loop.create_future()
        self._rest, self._upgraded = b"", False
        self._transport, _ = await loop.create_connection(lambda: self, str(address.hostname), address.port or 80)
        self._transport.write(
            f"GET {self._path()} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        return await asyncio.wait_for(self._arrived, _PATIENCE)

    def _path(self) -> str:
        """What it asks for."""
        return f"/ws?fp={self.fp}&uid={self.uid}"

    async def closed(self) -> None:
        """Wait until the server has closed the socket."""
        await asyncio.wait_for(self._closed, _PATIENCE)

    def close(self) -> None:
        """Go away."""
        self._transport.abort()

    def say(self, frames: bytes) -> None:
        """Send what `frame_to` made."""
        self._transport.write(frames)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Take the frames that are whole, and keep the rest."""
        data = self._rest + data
        if not self._upgraded:
            head, mark, data = data.partition(b"\r\n\r\n")
            if not mark:
                self._rest = head
                return
            assert head.startswith(b"HTTP/1.1 101 "), head
            self._upgraded = True
        at = 0
        while (bounds := _bounds(data, at)) and bounds[1] <= len(data):
            self._take(data[at] & 15, data[bounds[0] : bounds[1]])
            at = bounds[1]
        self._rest = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if not self._arrived.done():
            self._arrived.set_result(False)
        if not self._closed.done():
            self._closed.set_result(None)

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self._transport.write(_PONG)
        elif opcode != _TEXT:
            return
        elif b'"candidate":' in payload:
            self.heard()
        elif payload.startswith(b'{"peers"'):
            if not self._arrived.done():
                self._arrived.set_result(True)
        elif payload.startswith(b'{"code":') and not payload.startswith(b'{"code":200'):
            self.refusals.append(payload)


def frame_to(target: LoadPeer) -> bytes:
    """A candidate for that peer as it travels, in a masked frame (RFC 6455, section 5.2)."""
    candidate = "candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr 0.0.0.0 rport 0 generation 0"
    text = f'{{"target":"{target.fp}","candidate":{{"candidate":"{candidate}","sdpMid":"0","sdpMLineIndex":0}}}}'
    assert 126 <= len(text) < 1 << 16
    return b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text.encode()  # a mask of zeros changes nothing


def _bounds(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the payload of the frame that begins there starts and ends; None where even that is not known yet."""
    head = data[at : at + 10]
    if len(head) < 2:
        return None
    size, start = head[1], 2
    if size == 126:
        size, start = int.from_bytes(head[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(head[2:10], "big"), 10
    return (at + start, at + start + size) if len(head) >= start else None


async def connect_all(peers: Iterable[LoadPeer], url: str) -> None:
    """Have all of them arrive."""
    waiting = deque(peers)

    async def connect_some() -> None:
        while waiting:
            await waiting.popleft().connect(url)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_AT_ONCE):
            tasks.create_task(connect_some())


class Relay:
    """So many messages through pairs of peers, in bursts as candidates come, a fixed number of bursts under way."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        messages: int,
        *,
        burst: int,
        at_once: int,
        frame_of: Callable[[Any, Any], bytes] = lambda _, target: frame_to(target),
    ) -> None:
        self._free = deque((source, target, frame_of(source, target) * burst) for source, target in pairs)
        self._to_begin = self._to_end = messages // burst
        self._burst = burst
        self._at_once = at_once
        self._done = asyncio.get_running_loop().create_future()

    async def run(self) -> float:
        """Send them all; returns the seconds until the last one arrived."""
        began = time.perf_counter()
        for _ in range(self._at_once):
            self._begin()
        try:
            await asyncio.wait_for(self._done, _PATIENCE)
        except TimeoutError:
            refusals = [refusal for source, *_ in self._free for refusal in source.refusals]
            raise AssertionError(f"{self._to_end} bursts did not arrive; refused: {refusals[:3]}") from None
        return time.perf_counter() - began

    def _begin(self) -> None:
        if not self._to_begin:
            return
        self._to_begin -= 1
        source, target, frames = pair = self._free.popleft()
        left = self._burst

        def heard() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self._free.append(pair)
                self._end()

        target.heard = heard
        source.say(frames)

    def _end(self) -> None:
        self._to_end -= 1
        if self._to_end == 0:
            self._done.set_result(None)
        else:
            self._begin()


async def delays(
    pairs: Sequence[Pair],
    rate: int,
    seconds: int,
    frame_of: Callable[[Any, Any], bytes] = lambda _, target: frame_to(target),
) -> list[float]:
    """How long each of `rate` messages a second took, from the moment at which it was due: a late one is not excused."""
    took: list[float] = []
    done = asyncio.get_running_loop().create_future()
    turns = [(source, frame_of(source, target), deque[float]()) for source, target in pairs]
    for (_, target), (*_, due_times) in zip(pairs, turns, strict=True):

        def heard(due_times: deque[float] = due_times) -> None:
            took.append(time.perf_counter() - due_times.popleft())
            if len(took) == rate * seconds:
                done.set_result(None)

        target.heard = heard
    start = time.perf_counter() + 0.1
    for number in range(rate * seconds):
        due = start + number / rate
        source, frame, due_times = turns[number % len(turns)]
        await _until(due)
        due_times.append(due)
        source.say(frame)
    await asyncio.wait_for(done, _PATIENCE)
    return took


async def _until(due: float) -> None:
    """Wait for that moment. The loop's own timers are up to a millisecond late, as much as what is measured takes."""
    await asyncio.sleep(max(0, due - time.perf_counter() - _TIMER_SECONDS))
    while time.perf_counter() < due:  # noqa: ASYNC110 - that is what is waited for
        await asyncio.sleep(0)
