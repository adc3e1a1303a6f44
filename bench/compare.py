"""Peerbook beside other servers, the same work for each: `python -m bench.compare`, which prints one table.

Every server runs on the same core, this load generator on another; they take turns in each run, and a row shows the
median of the runs with the least and the most. A relay passes messages on and checks nothing; PeerJS server looks the
target up; peerbook also holds each message against its book, its sender's certificate and the limits.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from statistics import median, quantiles

import uvloop

from bench.load import LoadPeer, Pair, Relay, connect_all, delays
from bench.pages import cpu_seconds, resident
from bench.rivals.servers import SIZE, AnyPeer, Contender, contenders, frame
from tests.process import Program, redis_server

RUNS = 5
PEERS, CROWD, NEWCOMERS = 1_000, 5_000, 500
MESSAGES, BURST = 20_000, 8
IDLE_SECONDS = 30.0
_HEARTBEAT_SECONDS = 5.0

Numbers = dict[str, dict[str, list[float]]]
"""By row, then by server, one for each run."""


def frame_of(source: AnyPeer, target: AnyPeer) -> bytes:
    """A message from one to the other, as it travels."""
    return frame(source.message_to(target))


def pairs_in(groups: Iterable[Sequence[LoadPeer]]) -> list[Pair]:
    """Every peer with the next one of its group."""
    return [(group[n], group[(n + 1) % len(group)]) for group in groups for n in range(len(group))]


async def busy(contender: Contender, server: Program, runs: Callable[[str, float], None]) -> None:
    """Messages in bursts, one after the other, and a thousand a second; and newcomers."""
    pairs = pairs_in(contender.groups[: PEERS // 5])
    before = cpu_seconds(server.pid)
    took = await Relay(pairs, MESSAGES, burst=BURST, at_once=50, frame_of=frame_of).run()
    runs("server CPU for a message, µs", (cpu_seconds(server.pid) - before) / MESSAGES * 1e6)
    runs("messages a second", MESSAGES / took)
    before = cpu_seconds(server.pid)
    await Relay(pairs, MESSAGES // 4, burst=1, at_once=50, frame_of=frame_of).run()
    runs("server CPU for a message that comes alone, µs", (cpu_seconds(server.pid) - before) / (MESSAGES // 4) * 1e6)
    one = quantiles([each * 1000 for each in await delays(pairs[:1], 200, 4, frame_of)], n=100)
    runs("one way between two peers, p50 ms", one[49])
    runs("one way between two peers, p99 ms", one[98])
    many = quantiles([each * 1000 for each in await delays(pairs, 1000, 4, frame_of)], n=100)
    runs("one way at 1,000 messages/s among 1,000 peers, p50 ms", many[49])
    runs("one way at 1,000 messages/s among 1,000 peers, p99 ms", many[98])
    newcomers = peers_in(contender.groups[PEERS // 5 : (PEERS + NEWCOMERS) // 5])
    before, began = cpu_seconds(server.pid), time.perf_counter()
    await connect_all(newcomers, server.url)
    runs("peers that connect a second", NEWCOMERS / (time.perf_counter() - began))
    runs("server CPU for a peer that connects, µs", (cpu_seconds(server.pid) - before) / NEWCOMERS * 1e6)
    await leave(newcomers)


async def idle(contender: Contender, runs: Callable[[str, float], None]) -> None:
    """A crowd that says nothing, and comes back after a restart."""
    crowd = peers_in(contender.groups)
    async with contender.start() as server:
        await warm_up(contender, server)
        before = resident(server.pid)
        await connect_all(crowd, server.url)
        await asyncio.sleep(12)  # by then all is told that is told late
        runs("memory of the server for an idle peer, KB", (resident(server.pid) - before) / len(crowd) / 1000)
        before_cpu = cpu_seconds(server.pid)
        beating = asyncio.create_task(beat(crowd))
        await asyncio.sleep(IDLE_SECONDS)
        beating.cancel()
        runs(f"a core for {CROWD:,} idle peers, %", (cpu_seconds(server.pid) - before_cpu) / IDLE_SECONDS * 100)
        server.kill()
        await asyncio.gather(*(peer.closed() for peer in crowd))
    began = time.perf_counter()
    async with contender.start() as server:
        await connect_all(crowd, server.url)
        runs(f"seconds until {CROWD:,} peers are back after a crash", time.perf_counter() - began)
        await leave(crowd)


async def warm_up(contender: Contender, server: Program) -> None:
    """Have it do once what it does, so that what it loads late does not count for anybody."""
    first = peers_in(contender.groups[:20])
    await connect_all(first, server.url)
    await leave(first)
    await asyncio.sleep(1)


async def beat(crowd: Sequence[AnyPeer]) -> None:
    """What the clients of that server send to be taken for alive."""
    beating = [(peer, _small_frame(peer.heartbeat)) for peer in crowd if peer.heartbeat]
    slices = int(_HEARTBEAT_SECONDS / 0.05)
    while True:
        for start in range(slices):
            for peer, beat in beating[start::slices]:
                peer.say(beat)
            await asyncio.sleep(0.05)


def _small_frame(text: bytes) -> bytes:
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text


def peers_in(groups: Iterable[Sequence[AnyPeer]]) -> list[AnyPeer]:
    """The peers of these groups, in their order."""
    return [peer for group in groups for peer in group]


async def leave(peers: Sequence[LoadPeer]) -> None:
    """They go away."""
    for peer in peers:
        peer.close()
    await asyncio.gather(*(peer.closed() for peer in peers))


def show(numbers: Numbers, names: Sequence[str]) -> None:
    """Print the table as Markdown."""
    print("| | " + " | ".join(names) + " | " + " | ".join(f"of {name}'s" for name in names[1:]) + " |")
    print("|---" * (2 * len(names)) + "|")
    for row, runs in numbers.items():
        cells = [
            f"{_round(median(runs[name]))} ({_round(min(runs[name]))}–{_round(max(runs[name]))})" for name in names
        ]
        ours = median(runs[names[0]])
        ratios = [f"{ours / median(runs[name]):.2f}" if median(runs[name]) else "–" for name in names[1:]]
        print(f"| {row} | " + " | ".join(cells + ratios) + " |")


def _round(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


async def main(runs: int, *, with_idle: bool) -> None:
    os.sched_setaffinity(0, {1 % (os.cpu_count() or 1)})
    numbers: Numbers = {}

    def taker(name: str) -> Callable[[str, float], None]:
        return lambda row, value: numbers.setdefault(row, {}).setdefault(name, []).append(value)

    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store_url = await stack.enter_async_context(redis_server())
        found = await contenders(store_url, folder, CROWD // 5)
        print(
            f"{runs} runs, {MESSAGES:,} messages of {SIZE} bytes, in bursts of {BURST} among {PEERS:,} peers",
            flush=True,
        )
        async with AsyncExitStack() as together:
            servers = [await together.enter_async_context(each.start()) for each in found]
            for contender, server in zip(found, servers, strict=True):
                await connect_all(peers_in(contender.groups[: PEERS // 5]), server.url)
            turns = deque(zip(found, servers, strict=True))
            for _ in range(runs):
                for contender, server in turns:
                    await busy(contender, server, taker(contender.name))
                turns.rotate()  # what one leaves to be done behind it befalls another each time
        for _ in range(runs if with_idle else 0):
            for contender in found:
                await idle(contender, taker(contender.name))
        show(numbers, [each.name for each in found])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--busy", action="store_true", help="leave out what the idle cost, and restarts")
    given = parser.parse_args()
    uvloop.run(main(given.runs, with_idle=not given.busy))
