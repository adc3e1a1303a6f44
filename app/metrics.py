"""Metrics: the tally of this process, and of those that serve the port with it, as Prometheus reads them.

Workers leave a snapshot of theirs in a common folder every second, so whichever is asked tells of all of them.
"""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from app.contact import BEAT, steady
from app.tally import RELAY_BOUNDS, Tally

_STALE_SECONDS = 5 * BEAT

_COUNTERS = {
    "requests": ("Answers to HTTP requests, by route and status.", ("route", "code")),
    "arrivals": ("Sockets that arrived, left, were let in, had to wait or to prove themselves.", ("event",)),
    "decisions": ("What was decided about devices: asked, approved, rejected, revoked and the like.", ("what",)),
    "relays": ("Messages between devices, by what became of them.", ("outcome",)),
    "outcomes": ("How connections between devices went, as they report it: direct, relay or failed.", ("result",)),
    "refusals": ("What was refused over a socket or by HTTP, by reason.", ("reason",)),
    "closes": ("Sockets that this server closed, by close code.", ("code",)),
    "mails": ("Mails, by what became of them.", ("outcome",)),
    "store_round_trips": ("Commands and pipelines that the store was sent.", ()),
    "store_losses": ("How often the store stopped answering.", ()),
}


class Snapshot(msgspec.Struct):
    """The numbers of one process at a moment of the machine's steady clock."""

    at: float
    counts: list[tuple[str, str, int]]
    relays: list[int]
    relay_seconds: float
    sockets: dict[str, int]
    store_up: bool
    longest_lag: float


class Metrics(Collector):
    """What /metrics tells."""

    def __init__(
        self, tally: Tally, sockets: Callable[[], Counter[str]], store_up: Callable[[], bool], folder: Path | None
    ) -> None:
        self._tally = tally
        self._sockets = sockets
        self._store_up = store_up
        self._path = folder / f"{os.getpid()}.json" if folder else None
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch the loop, and to leave snapshots."""
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """End that."""
        if self._task:
            self._task.cancel()

    def render(self) -> bytes:
        """The text of the exposition format, version 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Every metric, over all processes that serve the port."""
        snapshots = [self._snapshot(), *self._others()]
        live = [each for each in snapshots if each.at > steady() - _STALE_SECONDS]
        yield from _counters(snapshots)
        yield _histogram(snapshots)
        sockets = GaugeMetricFamily("peerbook_sockets", "Open sockets, by state.", labels=("state",))
        for state, count in sum((Counter(each.sockets) for each in live), Counter[str]()).items():
            sockets.add_metric((state,), count)
        yield sockets
        yield GaugeMetricFamily(
            "peerbook_store_up", "1 while the store answers every process.", int(all(each.store_up for each in live))
        )
        yield GaugeMetricFamily(
            "peerbook_loop_lag_seconds",
            "The longest that anything had to wait for its turn within the last minute.",
            max(each.longest_lag for each in live),
        )
        yield GaugeMetricFamily("peerbook_processes", "Processes that serve the port.", len(live))

    def _snapshot(self) -> Snapshot:
        tally = self._tally
        return Snapshot(
            at=steady(),
            counts=[(what, which, count) for (what, which), count in tally.counts.items()],
            relays=tally.relays,
            relay_seconds=tally.relay_seconds,
            sockets=dict(self._sockets()),
            store_up=self._store_up(),
            longest_lag=tally.longest_lag,
        )

    def _others(self) -> Iterator[Snapshot]:
        """What the others left. One that ended keeps what it had counted, so that no counter goes back."""
        for path in self._path.parent.glob("*.json") if self._path else ():
            if path != self._path:
                with contextlib.suppress(OSError, msgspec.MsgspecError):
                    yield msgspec.json.decode(path.read_bytes(), type=Snapshot)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + BEAT
            await asyncio.sleep(BEAT)
            self._tally.add_lag(max(0.0, loop.time() - due))
            if self._path:
                with contextlib.suppress(OSError):  # a full disk must not end the serving
                    draft = self._path.with_suffix(".draft")
                    draft.write_bytes(msgspec.json.encode(self._snapshot()))
                    draft.replace(self._path)


def _counters(snapshots: Iterable[Snapshot]) -> Iterator[Metric]:
    counts = Counter[tuple[str, str]]()
    for each in snapshots:
        for what, which, count in each.counts:
            counts[what, which] += count
    for name, (meaning, labels) in _COUNTERS.items():
        family = CounterMetricFamily(f"peerbook_{name}", meaning, labels=labels)
        if not labels:
            family.add_metric((), counts[name, ""])
        for (what, which), count in sorted(counts.items()):
            if what == name and labels:
                family.add_metric(which.split(" ", len(labels) - 1), count)
        yield family


def _histogram(snapshots: Iterable[Snapshot]) -> Metric:
    bounds = [*(str(bound) for bound in RELAY_BOUNDS), "+Inf"]
    buckets, total, seconds = [0] * len(bounds), 0, 0.0
    for each in snapshots:
        buckets = [one + another for one, another in zip(buckets, each.relays, strict=True)]
        seconds += each.relay_seconds
    cumulative: list[tuple[str, float]] = []
    for bound, count in zip(bounds, buckets, strict=True):
        total += count
        cumulative.append((bound, total))
    return HistogramMetricFamily(
        "peerbook_relay_seconds",
        "From a message's arrival to its target's socket, or to the store that takes it to another process.",
        cumulative,
        seconds,
    )
