"""Processes are killed, stopped and replaced: their peers are offline in time, come back anywhere, and nothing is stale."""

import asyncio
import time

import pytest

from tests.chaos.world import LONG, Talker, World, until


def on_second(world: World) -> list[Talker]:
    """Those who came to the second server."""
    return [each for each in world.talkers if each.name == "tablet"]


async def test_the_peers_of_a_killed_process_are_reachable_at_once_where_they_come_back(world: World) -> None:
    first, second = world.servers
    await second.kill()
    await until(lambda: not any(each.open for each in on_second(world)))
    began = time.monotonic()
    for each in on_second(world):
        await each.come_back(first.scene)
    back = await world.back() + time.monotonic() - began
    await world.replace(second)
    await world.verdict("process killed, its peers come back elsewhere", back)


async def test_the_peers_of_a_killed_process_go_offline(world: World) -> None:
    """In 40 s: the lease of 30 s, and the next look at it. The short form ends the lease by hand."""
    _, second = world.servers
    for each in on_second(world):
        await each.come_back(second.scene)
    await world.back()
    await second.kill()
    began = time.monotonic()
    await until(lambda: not any(each.open for each in on_second(world)))
    if not LONG:
        await world.store.redis.delete(f"process:{second.process}")
    for group in world.groups():
        async with asyncio.timeout(60):
            while (await group[0].peers())[group[2].fp]:  # noqa: ASYNC110 - it has to be asked for
                await asyncio.sleep(0.1)
    took = time.monotonic() - began
    print(f"process killed: its peers are offline after {took:.1f} s")  # noqa: T201 - of make chaos
    assert not LONG or took <= 40
    for group in world.groups():
        assert (await world.send(group[0], group[2]))[0] == 410
    await world.replace(second)
    for each in on_second(world):
        await each.come_back(world.servers[1].scene)
    await world.verdict("process killed")


@pytest.mark.parametrize("seconds", [20] if LONG else [6])
async def test_a_process_that_stood_still_relays_nothing_stale_and_a_revocation_meanwhile_holds(
    world: World, seconds: int
) -> None:
    _, second = world.servers
    mine, theirs = world.groups()
    victim = mine[2]
    with second.stopped():
        began = time.monotonic()
        # The tablet speaks, is revoked, and speaks again, all of which the stopped process has still to read.
        early = [await world.post(victim, each) for each in mine[:2]]
        await world.owners[0].do(f"/peers/{victim.fp}/revoke")
        late = [await world.post(victim, each) for each in mine[:2]]
        # To the other owner's tablet, which is on that process too.
        stale = [await world.post(each, theirs[2]) for each in theirs[:2]]
        await until(lambda: time.monotonic() - began > seconds)
        heard = {id(each): len(each.came) for each in world.talkers}
    await until(lambda: not victim.open)
    back = await world.back([*mine[:2], *theirs])
    assert victim.close_code == 4403
    for number in early + late:
        assert {code for code, _ in victim.answers.get(number, [])} <= {503, 404}
    assert not [each for each in mine[:2] for _, said in each.came[heard[id(each)] :] if said["source_fp"] == victim.fp]
    for number, source in zip(stale, theirs, strict=False):
        assert [code for code, _ in source.answers[number]][-1] == 503
    await world.owners[0].approve(victim.fp)
    await victim.come_back(second.scene)
    await world.verdict(f"process stopped for {seconds} s", back)


async def test_two_processes_overlap_as_in_a_deploy(world: World) -> None:
    first, second = world.servers
    third = await world.serve()
    world.servers.append(third)
    await asyncio.sleep(60 if LONG else 1)
    assert await second.program.stop() == 0
    began = time.monotonic()
    for each in on_second(world):
        await until(lambda each=each: not each.open)  # type: ignore[misc]
        assert each.close_code == 1001
        await each.come_back(third.scene)
    back = await world.back() + time.monotonic() - began
    world.servers = [first, third]
    await world.verdict("a deploy", back)
