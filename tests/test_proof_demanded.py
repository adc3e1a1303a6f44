"""Demanding proof: from that moment on, devices that cannot prove themselves wait outside; and no longer than that."""

import pytest
from redis.asyncio import Redis

from tests.conftest import Start
from tests.support import Device, Message, Owner, Scene, new_fingerprint


async def two_devices(scene: Scene) -> tuple[Owner, Device, Device]:
    owner = scene.owner()
    return owner, await scene.join(owner, "laptop"), await scene.join(owner, "phone")


async def demand(owner: Owner, on: bool) -> None:
    await owner.do("/account/require-proof", on="1" if on else "0")


def is_status(heard: Message) -> bool:
    return "code" in heard


async def test_live_sockets_hear_401_at_once_and_stay_open(scene: Scene) -> None:
    owner, laptop, phone = await two_devices(scene)
    await demand(owner, on=True)
    for device in (laptop, phone):
        waiting = await device.hear_until(is_status)
        assert waiting["code"] == 401
        assert "pair" not in waiting
        assert (await device.ask({"command": "get_list"}))["code"] == 401


async def test_a_device_that_waits_outside_can_neither_signal_nor_be_reached(scene: Scene) -> None:
    owner, laptop, phone = await two_devices(scene)
    await demand(owner, on=True)
    await laptop.hear_until(is_status)
    await phone.hear_until(is_status)
    assert (await laptop.ask({"target": phone.fp, "offer": "x"}))["code"] == 401
    await phone.hears_nothing()


async def test_it_is_offline_for_the_page_and_in_the_store(scene: Scene, redis: Redis) -> None:
    owner, laptop, phone = await two_devices(scene)
    assert "Online" in await owner.page()
    await demand(owner, on=True)
    await laptop.hear_until(is_status)
    await phone.hear_until(is_status)
    await scene.at_rest()
    page = await owner.page()
    assert "Online" not in page
    assert "shut out" in page
    assert await redis.hlen(f"online:{{{await owner.uid()}}}") == 0


async def test_a_device_that_dials_again_hears_401_and_asks_nobody(scene: Scene) -> None:
    owner, laptop, _ = await two_devices(scene)
    await scene.at_rest()
    scene.mailbox.mails.clear()
    await demand(owner, on=True)
    for names in ({"email": owner.address}, {"uid": await owner.uid()}, {}):
        again = await scene.connect(laptop.fp, **names)
        waiting = await again.hear()
        assert waiting.keys() == {"code", "text", "nonce"}
        assert waiting["code"] == 401
    await scene.at_rest()
    assert scene.mailbox.mails == []


async def test_a_device_that_is_approved_meanwhile_waits_outside(scene: Scene) -> None:
    owner, _, _ = await two_devices(scene)
    await demand(owner, on=True)
    tablet = await scene.connect(email=owner.address, name="tablet")
    assert "pair" in await tablet.hear()
    await owner.approve(tablet.fp)
    await scene.at_rest()
    assert (await tablet.ask({"command": "get_list"}))["code"] == 401


async def test_all_are_back_at_once_when_it_is_demanded_no_more(scene: Scene) -> None:
    owner, laptop, phone = await two_devices(scene)
    await demand(owner, on=True)
    await laptop.hear_until(is_status)
    await phone.hear_until(is_status)
    await demand(owner, on=False)
    for device in (laptop, phone):
        assert (await device.hear_until(is_status))["code"] == 200
        assert {"peers", "uid"} == (await device.hear()).keys()
    await scene.at_rest()
    assert [peer["online"] for peer in await laptop.peers()] == [True, True]
    assert (await laptop.ask({"target": phone.fp, "offer": "x"}))["code"] == 200


async def test_a_socket_that_dialed_meanwhile_is_in_when_it_is_demanded_no_more(scene: Scene) -> None:
    owner, laptop, _ = await two_devices(scene)
    await laptop.leave()
    await demand(owner, on=True)
    named = await scene.connect(laptop.fp, email=owner.address)
    assert (await named.hear())["code"] == 401
    await demand(owner, on=False)
    assert (await named.hear())["code"] == 200


async def test_it_holds_in_every_process(start: Start) -> None:
    here, there = await start(), await start()
    owner = here.owner()
    near, far = await here.join(owner, "near"), await there.join(owner, "far")
    for on, code in ((True, 401), (False, 200)):
        await demand(owner, on=on)
        assert [(await device.hear_until(is_status))["code"] for device in (near, far)] == [code, code]


async def test_it_holds_for_one_book_only(scene: Scene) -> None:
    owner, laptop, _ = await two_devices(scene)
    stranger = await scene.join(scene.owner())
    await demand(owner, on=True)
    await laptop.hear_until(is_status)
    await stranger.hears_nothing()


@pytest.mark.parametrize("on", [True, False])
async def test_demanding_it_twice_is_as_once(scene: Scene, on: bool) -> None:
    owner, laptop, _ = await two_devices(scene)
    await demand(owner, on=on)
    if on:
        assert (await laptop.hear_until(is_status))["code"] == 401
    await demand(owner, on=on)
    assert (await laptop.ask({"command": "get_list"})).get("code") == (401 if on else 200)


async def test_quick_changes_of_mind_end_as_the_last_one(scene: Scene, redis: Redis) -> None:
    owner, laptop, phone = await two_devices(scene)
    for _ in range(5):
        await demand(owner, on=True)
        await demand(owner, on=False)
    await scene.at_rest()
    assert (await laptop.ask({"command": "get_list"}))["code"] == 200
    assert [peer["online"] for peer in await phone.peers()] == [True, True]
    assert await redis.hlen(f"online:{{{await owner.uid()}}}") == 2


async def test_a_device_entered_ahead_waits_until_it_is_demanded_no_more(scene: Scene) -> None:
    owner, _, _ = await two_devices(scene)
    fp = new_fingerprint()
    await demand(owner, on=True)
    await owner.do("/peers", fp=fp, name="doorbell")
    device = await scene.connect(fp, email=owner.address)
    assert (await device.hear())["code"] == 401
    await demand(owner, on=False)
    assert (await device.hear_until(is_status))["code"] == 200
