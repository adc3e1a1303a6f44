"""The bus: events go out in order, at most once and in time, and a subscription that is silent is built anew."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as BrokenError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as SilentError

from app import bus as bus_module
from app.bus import Bus, Deliver, Found, Gone, Probe
from app.contact import LONGEST_SILENCE, STANDSTILL, Contact
from app.errors import Unreachable
from tests.parts import fingerprint
from tests.support import eventually


class Clock:
    """A clock that runs, and may be set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead


class Far:
    """One end of the bus: what it heard, and how often it read anew what it knows."""

    def __init__(self, name: str, store_url: str) -> None:
        self.clock = Clock()
        self.contact = Contact(self.clock)
        self.writer, self.subscriber = (Redis.from_url(store_url, decode_responses=True) for _ in range(2))
        self.bus = Bus(name, self.writer, self.subscriber, self.contact)
        self.heard: list[Any] = []
        self.renewals = 0
        self.renew: Callable[[], Awaitable[Any]] = self._nothing
        for event in (Found, Deliver, Gone):
            self.bus.hear(event, self.heard.append)
        self.bus.after_gap(self._renew)

    async def _nothing(self) -> None:
        """There is nothing to read."""

    async def _renew(self) -> None:
        self.renewals += 1
        await self.renew()

    async def open(self) -> "Far":
        await self.bus.open()
        await eventually(lambda: self.renewals > 0 and self.bus._asked is None)
        self.renewals = 0
        return self

    async def close(self) -> None:
        await self.bus.close()
        for client in (self.writer, self.subscriber):
            await client.aclose()


@pytest.fixture
async def here(store_url: str, redis: Redis) -> AsyncIterator[Far]:
    far = await Far("here", store_url).open()
    yield far
    await far.close()


@pytest.fixture
async def there(store_url: str, redis: Redis) -> AsyncIterator[Far]:
    far = await Far("there", store_url).open()
    yield far
    await far.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A beat takes a moment, and so does the patience with a probe."""
    monkeypatch.setattr(bus_module, "BEAT", 0.02)
    monkeypatch.setattr(bus_module, "_PROBE_WITHIN", 0.4)


def a_message(to: str = "c1") -> Deliver:
    return Deliver("uid", fingerprint(), to, "{}", "here", "c0", 1, 7)


# Sending


async def test_events_arrive_in_order(here: Far, there: Far) -> None:
    events = [Found(fingerprint(), "u1") for _ in range(500)]
    for event in events:
        here.bus.publish("there", event)
    await eventually(lambda: len(there.heard) == 500)
    assert there.heard == events


async def test_the_sender_hears_how_many_got_it(here: Far, there: Far) -> None:
    told: list[int | None] = []
    for process in ("there", "nobody"):
        here.bus.publish(process, Found(fingerprint(), "u1"), told.append)
    await eventually(lambda: told == [1, 0])


async def test_what_waits_for_one_process_leaves_in_one_letter(here: Far, there: Far, redis: Redis) -> None:
    before = await publishes(redis)
    told: list[int | None] = []
    for number in range(bus_module._MOST_AT_ONCE + 1):
        here.bus.publish("there", Found(fingerprint(), f"u{number}"), told.append)
        here.bus.publish("nobody", Found(fingerprint(), f"u{number}"))
    await eventually(lambda: len(there.heard) == len(told) == bus_module._MOST_AT_ONCE + 1)
    assert [event.uid for event in there.heard] == [f"u{number}" for number in range(bus_module._MOST_AT_ONCE + 1)]
    assert told == [1] * len(there.heard)
    assert await publishes(redis) - before == 4, "two to each of them, since a letter has a largest size"


async def publishes(redis: Redis) -> int:
    """How many PUBLISHes the store has had."""
    stats = await redis.info("commandstats")
    return int(stats.get("cmdstat_publish", {"calls": 0})["calls"])


async def test_an_event_for_the_process_itself_takes_no_way_around(here: Far) -> None:
    event = Found(fingerprint(), "u1")
    here.bus.publish("here", event)
    assert here.heard == [event]


async def test_who_did_not_listen_is_named_and_nobody_else(here: Far, there: Far) -> None:
    unheard: list[str] = []
    here.bus.tell(["here", "there", "nobody"], Found(fingerprint(), "u1"), unheard.append)
    await eventually(lambda: unheard == ["nobody"])
    assert (len(here.heard), len(there.heard)) == (0, 1)


async def test_an_event_that_waited_too_long_is_given_up_and_the_next_is_sent(
    here: Far, there: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, began, go_on = here.bus._send, asyncio.Event(), asyncio.Event()
    told: list[int | None] = []

    async def held_up(batch: list[Any]) -> list[int | None]:
        began.set()
        await go_on.wait()
        return await send(batch)

    monkeypatch.setattr(here.bus, "_send", held_up)
    first, late, fresh = (Found(fingerprint(), "u1") for _ in range(3))
    here.bus.publish("there", first)
    await began.wait()
    here.bus.publish("there", late, told.append)
    here.clock.ahead += bus_module._LONGEST_WAIT + 1
    here.contact.beat()
    here.bus.publish("there", fresh)
    go_on.set()
    await eventually(lambda: len(there.heard) == 2)
    assert there.heard == [first, fresh]
    assert told == [None]


@pytest.mark.parametrize("error", [BrokenError(), SilentError(), ResponseError("OOM"), OSError(), RecursionError()])
async def test_what_the_store_does_not_take_is_told_to_be_out_of_reach_and_the_next_event_is_sent(
    here: Far, there: Far, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    told: list[int | None] = []

    def broken(**options: Any) -> Any:
        monkeypatch.undo()
        raise error

    monkeypatch.setattr(here.writer, "pipeline", broken)
    here.bus.publish("there", Found(fingerprint(), "u1"), told.append)
    await eventually(lambda: told == [None])
    here.bus.publish("there", Found(fingerprint(), "u1"), told.append)
    await eventually(lambda: told == [None, 1])
    assert len(there.heard) == 1


async def test_a_fault_in_one_answer_does_not_end_the_writing(
    here: Far, there: Far, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(receivers: int | None) -> None:
        raise ValueError

    here.bus.publish("there", Found(fingerprint(), "u1"), fail)
    here.bus.publish("there", Found(fingerprint(), "u1"))
    await eventually(lambda: len(there.heard) == 2 and "event=bus_event_failed" in caplog.text)


async def test_when_too_much_waits_the_next_event_is_refused(
    here: Far, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bus_module, "_MOST_WAITING", 1)
    here.bus.publish("there", Found(fingerprint(), "u1"))
    with pytest.raises(Unreachable):
        here.bus.publish("there", Found(fingerprint(), "u1"))
    here.bus.tell(["there"], Found(fingerprint(), "u1"), lambda process: None)
    assert "event=bus_full" in caplog.text


async def test_when_what_waits_is_too_large_the_next_event_is_refused(
    here: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "_MOST_BYTES", 2)
    here.bus.publish("there", a_message())
    with pytest.raises(Unreachable):
        here.bus.publish("there", Found(fingerprint(), "u1"))
    await here.bus.flush()
    here.bus.publish("there", a_message())


async def test_while_the_store_is_lost_events_are_refused_at_once(here: Far) -> None:
    here.contact.lose()
    with pytest.raises(Unreachable):
        here.bus.publish("there", Found(fingerprint(), "u1"))


# Hearing


async def test_a_fault_in_hearing_one_event_does_not_end_the_subscription(
    here: Far, there: Far, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: Found) -> None:
        raise ValueError

    there.bus.hear(Found, fail)
    here.bus.publish("there", Found(fingerprint(), "u1"))
    here.bus.publish("there", a_message())
    await eventually(lambda: len(there.heard) == 1)
    assert "event=bus_event_failed" in caplog.text


@pytest.mark.parametrize(
    "strange", ["", "{", "7", "[7]", '[{"type":"Of another version"}]', '[{"type":"Found","fp":7}]', "\x00"]
)
async def test_an_event_that_cannot_be_read_is_passed_over(here: Far, there: Far, redis: Redis, strange: str) -> None:
    assert await redis.publish("process:there", strange) == 1
    here.bus.publish("there", Found(fingerprint(), "u1"))
    await eventually(lambda: len(there.heard) == 1)
    assert there.renewals == 0


async def test_an_event_that_cannot_be_read_takes_none_of_its_neighbours_along(there: Far, redis: Redis) -> None:
    event = Found(fingerprint(), "u1")
    known = msgspec.json.encode(event).decode()
    await redis.publish("process:there", f'[{known},{{"type":"Of another version"}},{known}]')
    await eventually(lambda: there.heard == [event, event])


# Losing the subscription


async def test_a_subscription_that_is_cut_is_built_anew_and_all_is_read_anew(
    here: Far, there: Far, redis: Redis
) -> None:
    for renewals in range(1, 5):
        await redis.client_kill_filter(_type="pubsub")
        await eventually(lambda renewals=renewals: there.renewals >= renewals)  # type: ignore[misc]
    here.bus.publish("there", Found(fingerprint(), "u1"))
    await eventually(lambda: len(there.heard) == 1)


@pytest.mark.usefixtures("quick")
async def test_a_subscription_that_stays_silent_is_built_anew(here: Far, there: Far, redis: Redis) -> None:
    """It is not cut: nothing comes by it any more."""
    await redis.publish("process:there", msgspec.json.encode([Found(fingerprint(), "u1")]))
    await eventually(lambda: len(there.heard) == 1)
    (connection,) = there.subscriber.connection_pool._in_use_connections
    await connection.send_command("UNSUBSCRIBE")
    await eventually(lambda: there.renewals > 0)
    here.bus.publish("there", Found(fingerprint(), "u1"))
    await eventually(lambda: len(there.heard) == 2)


@pytest.mark.usefixtures("quick")
async def test_a_store_that_does_not_answer_is_lost_until_it_does(here: Far, redis: Redis) -> None:
    await redis.client_pause(1000)
    await eventually(lambda: here.contact.lost)
    await eventually(lambda: not here.contact.lost)
    assert here.contact.trusted


async def test_a_fault_of_any_kind_does_not_end_the_listening(
    here: Far, there: Far, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py has raised RecursionError while it subscribed."""
    pubsub, calls = there.subscriber.pubsub, list[Any]()

    def broken(**options: Any) -> Any:
        calls.append(options)
        if len(calls) == 1:
            raise RecursionError
        return pubsub(**options)

    monkeypatch.setattr(there.subscriber, "pubsub", broken)
    await redis.client_kill_filter(_type="pubsub")
    await eventually(lambda: len(calls) > 1 and there.renewals > 0)


async def test_a_process_that_is_not_allowed_to_listen_does_not_start(
    store_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "_OPEN_SECONDS", 0.2)
    await redis.acl_setuser(
        "deaf", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-subscribe"]
    )
    far = Far("deaf", store_url)
    for client in (far.writer, far.subscriber):
        client.connection_pool.connection_kwargs |= {"username": "deaf", "password": "any"}
    with pytest.raises(Unreachable):
        await far.bus.open()
    await far.close()
    await redis.acl_deluser("deaf")


# After standing still


async def test_after_a_standstill_a_message_is_refused_and_not_delivered(here: Far, there: Far) -> None:
    there.renew = asyncio.Event().wait
    there.clock.ahead += STANDSTILL + 2
    message = a_message()
    here.bus.publish("there", message)
    await eventually(lambda: len(here.heard) == 1)
    assert here.heard == [Gone("c0", message.target, 1, 7, slow=True)]
    assert there.heard == []


async def test_after_a_standstill_all_is_read_anew_and_then_events_are_heard_again(here: Far, there: Far) -> None:
    go_on = asyncio.Event()
    there.renew = go_on.wait
    there.clock.ahead += STANDSTILL + 2
    here.bus.publish("there", Found(fingerprint(), "u1"))
    await eventually(lambda: there.renewals > 0)
    assert there.heard == []
    go_on.set()
    await eventually(lambda: there.contact.trusted)
    here.bus.publish("there", Found(fingerprint(), "u1"))
    await eventually(lambda: len(there.heard) == 1)


async def test_after_a_long_silence_all_is_read_anew_too(there: Far) -> None:
    there.contact._heard -= LONGEST_SILENCE
    there.contact.beat()
    assert not there.contact.trusted
    await eventually(lambda: there.renewals > 0 and there.contact.trusted)


@pytest.mark.usefixtures("quick")
async def test_reading_anew_is_not_begun_again_by_every_probe(there: Far) -> None:
    """A slow store would never be trusted again."""
    go_on = asyncio.Event()
    there.renew = go_on.wait
    there.clock.ahead += STANDSTILL + 2
    await eventually(lambda: there.renewals > 0)
    probes = 0
    hear = there.bus._heard_itself

    def count(probe: Probe) -> None:
        nonlocal probes
        probes += 1
        hear(probe)

    there.bus.hear(Probe, count)
    await eventually(lambda: probes > 2)
    assert (there.renewals, there.contact.trusted) == (1, False)
    go_on.set()
    await eventually(lambda: there.contact.trusted)
    await eventually(lambda: there.renewals > 1)  # once more, since it was noticed again meanwhile


@pytest.mark.usefixtures("quick")
async def test_reading_anew_that_fails_is_begun_again(there: Far, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        if there.renewals == 1:
            raise ValueError

    there.renew = fail
    there.clock.ahead += STANDSTILL + 2
    await eventually(lambda: there.contact.trusted)
    assert there.renewals > 1
    assert "event=renew_failed" in caplog.text
