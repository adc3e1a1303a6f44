"""The bus: events from process to process over Redis pub/sub. Each process listens on one channel, its own.

All events of a process leave through one task on one connection, without retries: that keeps their order and
delivers each at most once.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from app.book import Report
from app.contact import BEAT, Contact
from app.errors import Unreachable
from app.faults import fault
from app.peers import Fingerprint

log = logging.getLogger("peerbook.bus")

_MOST_WAITING = 10_000
_MOST_BYTES = 32 << 20  # of messages in the outbox
_MOST_AT_ONCE = 100  # events in one PUBLISH
_OPEN_SECONDS = 10.0
_LONGEST_WAIT = 5.0  # seconds in the outbox after which an event is given up
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 0.5
_PROBE_EVERY = 5  # beats
_PROBE_WITHIN = 2.5  # seconds


class Changed(msgspec.Struct, tag=True, frozen=True):
    """A book changed."""

    report: Report


class Found(msgspec.Struct, tag=True, frozen=True):
    """A fingerprint was verified in the book of that user: for sockets that wait and name nobody."""

    fp: Fingerprint
    uid: str


class Deliver(msgspec.Struct, tag=True, frozen=True):
    """A frame for one connection of the receiving process, and whom to tell if that connection is gone."""

    uid: str
    target: Fingerprint
    connection: str
    frame: str
    sender_process: str
    sender: str
    number: int
    message_id: str | int | None


class Gone(msgspec.Struct, tag=True, frozen=True):
    """The answer to the Deliver of that number, whose connection is no more, or out of reach for now (`slow`)."""

    sender: str
    target: Fingerprint
    number: int
    message_id: str | int | None
    slow: bool = False


class Probe(msgspec.Struct, tag=True, frozen=True):
    """What a process sends to itself, to see that it can still be reached; when it asked."""

    asked: float


Event = Changed | Found | Deliver | Gone | Probe
_event = msgspec.json.Decoder(Event)
_letter = msgspec.json.Decoder(list[msgspec.Raw])
E = TypeVar("E", bound=msgspec.Struct)
Sent = Callable[[int | None], None]
"""Called with the number of processes that got an event, None when the store did not answer."""

_Posted = tuple[float, str, Event, Sent | None]


Renew = Callable[[], Awaitable[None]]
"""Reads anew what this process knows, after it may have missed events."""


class Bus:
    """This process's ends of the bus: one writer, one subscription, and a probe that goes all the way round."""

    def __init__(self, process: str, writer: Redis, subscriber: Redis, contact: Contact) -> None:
        self.process = process
        self._writer = writer
        self._subscriber = subscriber
        self._contact = contact
        self._outbox: list[_Posted] = []
        self._outbox_bytes = 0
        self._mail = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._hear: dict[type[Any], Callable[[Any], None]] = {Probe: self._heard_itself}
        self._renew: Renew | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._renewing: asyncio.Task[None] | None = None
        self._stale_since: float | None = None  # when it was noticed that events may have been missed
        self._listening = asyncio.Event()
        self._asked: float | None = None  # when the probe that is under way was sent
        self._closed = False  # asked by the loops too, since a client that is cleaning up may swallow a cancellation

    def hear(self, event: type[E], hearer: Callable[[E], None]) -> None:
        """Have `hearer` called with each event of that type that reaches this process."""
        self._hear[event] = hearer

    def after_gap(self, renew: Renew) -> None:
        """Have `renew` called whenever events may have been missed."""
        self._renew = renew

    async def open(self) -> None:
        """Begin to write and to listen; returns once this process can be reached. Raises Unreachable where it can't be."""
        self._tasks = [asyncio.create_task(each()) for each in (self._write, self._listen, self._watch)]
        try:
            await asyncio.wait_for(self._listening.wait(), _OPEN_SECONDS)
        except TimeoutError:
            raise Unreachable from None

    async def flush(self) -> None:
        """Wait until all events have left."""
        await self._empty.wait()

    async def close(self) -> None:
        """Stop. What waits in the outbox is given up."""
        self._closed = True
        tasks = [*self._tasks, self._renewing] if self._renewing else self._tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def publish(self, process: str, event: Event, sent: Sent | None = None) -> None:
        """Send an event to one process, in order; raises Unreachable when the store is lost or too many wait already."""
        if process == self.process:
            self._dispatch(event)
            return
        if self._contact.lost or len(self._outbox) >= _MOST_WAITING or self._outbox_bytes >= _MOST_BYTES:
            raise Unreachable
        if isinstance(event, Deliver):
            self._outbox_bytes += len(event.frame)
        self._post(process, event, sent)

    def tell(self, processes: Iterable[str], event: Event, unheard: Callable[[str], None]) -> None:
        """Send an event to all of the processes but this one; `unheard` is called with each that did not listen.

        One that can't be reached for now compares versions later.
        """
        for process in processes:
            if process != self.process:
                try:
                    self.publish(process, event, partial(self._told, process, unheard))
                except Unreachable:
                    log.warning("event=bus_full")

    @staticmethod
    def _told(process: str, unheard: Callable[[str], None], receivers: int | None) -> None:
        if receivers == 0:
            unheard(process)

    def refuse(self, event: Deliver, *, slow: bool) -> None:
        """Say, if that is possible, that it was not delivered: its connection is gone, or out of reach for now (`slow`)."""
        with contextlib.suppress(Unreachable):
            self.publish(event.sender_process, Gone(event.sender, event.target, event.number, event.message_id, slow))

    def _post(self, process: str, event: Event, sent: Sent | None) -> None:
        self._outbox.append((self._contact.clock(), process, event, sent))
        self._mail.set()
        self._empty.clear()

    # Writing

    async def _write(self) -> None:
        while not self._closed:
            await self._mail.wait()
            self._mail.clear()
            batch, self._outbox, self._outbox_bytes = self._outbox, [], 0
            oldest = self._contact.clock() - _LONGEST_WAIT
            late = [sent for posted, _, _, sent in batch if posted < oldest]
            for sent in late:
                _say(sent, None)
            batch = batch[len(late) :]
            for (*_, sent), receivers in zip(batch, await self._send(batch), strict=True):
                _say(sent, receivers)
            if not self._outbox:
                self._empty.set()

    async def _send(self, batch: list[_Posted]) -> list[int | None]:
        """Send what waits, with one PUBLISH for each process; returns how many heard each event."""
        told: list[int | None] = [None] * len(batch)
        letters = list(_letters(batch))
        try:
            pipeline = self._writer.pipeline(transaction=False)
            for process, numbers in letters:
                pipeline.publish(f"process:{process}", msgspec.json.encode([batch[number][2] for number in numbers]))
            for (_, numbers), receivers in zip(letters, await pipeline.execute(), strict=True):
                for number in numbers:
                    told[number] = receivers
        except Exception as error:  # whatever it is (of a reset, uvloop raises RuntimeError): there is but one writer
            log.warning("event=bus_write_failed error=%s", type(error).__name__)
        return told

    # Listening

    async def _listen(self) -> None:
        """Keep one subscription, for ever: one that ends or stays silent is built anew."""
        pause = _SHORTEST_PAUSE
        while not self._closed:
            try:
                async with self._subscriber.pubsub(ignore_subscribe_messages=False) as pubsub:
                    await pubsub.subscribe(f"process:{self.process}")
                    async for message in self._messages(pubsub):
                        if message["type"] == "subscribe":
                            pause = _SHORTEST_PAUSE
                            self._listening.set()
                            self._asked = None  # a probe that is under way may have missed the new subscription
                            self._ask()
                            self._start_renewing(self._contact.clock())
                        elif message["type"] == "message":
                            self._take(message["data"])
            except Exception as error:  # whatever it is: a process that does not listen hears of no revocation
                if (task := asyncio.current_task()) and task.cancelling():
                    raise  # the client's clean-up failed while we were told to stop
                log.warning("event=bus_lost error=%s", type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _messages(self, pubsub: PubSub) -> AsyncIterator[dict[str, Any]]:
        """What comes; raises TimeoutError once a probe has not come back in time."""
        while not self._closed:
            message = await pubsub.get_message(timeout=BEAT)
            if message:
                yield message
            elif self._probe_is_late():
                raise TimeoutError

    def _take(self, data: str) -> None:
        try:
            for each in _letter.decode(data):
                self._take_event(each)
        except msgspec.MsgspecError:
            log.warning("event=bus_letter_unknown")

    def _take_event(self, raw: msgspec.Raw) -> None:
        try:
            event = _event.decode(raw)
        except msgspec.MsgspecError:  # of another version of this program, while a deploy overlaps two
            return log.warning("event=bus_event_unknown")
        if self._contact.trusted or isinstance(event, Probe):
            self._dispatch(event)
        elif isinstance(event, Deliver):
            # It may have waited for as long as we stood still. What else is missed will be read anew.
            self.refuse(event, slow=True)

    def _dispatch(self, event: Event) -> None:
        try:
            self._hear[type(event)](event)
        except Exception as error:  # one event that fails must not end the subscription for all
            log.error("event=bus_event_failed type=%s error=%s", type(event).__name__, fault(error))

    # Watching

    async def _watch(self) -> None:
        """Send a probe every 5 s, and every second while the store is lost."""
        beats = 0
        while not self._closed:
            await asyncio.sleep(BEAT)
            beats += 1
            self._contact.beat()
            if self._probe_is_late():
                self._contact.lose()
            if beats % _PROBE_EVERY == 0 or self._contact.lost or not self._contact.trusted:
                self._ask()

    def _ask(self) -> None:
        now = self._contact.clock()
        if self._asked is None:
            self._asked = now
        self._post(self.process, Probe(now), None)

    def _probe_is_late(self) -> bool:
        return self._asked is not None and self._contact.clock() - self._asked > _PROBE_WITHIN

    def _heard_itself(self, probe: Probe) -> None:
        was_lost, self._asked = self._contact.lost, None
        if self._contact.heard(probe.asked) or was_lost:
            self._start_renewing(probe.asked)

    def _start_renewing(self, since: float) -> None:
        """Read anew what may be out of date; once at a time, and once more where it was noticed again meanwhile."""
        self._stale_since = since
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew_all())

    async def _renew_all(self) -> None:
        while self._stale_since is not None and self._renew and not self._closed:
            since, self._stale_since = self._stale_since, None
            try:
                await self._renew()
            except Exception as error:  # the next probe begins it again where nothing may be trusted yet
                log.error("event=renew_failed error=%s", fault(error))
            else:
                self._contact.renewed(since)


def _letters(batch: list[_Posted]) -> Iterable[tuple[str, list[int]]]:
    """For each process the numbers of the events for it, in their order, a bounded number at once."""
    letters: dict[str, list[int]] = {}
    for number, (_, process, *_) in enumerate(batch):
        letter = letters.setdefault(process, [])
        letter.append(number)
        if len(letter) == _MOST_AT_ONCE:
            yield process, letters.pop(process)
    yield from letters.items()


def _say(sent: Sent | None, receivers: int | None) -> None:
    if sent:
        try:
            sent(receivers)
        except Exception as error:  # one event that fails must not end the writing for all
            log.error("event=bus_event_failed error=%s", fault(error))
