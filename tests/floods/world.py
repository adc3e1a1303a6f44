"""A server in a process of its own, devices that talk through it all the time, and what they see of a flood."""

import asyncio
import itertools
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import quantiles
from typing import cast

from app.addresses import Address
from tests.crowds import upgrade
from tests.floods.attack import frame
from tests.parts import a_device, new_context
from tests.process import SERVE, Program, program, redis_server, server
from tests.support import SECONDS, eventually

LONG = "FLOODS" in os.environ
"""Whether the floods are as large, and the deadlines as late, as in the field: `make floods`."""

LIVE = 500 if LONG else 50
RATE = 200 if LONG else 100
"""Messages a second over all of them."""

SPEED = 1.0 if LONG else 10.0
"""How much faster than in the field the server's deadlines come."""

MOST_GROWTH = 10 * 1024 * 1024
"""Bytes that a flood may take of the server's memory."""

BOOK = 5

_AT_ONCE = 50
_PROBE_EVERY = 0.02
_PATIENCE = 90.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
_HURRIED = f"""
import functools, sys
from app import context, wheel
context.Wheel = functools.partial(wheel.Wheel, speed={SPEED})
from app.__main__ import main
sys.exit(main())
"""
_PONG = frame(0x8A)


class Live(asyncio.Protocol):
    """A device that is in: it hears what is for it, and answers pings."""

    def __init__(self, fp: str, uid: str) -> None:
        self.fp = fp
        self.uid = uid
        self.delays: list[float] = []
        self.last_at = 0.0
        self.under_way: set[int] = set()
        self.came_back: set[str] = set()
        """Who was said to be here, since this was emptied last."""
        self.pongs: list[float] = []
        self.cut = 0
        self._rest = b""
        self._welcome: asyncio.Future[None]
        self.transport: asyncio.Transport

    async def connect(self, url: str) -> None:
        """Connect, and wait until it is in and has its list."""
        loop = asyncio.get_running_loop()
        self._welcome, self._rest = loop.create_future(), b""
        host, _, port = url.removeprefix("http://").partition(":")
        await loop.create_connection(lambda: self, host, int(port))
        self.transport.write(upgrade(url, fp=self.fp, uid=self.uid))
        await asyncio.wait_for(self._welcome, SECONDS)

    def say(self, target: "Live", number: int) -> None:
        """Send it a candidate that says when it left."""
        target.under_way.add(number)
        candidate = {"number": number, "at": time.perf_counter(), "candidate": "c" * 700}
        self.transport.write(frame(0x81, json.dumps({"target": target.fp, "candidate": candidate}).encode()))

    def ping(self) -> None:
        """Ask for a sign of life, and note how long that takes."""
        self.transport.write(frame(0x89, str(time.perf_counter()).encode()))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.cut += 1

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if data.startswith(b"HTTP/"):
            head, mark, data = data.partition(b"\r\n\r\n")
            if not mark:
                self._rest = head
                return
            assert head.startswith(b"HTTP/1.1 101 "), head
        while len(data) >= 4:
            size, begin = data[1], 2
            if size == 126:
                size, begin = int.from_bytes(data[2:4], "big"), 4
            if len(data) < begin + size:
                break
            self._hear(data[0] & 0xF, data[begin : begin + size])
            data = data[begin + size :]
        else:
            if len(data) >= 2 and data[1] == 0:
                self._hear(data[0] & 0xF, b"")
                data = data[2:]
        self._rest = data

    def _hear(self, opcode: int, payload: bytes) -> None:
        if opcode == 0x9:
            self.transport.write(_PONG)
        elif opcode == 0xA:
            self.pongs.append(time.perf_counter() - float(payload))
        elif opcode == 0x1:
            self._take(json.loads(payload))

    def _take(self, message: dict[str, object]) -> None:
        if isinstance(candidate := message.get("candidate"), dict):
            self.under_way.discard(candidate["number"])
            self.last_at = candidate["at"]
            self.delays.append(time.perf_counter() - candidate["at"])
        elif isinstance(update := message.get("peer_update"), dict):
            if update["online"]:
                self.came_back.add(str(message["source_fp"]))
        elif "peers" in message and not self._welcome.done():
            self._welcome.set_result(None)


class World:
    """The server, its live devices and what they saw. Devices of further books are for attackers."""

    def __init__(self, running: Program, live: list[Live], spare: list[tuple[str, str]]) -> None:
        self.server = running
        self.live = live
        self.spare = spare
        self._numbers = itertools.count()
        self._most_resident = 0
        self._talking = asyncio.Event()
        self._talking.set()
        self._tasks = [asyncio.create_task(each) for each in (self._talk(), self._probe())]

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for each in self.live:
            each.transport.abort()

    @property
    def resident(self) -> int:
        """Bytes of the server's memory."""
        return int(Path(f"/proc/{self.server.pid}/statm").read_text().split()[1]) * _PAGE

    async def _talk(self) -> None:
        due = time.monotonic()
        for number in self._numbers:
            if not self._talking.is_set():
                await self._talking.wait()
                due = time.monotonic()
            source = self.live[number % len(self.live)]
            target = self.live[number % len(self.live) // BOOK * BOOK + (number + 1) % BOOK]
            if source.cut == target.cut == 0:
                source.say(target, number)
            due += 1 / RATE
            await asyncio.sleep(max(0, due - time.monotonic()))

    async def _probe(self) -> None:
        for each in itertools.cycle(self.live):
            if not each.cut:
                each.ping()
            self._most_resident = max(self._most_resident, self.resident)
            await asyncio.sleep(_PROBE_EVERY)

    async def all_heard(self) -> None:
        """Wait until everything has arrived that is under way now."""
        now = [(each, number) for each in self.live for number in each.under_way]
        await eventually(lambda: not any(number in each.under_way for each, number in now))

    async def presence_is_told(self) -> None:
        """One device leaves and comes back: the others of its book hear that it is here."""
        leaving, *others = self.live[BOOK : 2 * BOOK]
        await self.all_heard()
        for each in others:
            each.came_back.clear()
        leaving.transport.abort()
        await eventually(lambda: leaving.cut > 0)
        await leaving.connect(self.server.url)
        leaving.cut = 0
        leaving.under_way.clear()  # what was for it meanwhile is lost, as the protocol says
        await eventually(lambda: all(leaving.fp in each.came_back for each in others))

    async def flood(
        self,
        what: str,
        count: int,
        *,
        peers: Sequence[tuple[str, str]] = (),
        stand_still: float = 0,
    ) -> str:
        """Have it flooded, and see that nobody of the live minds; returns what the attackers say of it."""
        for each in self.live:
            each.delays.clear()
            each.pongs.clear()
        before = self._most_resident = self.resident
        command = (sys.executable, "-m", "tests.floods.attack", what, self.server.url, str(count), str(SPEED))
        async with program(*command) as attacker:
            await attacker.line("ready", _PATIENCE)
            if stand_still:
                await self._stand_still(attacker, stand_still)
            else:
                attacker.say(json.dumps(list(peers)))
                await self.presence_is_told()
            outcome = str((await attacker.line(r"^(cut|answers|\d+ came).*", _PATIENCE))[0])
        await self.presence_is_told()
        if stand_still:  # what comes after it counts as well
            await eventually(lambda: sum(len(each.delays) for each in self.live) >= RATE * stand_still / 10)
        await self.all_heard()
        grown = self._most_resident - before
        self._print(what, outcome, grown)
        assert [each for each in self.live if each.cut] == []
        assert grown <= MOST_GROWTH
        return outcome

    async def _stand_still(self, attacker: Program, seconds: float) -> None:
        """The server is stopped (SIGSTOP) while the attackers begin, and goes on after a while.

        Then it relays nothing until it has compared all books with the store, so what was said before is not waited for.
        """
        await self.all_heard()
        self._talking.clear()
        self.server.signal_group(signal.SIGSTOP)
        try:
            attacker.say("go")
            await asyncio.sleep(seconds)  # what piles up meanwhile is the flood
        finally:
            self.server.signal_group(signal.SIGCONT)
        went_on, (source, target) = time.perf_counter(), self.live[:2]
        while not target.delays or target.last_at < went_on:
            source.say(target, next(self._numbers))
            await asyncio.sleep(0.1)
        print(f"relays again {time.perf_counter() - went_on:.2f} s after it went on")  # noqa: T201
        for each in self.live:
            each.under_way.clear()
            each.delays.clear()
            each.pongs.clear()
        self._talking.set()

    def _print(self, what: str, outcome: str, grown: int) -> None:
        delays = [delay for each in self.live for delay in each.delays]
        p99 = quantiles(delays, n=100)[98] * 1000
        lag = max(pong for each in self.live for pong in each.pongs) * 1000
        print(  # noqa: T201 - the table of make floods
            f"{what:16} {outcome:34} memory {grown / 1e6:+5.1f} MB  p99 {p99:6.1f} ms of {len(delays):5}  lag {lag:6.1f} ms"
        )

    async def rest(self, seconds: float) -> None:
        """No flood, for comparison."""
        for each in self.live:
            each.delays.clear()
            each.pongs.clear()
        before = self._most_resident = self.resident
        await asyncio.sleep(seconds)
        await self.presence_is_told()
        self._print("nothing", f"for {seconds:g} s", self._most_resident - before)


async def new_peers(store_url: str, count: int) -> list[tuple[str, str]]:
    """So many verified devices in books of five: fingerprint and uid."""
    process, peers = new_context(store_url), list[tuple[str, str]]()
    await process.open()
    for number in range(0, count, BOOK):
        uid = await process.books.enroll(Address(f"owner{number}.{secrets.token_hex(2)}@example.org"))
        for name in ("laptop", "phone", "desktop", "tablet", "doorbell"):
            device = a_device(name)
            await process.books.ask(uid, None, device)
            await process.books.approve(uid, device.fp)
            peers.append((device.fp, uid))
    await process.close()
    return peers


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    """A server with the limits that it has by default, and devices that talk."""
    async with AsyncExitStack() as stack:
        store_url = await stack.enter_async_context(redis_server())
        settings = {
            "HOST": "127.0.0.1",
            "PORT": "0",
            "BASE_URL": "http://book.test",
            "REDIS_URL": store_url,
            "SECRET_KEY": "s" * 32,
            "PROXIES_COUNT": "1",
            "ASK_RATE": "10",
            "MESSAGE_RATE": "30",
            "MAX_WAITING_NEAR": "5",
            "LOG_LEVEL": "info",
        }
        command = SERVE if LONG else (sys.executable, "-c", _HURRIED)
        running = await stack.enter_async_context(server(settings, command=command))
        port = (await running.line(r"event=started port=(\d+)"))[1]
        running.url = f"http://127.0.0.1:{port}"
        if LONG and (os.cpu_count() or 1) > 1:
            os.sched_setaffinity(running.pid, {0})
            os.sched_setaffinity(0, {1})
            stack.callback(os.sched_setaffinity, 0, range(os.cpu_count() or 1))
        live = [Live(*each) for each in await new_peers(store_url, LIVE)]
        for begin in range(0, LIVE, _AT_ONCE):
            await asyncio.gather(*(each.connect(running.url) for each in live[begin : begin + _AT_ONCE]))
        world = World(running, live, await new_peers(store_url, 200 if LONG else 20))
        stack.callback(world.close)
        yield world
