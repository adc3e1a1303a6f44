"""The bus: events from process to process over Redis pub/sub. Each process listens on one channel, its own.

All events of a process leave through one task on one connection, without retries: that keeps their order and
delivers each at most once.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.book import Report
from app.errors import Unreachable
from app.faults import fault
from app.peers import Fingerprint

log = logging.getLogger("peerbook.bus")

_MOST_WAITING = 10_000
_LONGEST_PAUSE = 3.0


class Changed(msgspec.Struct, tag=True, frozen=True):
    """A book changed."""

    report: Report


class Found(msgspec.Struct, tag=True, frozen=True):
    """A fingerprint was verified in some book: for sockets that wait and name nobody."""

    fp: Fingerprint


class Deliver(msgspec.Struct, tag=True, frozen=True):
    """A frame for one connection of the receiving process, and whom to tell if that connection is gone."""

    connection: str
    frame: str
    target: Fingerprint
    sender_process: str
    sender: str
    message_id: str | int | None


class Gone(msgspec.Struct, tag=True, frozen=True):
    """The answer to a Deliver whose connection is no more, or reads too slowly (`slow`)."""

    sender: str
    target: Fingerprint
    message_id: str | int | None
    slow: bool = False


Event = Changed | Found | Deliver | Gone
E = TypeVar("E", bound=msgspec.Struct)
Sent = Callable[[int | None], None]
"""Called with the number of processes that got an event, None when the store did not answer."""


class Bus:
    """This process's ends of the bus: one writer, one subscription."""

    def __init__(self, process: str, writer: Redis, subscriber: Redis) -> None:
        self.process = process
        self._writer = writer
        self._subscriber = subscriber
        self._outbox: list[tuple[str, Event, Sent | None]] = []
        self._mail = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._hear: dict[type[Any], Callable[[Any], None]] = {}
        self._after_gap: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._listening = asyncio.Event()
        self._closed = False  # asked by the loops too, since a client that is cleaning up may swallow a cancellation
        self._decoder = msgspec.json.Decoder(Event)

    def hear(self, event: type[E], hearer: Callable[[E], None]) -> None:
        """Have `hearer` called with each event of that type that reaches this process."""
        self._hear[event] = hearer

    def after_gap(self, reload: Callable[[], None]) -> None:
        """Have `reload` called whenever events may have been missed."""
        self._after_gap.append(reload)

    async def open(self) -> None:
        """Begin to write and to listen; returns once this process can be reached."""
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._listen())]
        await self._listening.wait()

    async def flush(self) -> None:
        """Wait until all events have left."""
        await self._empty.wait()

    async def close(self) -> None:
        """Stop. What waits in the outbox is given up."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def publish(self, process: str, event: Event, sent: Sent | None = None) -> None:
        """Send an event to one process, in order; raises Unreachable when too many wait already."""
        if process == self.process:
            self._dispatch(event)
            return
        if len(self._outbox) >= _MOST_WAITING:
            raise Unreachable
        self._outbox.append((process, event, sent))
        self._mail.set()
        self._empty.clear()

    def tell(self, processes: Iterable[str], event: Event) -> None:
        """Send an event to all of the processes but this one. One that can't be reached reloads later."""
        for process in processes:
            if process != self.process:
                try:
                    self.publish(process, event)
                except Unreachable:
                    log.warning("event=bus_full")

    async def _write(self) -> None:
        while not self._closed:
            await self._mail.wait()
            self._mail.clear()
            batch, self._outbox = self._outbox, []
            for (_, _, sent), receivers in zip(batch, await self._send(batch), strict=True):
                if sent:
                    sent(receivers)
            if not self._outbox:
                self._empty.set()

    async def _send(self, batch: list[tuple[str, Event, Sent | None]]) -> list[int | None]:
        pipeline = self._writer.pipeline(transaction=False)
        for process, event, _ in batch:
            pipeline.publish(f"process:{process}", msgspec.json.encode(event))
        try:
            return list(await pipeline.execute())
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("event=bus_write_failed error=%s", type(error).__name__)
            return [None] * len(batch)

    async def _listen(self) -> None:
        pause = 0.1
        while not self._closed:
            try:
                async with self._subscriber.pubsub(ignore_subscribe_messages=False) as pubsub:
                    await pubsub.subscribe(f"process:{self.process}")
                    async for message in pubsub.listen():
                        if message["type"] == "subscribe":
                            pause = 0.1
                            self._listening.set()
                            for reload in self._after_gap:
                                reload()
                        elif message["type"] == "message":
                            self._dispatch(self._decoder.decode(message["data"]))
            except (RedisError, OSError, TimeoutError) as error:
                if (task := asyncio.current_task()) and task.cancelling():
                    raise  # the client's clean-up failed while we were told to stop
                log.warning("event=bus_lost error=%s", type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _dispatch(self, event: Event) -> None:
        try:
            self._hear[type(event)](event)
        except Exception as error:  # one event that fails must not end the subscription for all
            log.error("event=bus_event_failed type=%s error=%s", type(event).__name__, fault(error))
