"""What a message costs: no step to the store between two sockets of one process, one PUBLISH at most across processes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from tests.conftest import Start
from tests.support import Device, Scene

MANY = 1000

_BESIDE = ("SET process:", "MGET process:", "MGET version:", "PING", "HELLO", "CLIENT")


@asynccontextmanager
async def watch(redis: Redis) -> AsyncIterator[Callable[[], Awaitable[list[str]]]]:
    """Every command that reaches the store, but for what no message causes: connecting, leases, versions and probes."""
    async with redis.monitor() as monitor:

        async def seen() -> list[str]:
            await redis.echo("that is all")
            commands: list[str] = []
            while (command := (await monitor.next_command())["command"]) != "ECHO that is all":
                commands.append(command)
            return [each for each in commands if not each.startswith(_BESIDE) and '"Probe"' not in each]

        yield seen


async def send_many(source: Device, target: Device, count: int = MANY) -> None:
    """Send so many candidates, and hear them in order, with none lost."""
    for start in range(0, count, 10):
        for number in range(start, start + 10):
            await source.say({"target": target.fp, "candidate": number})
        assert [(await target.hear())["candidate"] for _ in range(10)] == list(range(start, start + 10))


async def at_ease(*devices: Device) -> None:
    """Read whatever the devices were sent so far."""
    for device in devices:
        await device.ask({"command": "get_list"})


async def test_a_thousand_messages_between_sockets_of_one_process_take_no_step_to_the_store(
    scene: Scene, redis: Redis
) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await at_ease(laptop, phone)
    await scene.at_rest()
    async with watch(redis) as seen:
        await send_many(laptop, phone)
        assert await seen() == []


async def test_lists_and_refusals_take_no_step_to_the_store_either(scene: Scene, redis: Redis) -> None:
    device = await scene.join(scene.owner())
    await scene.at_rest()
    async with watch(redis) as seen:
        for message in ({"command": "get_list"}, {"command": "fly"}, {"target": "AB" * 32, "offer": 1}):
            await device.ask(dict(message))
        assert await seen() == []


async def test_a_message_to_another_process_is_one_publish_at_most(start: Start, redis: Redis) -> None:
    here, there = await start(), await start()
    owner = here.owner()
    laptop, phone = await here.join(owner, "laptop"), await there.join(owner, "phone")
    await laptop.hear_until(lambda heard: heard.get("peer_update", {}).get("online") is True)
    await at_ease(laptop, phone)
    await here.at_rest()
    await there.at_rest()
    async with watch(redis) as seen:
        for number in range(MANY // 10):
            await laptop.say({"target": phone.fp, "candidate": number})
            assert (await phone.hear())["candidate"] == number
        one_by_one = await seen()
        await send_many(laptop, phone)
        in_bursts = await seen()
    assert len(one_by_one) == MANY // 10
    assert len(in_bursts) <= MANY, "what waits already goes along"
    assert all(command.startswith(f"PUBLISH process:{there.context.process} ") for command in one_by_one + in_bursts)


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_thousand_candidates_both_ways_arrive_in_order_and_none_is_lost(start: Start, processes: int) -> None:
    here = await start()
    there = await start() if processes == 2 else here
    owner = here.owner()
    laptop, phone = await here.join(owner, "laptop"), await there.join(owner, "phone")
    await laptop.hear_until(lambda heard: heard.get("peer_update", {}).get("online") is True)
    heard: dict[str, list[int]] = {laptop.fp: [], phone.fp: []}
    for start_at in range(0, MANY, 100):
        for number in range(start_at, start_at + 100):
            await laptop.say({"target": phone.fp, "candidate": number})
            await phone.say({"target": laptop.fp, "candidate": number})
        for device in (laptop, phone):
            heard[device.fp] += [(await device.hear())["candidate"] for _ in range(100)]
    assert heard == {laptop.fp: list(range(MANY)), phone.fp: list(range(MANY))}


async def test_a_process_has_one_subscription_however_many_books_it_holds(scene: Scene, redis: Redis) -> None:
    for _ in range(3):
        await scene.join(scene.owner())
    subscribers = [each for each in await redis.client_list() if int(each["sub"]) + int(each["psub"])]
    assert [(each["sub"], each["psub"]) for each in subscribers] == [("1", "0")]
