"""A hundred thousand peers on fifty processes: `python -m bench.simulation`, which checks the formulas of docs/scaling.md.

The processes are real in all but HTTP and the sockets: fifty Contexts in this one, with their Books, bus, presence and
signaling, on a Redis of their own. What they do is counted by that Redis. The program fails where a formula is
more than a fifth off.
"""

import argparse
import asyncio
import gc
import math
import os
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import uvloop
from redis.asyncio import Redis

from app import bus
from app.claims import NO_CLAIM
from app.closecodes import CloseCode
from app.connections import Connection
from app.context import Context
from app.owners import Uid
from app.peers import Device, Fingerprint
from app.store import name_given
from bench.pages import resident
from tests.parts import new_context
from tests.process import redis_server

PEERS, PROCESSES, BOOK = 100_000, 50, 5
MESSAGES, CHANGES = 100_000, 5_000
IDLE_SECONDS = 30.0
MOST_OFF = 0.2
_AT_ONCE = 40
_PATIENCE = 60.0
_LEASE_EVERY, _PROBE_EVERY = 9.0, 5.0
_VERSIONS_AT_ONCE = 1000
_SENT = ("evalsha", "publish", "mget", "set", "info")

# Bytes of memory in a process, the socket left out.
CONNECTION = 800
HELD_BOOK = 1_300
HELD_PEER = 900


Row = tuple[str, float, float]


@dataclass(frozen=True)
class World:
    """The formulas of docs/scaling.md."""

    peers: int
    processes: int
    book: int = BOOK

    def holders(self, online: int) -> float:
        """Processes that hold a book of which so many peers are online, each at any process."""
        return self.processes * (1 - (1 - 1 / self.processes) ** online)

    @property
    def held(self) -> float:
        """Books that all processes hold together."""
        return self.peers / self.book * self.holders(self.book)

    @property
    def scripts_of_arrival(self) -> float:
        """One that lets a peer in, and one that loads its book where its process does not hold that yet."""
        return 1 + self.held / self.peers

    @property
    def events_of_arrival(self) -> float:
        """Events when a peer arrives, over all of a book that come one after the other."""
        return sum(self.holders(n) - 1 for n in range(1, self.book + 1)) / self.book

    @property
    def events_of_change(self) -> float:
        """Events when one peer comes or goes while the others are there."""
        return self.holders(self.book) - 1

    @property
    def crossing(self) -> float:
        """The share of messages that go to another process, between any two peers of a book."""
        return 1 - 1 / self.processes

    @property
    def commands_at_rest(self) -> float:
        """Commands a second of all processes when nothing happens."""
        versions = math.ceil(self.held / self.processes / _VERSIONS_AT_ONCE)
        return self.processes * ((1 + versions + 1 + 1) / _LEASE_EVERY + 1 / _PROBE_EVERY)

    @property
    def memory(self) -> float:
        """Bytes in all processes for their sockets, without the socket itself, and Books."""
        return self.peers * CONNECTION + self.held * (HELD_BOOK + self.book * HELD_PEER)


class Crowd:
    """The peers, each on some process, and what they hear."""

    def __init__(self, processes: list[Context], chance: random.Random) -> None:
        self.heard: Counter[str] = Counter()
        self._books: dict[str, list[tuple[Context, Connection]]] = {}
        self._processes = processes
        self._chance = chance

    def place(self, uid: str, fps: Iterable[Fingerprint]) -> None:
        """Give each peer of a book a process."""
        self._books[uid] = [self._place(uid, fp) for fp in fps]

    def all(self) -> list[tuple[Context, Connection]]:
        """Every peer, in any order."""
        everybody = [peer for book in self._books.values() for peer in book]
        self._chance.shuffle(everybody)
        return everybody

    def again(self, process: Context, connection: Connection) -> Connection:
        """The same peer on a new connection to the same process; the one before is over."""
        fresh = self._connection(str(connection.owner), connection.fp)
        book = self._books[str(connection.owner)]
        book[book.index((process, connection))] = process, fresh
        return fresh

    def pairs(self, count: int) -> Iterator[tuple[Context, Connection, Connection]]:
        """Two peers of a book, so often: the first with its process, and the second."""
        books = list(self._books.values())
        for _ in range(count):
            (process, source), (_, target) = self._chance.sample(self._chance.choice(books), 2)
            yield process, source, target

    def has_heard(self, messages: int) -> bool:
        """Whether so many messages were delivered."""
        return self.heard["message"] >= messages

    def _place(self, uid: str, fp: Fingerprint) -> tuple[Context, Connection]:
        return self._chance.choice(self._processes), self._connection(uid, fp)

    def _connection(self, uid: str, fp: Fingerprint) -> Connection:
        return Connection(Device(fp, NO_CLAIM, "peer", "lab", ""), Uid(uid), self._hear, self._end)

    def _hear(self, frame: bytes) -> bool:
        kind = "update" if b'"peer_update"' in frame else "message" if b'"candidate"' in frame else "answer"
        self.heard[kind] += 1
        return True

    def _end(self, code: CloseCode, reason: str) -> None:
        self.heard["closed"] += 1


class Meter:
    """What the store was asked for by all processes, in a stretch of time."""

    def __init__(self, redis: Redis, processes: int) -> None:
        self._redis = redis
        self._probes_per_second = processes / _PROBE_EVERY
        self._before: Counter[str] = Counter()
        self._began = 0.0

    async def start(self) -> None:
        """From here on."""
        self._before, self._began = await self._calls(), time.monotonic()

    async def read(self) -> "Reading":
        """What it was since then."""
        seconds = time.monotonic() - self._began
        calls = await self._calls() - self._before
        return Reading(seconds, calls["evalsha"], calls["publish"] - self._probes_per_second * seconds, calls.total())

    async def _calls(self) -> Counter[str]:
        """The calls of the commands that processes send; what scripts call, no script calls one of these but SET and GET."""
        stats = await self._redis.info("commandstats")
        return Counter({name: int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in _SENT})


@dataclass(frozen=True)
class Reading:
    """Scripts, events from process to process without the probes, and all commands, probes and leases included."""

    seconds: float
    scripts: int
    events: float
    commands: int


async def at_once(work: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Do all of it, some at the same time."""
    waiting = iter(work)

    async def some() -> None:
        for each in waiting:
            await each()

    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(_PATIENCE):
        while not holds():  # noqa: ASYNC110 - what is waited for is a count that fifty processes add to
            await asyncio.sleep(0.01)


async def open_processes(url: str, count: int) -> list[Context]:
    """So many, which look after their leases one after the other, as processes do that started at any time."""
    processes = [new_context(url) for _ in range(count)]
    for process in processes:
        await process.open()
        await asyncio.sleep(_LEASE_EVERY / count)
    return processes


async def fill(processes: list[Context], crowd: Crowd, books: int) -> None:
    """Books of five peers, entered ahead."""

    async def one(process: Context) -> None:
        uid = secrets.token_hex(16)
        fps = [Fingerprint(secrets.token_hex(32).upper()) for _ in range(BOOK)]
        await process.store.run("enroll", uid, {"address": f"{uid}@example.org", "seconds": 86400})
        peers = [{"fp": fp, "name": name_given("peer", exact=False), "kind": "lab"} for fp in fps]
        await process.store.run("import", uid, {"peers": peers, "most": BOOK})
        crowd.place(uid, fps)

    await at_once(partial(one, processes[number % len(processes)]) for number in range(books))


async def arrive(crowd: Crowd) -> None:
    """Everybody comes, in any order."""
    await at_once(partial(process.presence.arrive, connection) for process, connection in crowd.all())


async def come_and_go(crowd: Crowd, count: int) -> None:
    """So many changes: a peer leaves, and comes back to the process where it was."""

    async def one(process: Context, connection: Connection) -> None:
        await process.presence.leave(connection)()
        await process.presence.arrive(crowd.again(process, connection))

    await at_once(partial(one, *peer) for peer in crowd.all()[: count // 2])


async def talk(crowd: Crowd, count: int) -> None:
    """So many messages, each within some book."""
    before = crowd.heard["message"]
    for number, (process, source, target) in enumerate(crowd.pairs(count), 1):
        frame = f'{{"target":"{target.fp}","candidate":{{"candidate":"candidate:842163049 1 udp","sdpMid":"0"}}}}'
        process.signaling.receive(source, frame.encode())
        if number % 500 == 0 or number == count:
            await until(partial(crowd.has_heard, before + number))


async def measure(world: World, crowd: Crowd, processes: list[Context], meter: Meter) -> list[Row]:
    """Let the crowd arrive, come and go, talk and rest."""
    memory = resident(os.getpid())
    came = await _metered(meter, arrive(crowd))
    memory = resident(os.getpid()) - memory
    held = sum(len(process.books._shelves) for process in processes)
    print(f"{world.peers} peers came to {world.processes} processes in {came.seconds:.0f} s", flush=True)
    changed = await _metered(meter, come_and_go(crowd, CHANGES))
    before = crowd.heard["message"]
    talked = await _metered(meter, talk(crowd, MESSAGES))
    rested = await _metered(meter, asyncio.sleep(IDLE_SECONDS))
    return [
        ("books held by all processes", held, world.held),
        ("memory of all processes, MB", memory / 1e6, world.memory / 1e6),
        ("scripts for an arrival", came.scripts / world.peers, world.scripts_of_arrival),
        ("events for an arrival", came.events / world.peers, world.events_of_arrival),
        ("scripts for a change", changed.scripts / CHANGES, 1),
        ("events for a change", changed.events / CHANGES, world.events_of_change),
        ("messages delivered", crowd.heard["message"] - before, MESSAGES),
        ("events for a message", talked.events / MESSAGES, world.crossing),
        ("commands a second at rest", rested.commands / rested.seconds, world.commands_at_rest),
        ("sockets that were closed", crowd.heard["closed"], 0),
    ]


async def _metered(meter: Meter, work: Awaitable[object]) -> Reading:
    await asyncio.sleep(1)  # what was begun before comes to its end
    await meter.start()
    await work
    return await meter.read()


async def main(peers: int, count: int) -> bool:
    bus._MOST_AT_ONCE = 1  # so that the store can count the events
    gc.disable()  # the heaps of fifty processes in one: to search it takes longer than the store may be silent
    chance = random.Random(1)
    async with redis_server() as url, Redis.from_url(url, decode_responses=True) as redis:
        processes = await open_processes(url, count)
        crowd = Crowd(processes, chance)
        await fill(processes, crowd, peers // BOOK)
        try:
            return judge(await measure(World(peers, count), crowd, processes, Meter(redis, count)))
        finally:
            for process in processes:
                process.draining = True  # nobody has to be told, since there is nobody but us
            await asyncio.gather(*(process.close() for process in processes))


def judge(rows: list[Row]) -> bool:
    """Print what was counted beside what the formulas say; False where one is too far off."""
    print(f"{'':32}{'counted':>12}{'formula':>12}{'off':>8}")
    for what, counted, formula in rows:
        print(f"{what:32}{counted:12.2f}{formula:12.2f}{_off(counted, formula):8.0%}")
    return all(_off(counted, formula) <= MOST_OFF for _, counted, formula in rows)


def _off(counted: float, formula: float) -> float:
    return abs(counted - formula) / (formula or 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, default=PEERS)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    given = parser.parse_args()
    sys.exit(not uvloop.run(main(given.peers, given.processes)))
