"""What a second process gives and takes: `python -m bench.scaling`, with two servers and a store of its own.

Runs that are compared take turns, three times and more, and the median is shown. The load comes from this process, which
takes CPU too; so beside each rate stands the CPU time of the servers alone, which other work on the machine touches least.
"""

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median, quantiles

import uvloop
from redis.asyncio import Redis

from app.absences import DELAY
from app.addresses import Address
from app.context import Context
from bench.load import LoadPeer, Pair, Relay, connect_all, delays
from bench.pages import cpu_seconds, reads, resident, show
from tests.parts import a_device, new_context
from tests.process import SERVE, Program, free_port, redis_server, server

BOOK = 5
"""Devices of a book, as a person has them."""

FEW, MANY = 100, 10_000
RUNS = 3
MESSAGES = 20_000
BURST = 8
RATE = 500
_REST = DELAY + 2
"""Seconds after which all is told that is told late: that somebody is gone."""

_NAMES = ("laptop", "phone", "desktop", "tablet", "doorbell")

# The same server without the pings of idle sockets, so that what is left of its work is presence.
_SILENT = """
import sys
from app.sockets import WebSocket
WebSocket.ping = WebSocket.expect_life = lambda socket: None
from app.__main__ import main
sys.exit(main())
"""
SERVE_SILENTLY = (sys.executable, "-c", _SILENT)

Book = list[LoadPeer]
Row = tuple[str, str, str]


@dataclass(frozen=True)
class Run:
    """One run: its rate in messages a second, and the CPU seconds of a message at each process."""

    rate: float
    cpu: dict[int, float]

    def of(self, *pids: int) -> float:
        """Microseconds of CPU time for a message, over those processes."""
        return sum(self.cpu[pid] for pid in pids) * 1e6


@dataclass(frozen=True)
class Machines:
    """What is measured: the store and two servers on it."""

    store: int
    redis: Redis
    here: Program
    there: Program

    async def relay(self, *loads: Sequence[Pair], messages: int = MESSAGES) -> Run:
        """Send so many messages through each of the loads, at the same time."""
        pids = (self.here.pid, self.there.pid, self.store, os.getpid())
        before = {pid: cpu_seconds(pid) for pid in pids}
        relays = [Relay(pairs, messages, burst=BURST, at_once=min(50, len(pairs) // 2)) for pairs in loads]
        seconds = max(await asyncio.gather(*(each.run() for each in relays)))
        total = messages // BURST * BURST * len(loads)
        return Run(total / seconds, {pid: (cpu_seconds(pid) - before[pid]) / total for pid in pids})


# Books


async def new_book(process: Context, number: int) -> Book:
    """A book of five devices whose owner has been on the page: all that the store knows of such a user."""
    address = Address(f"owner{number}.{secrets.token_hex(2)}@example.org")
    uid = await process.books.enroll(address)
    devices = [a_device(name) for name in _NAMES]
    for device in devices:
        await process.books.ask(uid, None, device)
        await process.books.approve(uid, device.fp)
    await process.books.settle(uid, address, secrets.token_hex(32), "Firefox on Linux, 203.0.113.x")
    return [LoadPeer(device.fp, uid) for device in devices]


async def new_books(store_url: str, count: int) -> list[Book]:
    """So many books."""
    process, books = new_context(store_url), list[Book]()
    await process.open()
    while len(books) < count:
        books += await asyncio.gather(*(new_book(process, len(books) + n) for n in range(min(50, count - len(books)))))
    await process.close()
    return books


def peers_of(books: Iterable[Book]) -> list[LoadPeer]:
    """Their peers, in their order."""
    return [peer for book in books for peer in book]


def pairs_in(books: Iterable[Book]) -> list[Pair]:
    """Every peer with the next one of its book."""
    return [(book[n], book[(n + 1) % BOOK]) for book in books for n in range(BOOK)]


def pairs_across(books: Iterable[Book]) -> list[Pair]:
    """Every peer of the first half of a book with one of the other half."""
    return [(book[n], book[n + BOOK // 2]) for book in books for n in range(BOOK // 2)]


# What is measured


async def memory_of(redis: Redis, fill: Callable[[], Awaitable[list[Book]]]) -> tuple[list[Book], list[Row]]:
    """Fill the store, and say what that took of its memory for each peer, by kind of key."""
    before = (await redis.info("memory"))["used_memory"]
    books = await fill()
    used, count = (await redis.info("memory"))["used_memory"] - before, len(books) * BOOK
    kinds: dict[str, int] = {}
    async for key in redis.scan_iter(count=1000):
        kind = key.partition(":")[0]
        kinds[kind] = kinds.get(kind, 0) + int(await redis.memory_usage(key, samples=0) or 0)
    own = sum(kinds.get(kind, 0) for kind in ("peer", "book", "books"))
    rows = [
        (f"memory of the store for a peer, {count} in books of {BOOK}", "", ""),
        (
            "  its own keys: its hash, its place in the book and in the index",
            f"{own / count:.0f} bytes",
            "<= 700 bytes",
        ),
        ("  all that the store grew by, its user's keys too", f"{used / count:.0f} bytes", ""),
    ]
    for kind, size in sorted(kinds.items(), key=lambda each: -each[1]):
        rows.append((f"    {kind}:", f"{size / count:.0f} bytes", ""))
    return books, rows


async def measure_relay(on: Machines, same: list[Book], other: list[Book], across: list[Book]) -> list[Row]:
    """Messages within a process, within two at once, and from one to the other."""
    one: list[Run] = []
    two: list[Run] = []
    crossing: list[Run] = []
    for _ in range(RUNS):
        one.append(await on.relay(pairs_in(same)))
        two.append(await on.relay(pairs_in(same), pairs_in(other)))
        crossing.append(await on.relay(pairs_across(across)))
    within, both, apart = (median(run.rate for run in runs) for runs in (one, two, crossing))
    pid, other_pid, me = on.here.pid, on.there.pid, os.getpid()
    cost, cost_both = median(run.of(pid) for run in one), median(run.of(pid, other_pid) for run in two)
    sender, receiver = median(run.of(pid) for run in crossing), median(run.of(other_pid) for run in crossing)
    return [
        (f"messages in bursts of {BURST}, {MESSAGES} of them", "", ""),
        ("  within one process", f"{within:.0f}/s", ""),
        ("    server CPU a message", f"{cost:.1f} µs", ""),
        ("    this load generator's", f"{median(run.of(me) for run in one):.1f} µs", ""),
        ("  from process to process", f"{apart:.0f}/s", ""),
        ("    of the rate within one", f"{apart / within:.0%}", ">= 50 %"),
        ("    CPU a message of sender, receiver", f"{sender:.1f}, {receiver:.1f} µs", ""),
        ("    of the store", f"{median(run.of(on.store) for run in crossing):.1f} µs", ""),
        ("    where each process has a core, of the rate within one", f"{cost / max(sender, receiver):.0%}", ">= 50 %"),
        ("  within two processes at once", f"{both:.0f}/s", ""),
        ("    of the rate of one", f"{both / within:.2f} times", ">= 1.6 times"),
        ("    server CPU a message", f"{cost_both:.1f} µs", ""),
        ("    where the load comes from elsewhere", f"{2 * cost / cost_both:.2f} times", ">= 1.6 times"),
    ]


async def measure_delay(across: list[Book]) -> list[Row]:
    """One way, from process to process."""
    runs = [await delays(pairs_across(across), RATE, 5) for _ in range(RUNS)]
    percentiles = [[each * 1000 for each in quantiles(run, n=100)] for run in runs]
    return [
        (f"one way from process to process, {RATE}/s", "", ""),
        ("  p50", f"{median(each[49] for each in percentiles):.1f} ms", ""),
        ("  p99", f"{median(each[98] for each in percentiles):.1f} ms", "<= 20 ms"),
    ]


async def measure_cost(on: Machines, few: list[Book], many: list[Book]) -> list[Row]:
    """The same messages among few peers on one server and among many on the other."""
    costs: tuple[list[float], list[float]] = ([], [])
    for _ in range(RUNS + 4):
        costs[0].append((await on.relay(pairs_in(few))).of(on.here.pid))
        costs[1].append((await on.relay(pairs_in(many))).of(on.there.pid))
    at_few, at_many = (median(each) for each in costs)
    return [
        ("server CPU a message", "", ""),
        (f"  at {len(few) * BOOK} online peers", f"{at_few:.1f} µs", ""),
        (f"  at {len(many) * BOOK} online peers", f"{at_many:.1f} µs", ""),
        ("  more", f"{at_many / at_few - 1:.0%}", "<= 20 %"),
    ]


async def measure_idle(on: Machines, peers: int, seconds: float, what: str, target: str) -> list[Row]:
    """Nobody says anything, and what was begun before has come to its end."""
    await asyncio.sleep(_REST)
    pids = (on.there.pid, on.here.pid, on.store)
    before = [cpu_seconds(pid) for pid in pids]
    await asyncio.sleep(seconds)
    crowded, other, store = ((cpu_seconds(pid) - cpu) / seconds for pid, cpu in zip(pids, before, strict=True))
    return [
        (f"{peers} idle online peers, {what}, {seconds:.0f} s", "", ""),
        ("  server", f"{crowded:.2%} of a core", ""),
        ("    more than the other one, which has a few hundred", f"{crowded - other:.2%} of a core", target),
        ("  store", f"{store:.2%} of a core", target),
    ]


async def measure_arrivals(on: Machines, peers: list[LoadPeer], what: str) -> list[Row]:
    """Have them all arrive at the second server."""
    count, memory = len(peers), resident(on.there.pid)
    trips, store_cpu, cpu = await reads(on.redis), cpu_seconds(on.store), cpu_seconds(on.there.pid)
    began, refused = asyncio.get_running_loop().time(), sum(peer.turned_away for peer in peers)
    await connect_all(peers, on.there.url)
    refused = sum(peer.turned_away for peer in peers) - refused
    seconds = asyncio.get_running_loop().time() - began
    cpu, store_cpu = cpu_seconds(on.there.pid) - cpu, cpu_seconds(on.store) - store_cpu
    trips = await reads(on.redis) - trips
    return [
        (f"{count} peers {what}", f"{seconds:.1f} s", ""),
        ("  turned away at first", f"{refused}", "0"),
        ("  round trips to the store for each", f"{trips / count:.2f}", "<= 3"),
        ("  CPU for each: server, store", f"{cpu / count * 1e6:.0f}, {store_cpu / count * 1e6:.0f} µs", ""),
        ("  memory of the server for each", f"{(resident(on.there.pid) - memory) / count / 1000:.1f} KB", ""),
    ]


# All of it


@asynccontextmanager
async def a_server(
    store_url: str, folder: str, core: int, command: Sequence[str] = SERVE, port: int = 0
) -> AsyncIterator[Program]:
    """A server on a core of its own."""
    port = port or free_port()
    settings = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "BASE_URL": f"http://127.0.0.1:{port}",
        "REDIS_URL": store_url,
        "SECRET_KEY": "k" * 32,
        "DATA_DIR": folder,
        "LOG_LEVEL": "warning",
        "MAX_SOCKETS": "12000",
    }
    async with server(settings, command=command) as running:
        os.sched_setaffinity(running.pid, {core % (os.cpu_count() or 1)})
        yield running


async def main(many: int, idle_seconds: float) -> None:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store_url = await stack.enter_async_context(redis_server())
        redis = await stack.enter_async_context(Redis.from_url(store_url, decode_responses=True))
        store = int((await redis.info("server"))["process_id"])
        here = await stack.enter_async_context(a_server(store_url, folder, 0))
        async with a_server(store_url, folder, 1) as there:
            on = Machines(store, redis, here, there)
            await new_books(store_url, 1)  # from here on the store has the scripts
            crowd, rows = await memory_of(redis, lambda: new_books(store_url, many // BOOK))
            show([("", "", "target"), *rows])
            few, same, other, across = [await new_books(store_url, FEW // BOOK) for _ in range(4)]
            await connect_all(peers_of([*few, *same]), here.url)
            await connect_all(peers_of(other), there.url)
            await connect_all([peer for book in across for peer in book[: BOOK // 2]], here.url)
            await connect_all([peer for book in across for peer in book[BOOK // 2 :]], there.url)
            show(await measure_relay(on, same, other, across))
            show(await measure_delay(across))
            peers = peers_of(crowd)
            show(await measure_arrivals(on, peers, "arrive"))
            show(await measure_cost(on, few, crowd))
            show(await measure_idle(on, many, idle_seconds, "with the pings of their sockets", ""))
            await there.stop(60)
            await asyncio.gather(*(peer.closed() for peer in peers))
        async with a_server(store_url, folder, 1, SERVE_SILENTLY) as again:
            on = Machines(store, redis, here, again)
            show(await measure_arrivals(on, peers, "come back after a restart"))
            show(await measure_idle(on, many, idle_seconds, "without pings", "<= 1 %"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, default=MANY, help="how many are online at once")
    parser.add_argument("--idle", type=float, default=30, help="seconds for which nobody says anything")
    given = parser.parse_args()
    uvloop.run(main(given.peers, given.idle))
