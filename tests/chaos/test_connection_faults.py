"""What lies between a server and its store is slow, cut or silent."""

import asyncio
import time

from tests.chaos.world import LONG, World, until


async def test_a_slow_store_delays_and_breaks_nothing(proxied: World) -> None:
    laptop, _, tablet = proxied.groups()[0]
    owner = proxied.owners[0]
    for proxy in proxied.proxies:
        proxy.delay = 0.25  # each way
    await asyncio.sleep(60 if LONG else 1)
    assert (await proxied.send(laptop, tablet))[0] == 200
    await owner.do(f"/peers/{tablet.fp}/rename", name="slow")
    await proxied.back()
    for proxy in proxied.proxies:
        proxy.delay = 0
    await proxied.verdict("store slower by 500 ms")


async def test_a_subscription_that_is_built_over_a_slow_line_is_trusted_again(proxied: World) -> None:
    """All is read anew over that line too, which takes longer than the next probe."""
    for proxy in proxied.proxies:
        proxy.delay = 0.25
        proxy.cut()
    back = await proxied.back()
    for proxy in proxied.proxies:
        proxy.delay = 0
    print(f"connections cut while the store is slower by 500 ms: back after {back:.2f} s")  # noqa: T201 - of make chaos
    await proxied.verdict("the store is fast again")


async def test_connections_that_are_reset_in_the_middle_of_a_reply_deliver_nothing_twice(proxied: World) -> None:
    for _ in range(30 if LONG else 5):
        for proxy in proxied.proxies:
            proxy.cut_replies(2)
        await asyncio.sleep(0.2)
    await proxied.verdict("connections reset in the middle of a reply")


async def test_a_revocation_in_an_outage_of_the_bus_holds_as_soon_as_that_is_over(proxied: World) -> None:
    second, (victim, near) = proxied.servers[1], (proxied.groups()[0][2], proxied.groups()[0][:2])
    owner, proxy = proxied.owners[0], proxied.proxies[1]
    began = time.monotonic()
    with proxy.silent():
        await owner.do(f"/peers/{victim.fp}/revoke")
        await until(lambda: time.monotonic() - began > (40 if LONG else 1))
    healed = time.monotonic()
    closed = await until(lambda: not victim.open)
    assert victim.close_code == 4403
    print(f"revoked in an outage of the bus: closed after {closed:.2f} s")  # noqa: T201 - of make chaos
    late = [
        number
        for number, (source, _) in proxied.sent.items()
        if source is victim and any(code == 200 and at > healed + 1 for code, at in victim.answers.get(number, []))
    ]
    assert late == []
    assert not LONG or closed <= 1
    back = await proxied.back([*near, *proxied.groups()[1]])
    await owner.approve(victim.fp)
    await victim.come_back(second.scene)
    await proxied.verdict("revoked in an outage of the bus", back)
