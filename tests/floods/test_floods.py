"""Floods from a second process against a server with live devices: the attackers are cut, and nobody else minds.

Each device goes on talking to the next one of its book all the time. At the end all of it has arrived, one that left and
came back was seen, none was cut, and the server's memory has not grown. How late messages were is printed (`make floods`).
"""

import json
import re
from collections.abc import AsyncIterator

import pytest

from tests.floods.world import LONG, World, open_world


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    async with open_world() as world:
        await world.rest(5 if LONG else 0.5)
        yield world


def sized(long: int, short: int) -> int:
    return long if LONG else short


def all_were_cut(outcome: str, count: int) -> bool:
    return re.fullmatch(rf"cut {count} of {count} in [\d.]+ s", outcome) is not None


@pytest.mark.parametrize("what", ["pings", "empty_fragments", "small_fragments", "huge_lengths", "deep_json"])
async def test_a_socket_that_is_flooded_is_cut(world: World, what: str) -> None:
    count = sized(50, 10)
    assert all_were_cut(await world.flood(what, count, peers=world.spare), count)


@pytest.mark.parametrize("what", ["slow_heads", "slow_bodies", "half_open"])
async def test_a_request_that_takes_too_long_is_cut(world: World, what: str) -> None:
    count = sized(200, 40)
    assert all_were_cut(await world.flood(what, count), count)


async def test_readers_that_read_nothing_are_cut(world: World) -> None:
    count = len(world.spare)
    assert all_were_cut(await world.flood("stuck_readers", count, peers=world.spare), count)


async def test_a_storm_of_connects_passes(world: World) -> None:
    assert "came and went" in await world.flood("storm", sized(5000, 300))


async def test_of_one_address_as_many_may_wait_as_one_home_has(world: World) -> None:
    count = sized(2000, 200)
    answers = json.loads((await world.flood("one_address", count)).removeprefix("answers "))
    assert answers["waits"] == 5
    assert sum(answers.values()) == count


async def test_frames_that_piled_up_while_the_server_stood_still_are_cut_when_it_goes_on(world: World) -> None:
    count = sized(50, 10)
    assert all_were_cut(await world.flood("suspend", count, stand_still=20 if LONG else 1), count)
