"""The mail server fails in every way it can: nobody waits for it, and a mail that can go out later does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.chaos.world import LONG, World
from tests.support import Owner


@asynccontextmanager
async def trouble(world: World, kind: str) -> AsyncIterator[None]:
    """The mail server is in that trouble until the end of the block."""
    if kind == "down":
        await world.mail_proxy.close()
        yield
        await world.mail_proxy.open()
    elif kind == "slow":
        with world.mail_proxy.silent():
            yield
    else:
        world.mailbox.refuse = kind
        yield
        world.mailbox.refuse = ""


async def ask_for_a_link(owner: Owner) -> None:
    assert (await owner.http.post("/login", data={"email": owner.address})).status_code == 200


SEEN = {"down": "event=mail_failed try=1", "451 later": "event=mail_refused try=1 code=451"}
if LONG:
    SEEN["slow"] = "event=mail_failed try=1"  # after ten seconds


@pytest.mark.parametrize("kind", ["down", "slow", "451 later"])
async def test_a_mail_that_cannot_go_out_now_arrives_later_and_nobody_waits_for_it(world: World, kind: str) -> None:
    first = world.servers[0]
    owner = first.scene.owner()
    async with trouble(world, kind):
        await ask_for_a_link(owner)
        if kind in SEEN:
            await first.program.line(SEEN[kind], 20)
        await world.back()
        assert owner.address not in world.mailbox.addressees()
    await owner.open_link(await world.mailbox.next_link(owner.address))
    await world.verdict(f"mail server: {kind}")


async def test_a_mail_that_is_refused_for_good_is_given_up_and_the_next_one_arrives(world: World) -> None:
    first = world.servers[0]
    owner = first.scene.owner()
    async with trouble(world, "550 no"):
        await ask_for_a_link(owner)
        await first.program.line("event=mail_given_up")
        assert owner.address not in world.mailbox.addressees()
    await owner.log_in()
    await world.verdict("mail server: 550 no")
