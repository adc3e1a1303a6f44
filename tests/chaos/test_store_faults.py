"""The store fails in every way it can: nothing is lost, nobody is reached by mistake, and all is well again at once."""

import asyncio
import time

import pytest

from tests.chaos.world import LONG, World, until
from tests.streams import following
from tests.support import SECONDS

# With an outage of the store


@pytest.mark.parametrize("seconds", [2, 10, 60] if LONG else [1])
async def test_a_store_that_is_killed_comes_back_with_all_that_it_had(world: World, seconds: int) -> None:
    await world.store.kill()
    await asyncio.sleep(seconds)
    await world.store.start()
    await world.verdict(f"store killed for {seconds} s")


@pytest.mark.parametrize("seconds", [30] if LONG else [1])
async def test_a_store_that_is_stopped_goes_on(world: World, seconds: int) -> None:
    with world.store.stopped():
        await asyncio.sleep(seconds)
    await world.verdict(f"store stopped for {seconds} s")


@pytest.mark.parametrize("way", ["killed", "stopped"] if LONG else ["stopped"])
async def test_in_an_outage_neighbours_reach_each_other_and_all_else_is_refused_soon(world: World, way: str) -> None:
    laptop, phone, tablet = world.groups()[0]
    owner = world.owners[0]
    async with following(owner) as page:
        await page.hear_book()
        began = time.monotonic()
        if way == "killed":
            await world.store.kill()
        else:
            world.store.freeze()
        # Across processes and to the store: 503. Within one process nothing changes.
        code, seconds = await world.send(laptop, tablet)
        assert code == 503
        assert not LONG or seconds <= 6
        assert (await world.send(laptop, phone))[0] == 200
        await until(lambda: time.monotonic() - began > (8 if LONG else 0))  # by then it is known to be lost
        asked = time.monotonic()
        assert (await owner.act(f"/peers/{phone.fp}/rename", name="new")).status_code == 503
        assert (await owner.http.get("/peers")).status_code == 503
        assert not LONG or time.monotonic() - asked < 1
        await page.hear_until("away")
        if LONG:
            assert (await world.send(laptop, phone))[0] == 200
            await until(lambda: time.monotonic() - began > 37)  # 30 s after the last sign of the store
            assert (await world.send(laptop, phone))[0] == 503
        if way == "killed":
            await world.store.start()
        else:
            world.store.go_on()
        back = await world.back()
        await page.hear_until("book")
    await world.verdict(f"store {way}, and what is refused meanwhile", back)


async def test_a_store_that_takes_no_more_connections_is_used_again_when_it_does(world: World) -> None:
    redis = world.store.redis
    await redis.config_set("maxclients", 1)
    for kind in ("normal", "pubsub"):
        await redis.client_kill_filter(_type=kind, skipme=True)
    laptop, _, tablet = world.groups()[0]
    async with asyncio.timeout(SECONDS):
        while (await world.send(laptop, tablet))[0] != 503:
            pass
    await asyncio.sleep(10 if LONG else 1)
    await redis.config_set("maxclients", 10_000)
    await world.verdict("store takes no more connections")


# With an outage of connections


async def test_a_subscription_that_is_cut_again_and_again_is_built_anew(world: World) -> None:
    for _ in range(50 if LONG else 5):
        await world.store.redis.client_kill_filter(_type="pubsub")
        await asyncio.sleep(0.05)
    await world.verdict("subscriptions cut again and again")


# With an empty store


async def test_after_a_store_came_back_empty_everybody_waits_again_and_nothing_rises_from_memory(world: World) -> None:
    before = time.monotonic()
    await world.store.redis.flushall()
    # Every socket stays open, and hears that it waits.
    await until(lambda: all(each.statuses[-1] == 401 for each in world.talkers))
    print(f"store emptied: everybody waits after {time.monotonic() - before:.2f} s")  # noqa: T201 - of make chaos
    assert all(each.open for each in world.talkers)
    assert [key for key in await world.store.redis.keys("*") if str(key).startswith(("peer:", "book:", "books:"))] == []
    for group in world.groups():
        assert (await world.send(group[0], group[1]))[0] == 401
    # They are approved like new ones.
    for owner, group in zip(world.owners, world.groups(), strict=True):
        owner.http.cookies.clear()
        world.mailbox.mails.clear()
        await owner.log_in()
        for each in group:
            await owner.approve(each.fp)
    await world.verdict("store emptied")
