"""A stranger with a book of his own can neither see, reach nor probe anything of another's."""

import json
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from tests.support import Device, Owner, Scene, new_fingerprint


@dataclass
class Two:
    """An owner with a laptop and a waiting phone, and a stranger with a tablet."""

    owner: Owner
    laptop: Device
    phone: Device
    pair: str
    stranger: Owner
    tablet: Device


@pytest.fixture
async def two(scene: Scene) -> Two:
    owner, stranger = scene.owner(), scene.owner()
    laptop = await scene.join(owner)
    phone = await scene.connect(email=owner.address, name="phone")
    pair = (await phone.hear())["pair"]
    tablet = await scene.join(stranger, "tablet")
    return Two(owner, laptop, phone, pair, stranger, tablet)


async def raw_answer(device: Device, message: dict[str, object]) -> str:
    """The answer as it stands in the frame."""
    await device.say(message)
    return str(await device.socket.recv())


@pytest.mark.parametrize("kind", ["offer", "answer", "candidate"])
async def test_a_message_to_a_strangers_peer_looks_like_one_to_an_unknown_peer(two: Two, kind: str) -> None:
    answers = {
        await raw_answer(two.tablet, {"target": target, kind: {"sdp": "v=0"}, "id": 7})
        for target in (two.laptop.fp, two.phone.fp, new_fingerprint())
    }
    assert len(answers) == 1
    assert json.loads(answers.pop())["code"] == 404
    await two.laptop.hears_nothing()


async def test_an_unverified_peer_of_the_own_book_looks_like_an_unknown_one(two: Two) -> None:
    answers = {
        await raw_answer(two.laptop, {"target": target, "offer": "x"})
        for target in (two.phone.fp, two.tablet.fp, new_fingerprint())
    }
    assert len(answers) == 1
    await two.phone.hears_nothing()
    await two.tablet.hears_nothing()


async def test_a_list_shows_the_own_book_alone(two: Two) -> None:
    assert [peer["fp"] for peer in await two.tablet.peers()] == [two.tablet.fp]


async def test_nobody_hears_of_changes_in_anothers_book(scene: Scene, two: Two) -> None:
    await two.owner.do(f"/peers/{two.laptop.fp}/rename", name="workshop")
    await two.owner.approve(two.phone.fp)
    await two.phone.hear_until(lambda heard: "peers" in heard)
    await two.owner.do(f"/peers/{two.phone.fp}/remove")
    await two.tablet.hears_nothing()


async def test_a_waiting_device_learns_nothing_of_the_book_it_waits_for(two: Two) -> None:
    for message in ({"command": "get_list"}, {"target": two.laptop.fp, "offer": "x"}, {"command": "ice_servers"}):
        await two.phone.say(message)
        assert (await two.phone.hear())["code"] == 401
    await two.laptop.hears_nothing()


@pytest.mark.parametrize("act", ["approve", "reject", "rename", "revoke", "remove"])
@pytest.mark.parametrize("whose", ["laptop", "phone", "nobody"])
async def test_a_form_about_a_strangers_device_finds_nothing(redis: Redis, two: Two, act: str, whose: str) -> None:
    target = {"laptop": two.laptop.fp, "phone": two.phone.fp, "nobody": new_fingerprint()}[whose]
    uid = await two.owner.uid()
    version = await redis.get(f"version:{{{uid}}}")
    answer = await two.stranger.act(f"/peers/{target}/{act}", name="mine now", pair="" if act == "rename" else two.pair)
    assert answer.status_code == 404
    assert await redis.get(f"version:{{{uid}}}") == version


async def test_a_strangers_fingerprint_can_be_replaced_by_nobody(two: Two, scene: Scene) -> None:
    watch = await scene.connect(email=two.stranger.address, name="watch")
    await watch.hear()
    answer = await two.stranger.act(f"/peers/{watch.fp}/approve", replaces=two.laptop.fp)
    assert answer.status_code == 404
    assert [peer["fp"] for peer in await two.laptop.peers()] == [two.laptop.fp]


async def test_bulk_revoking_a_strangers_device_revokes_nothing(two: Two) -> None:
    answer = await two.stranger.http.post("/peers/revoke", data={"fp": [two.tablet.fp, two.laptop.fp]})
    assert answer.status_code == 404
    assert (await two.tablet.peers())[0]["verified"]
    assert (await two.laptop.peers())[0]["verified"]


async def test_adding_a_strangers_fingerprint_to_the_own_book_captures_nothing(scene: Scene, two: Two) -> None:
    await two.stranger.do("/peers", fp=two.laptop.fp, name="stolen")
    await two.laptop.hears_nothing()
    again = await scene.connect(two.laptop.fp, email=two.owner.address)
    assert (await again.hear())["text"] == await two.owner.uid()
    assert two.owner.address not in await two.stranger.page()


async def test_a_page_shows_nothing_of_anothers_book(two: Two) -> None:
    page = await two.stranger.page()
    for secret in (two.laptop.fp, two.phone.fp, two.pair, two.owner.address, await two.owner.uid()):
        assert secret not in page


async def test_an_export_holds_the_own_book_alone(two: Two) -> None:
    export = (await two.stranger.http.get("/account/export")).json()
    assert [peer["fp"] for peer in export["peers"]] == [two.tablet.fp]


async def test_verify_tells_a_stranger_nothing_of_a_verified_fingerprint(scene: Scene, two: Two) -> None:
    known = await scene.verify(two.laptop.fp, email=two.stranger.address)
    unknown = await scene.verify(new_fingerprint(), email=two.stranger.address)
    assert known["verified"] is unknown["verified"] is False
    assert set(known) == set(unknown)
