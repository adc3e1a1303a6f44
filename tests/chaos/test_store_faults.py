"""The store fails in every way it can: nothing is lost, nobody is reached by mistake, and all is well again at once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.chaos.world import LONG, World, open_world

pytestmark = pytest.mark.timeout(300 if LONG else 60)


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("store")) as world:
        yield world


@pytest.mark.parametrize("seconds", [2, 10, 60] if LONG else [1])
async def test_a_store_that_is_killed_comes_back_with_all_that_it_had(world: World, seconds: int) -> None:
    await world.store.kill()
    await asyncio.sleep(seconds)
    await world.store.start()
    await world.verdict(f"store killed for {seconds} s")


@pytest.mark.parametrize("seconds", [30] if LONG else [4])
async def test_a_store_that_is_stopped_goes_on(world: World, seconds: int) -> None:
    with world.store.stopped():
        await asyncio.sleep(seconds)
    await world.verdict(f"store stopped for {seconds} s")


async def test_a_subscription_that_is_cut_again_and_again_is_built_anew(world: World) -> None:
    for _ in range(50 if LONG else 5):
        await world.store.redis.client_kill_filter(_type="pubsub")
        await asyncio.sleep(0.05)
    await world.verdict("subscriptions cut again and again")
