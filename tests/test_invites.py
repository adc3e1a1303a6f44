"""Invites: a code that lets in the first device that brings it, once, within an hour."""

import asyncio
import re
from typing import cast

import pytest
from redis.asyncio import Redis

from app.errors import NotFound
from app.invites import invite_digest, new_invite
from app.peers import Device as NewDevice
from tests.conftest import Start
from tests.parts import fingerprint
from tests.support import Device, Owner, Scene, new_fingerprint

CODE = re.compile(r"[0-9A-HJKMNP-TV-Z]{5}-[0-9A-HJKMNP-TV-Z]{5}")


async def inviting(scene: Scene) -> tuple[Owner, str]:
    """An owner who is logged in, and a fresh invite."""
    owner = scene.owner()
    await owner.log_in()
    return owner, await new_code(owner)


async def new_code(owner: Owner) -> str:
    match = CODE.search((await owner.act("/peers/invites")).text)
    assert match
    return match[0]


async def is_in(device: Device) -> bool:
    return bool((await device.hear())["code"] == 200)


# The code


def test_a_code_has_ten_digits_that_nobody_mistakes() -> None:
    codes = {new_invite() for _ in range(1000)}
    assert len(codes) == 1000
    assert all(CODE.fullmatch(code) for code in codes)


@pytest.mark.parametrize(
    "typed",
    ["01234-56789", "0123456789", "O1234-56789", "oI234 56789", "ol23456789", "0-1-2-3-4-5-6-7-8-9", " 0i23456789 "],
)
def test_a_code_is_the_same_however_it_is_typed(typed: str) -> None:
    assert invite_digest(typed) == invite_digest("01234-56789")


def test_a_code_is_the_same_in_any_case() -> None:
    assert invite_digest("abcde-fghjk") == invite_digest("ABCDE-FGHJK")


@pytest.mark.parametrize(
    "text", [None, "", "01234", "01234-567890", "U1234-56789", "é1234-56789", 123456789, True, ["0"]]
)
def test_what_is_no_code_is_none(text: object) -> None:
    assert invite_digest(text) is None


# Being let in


async def test_a_device_with_an_invite_is_in_by_verify(scene: Scene) -> None:
    owner, code = await inviting(scene)
    answer = await scene.verify(new_fingerprint(), email=owner.address, invite=code)
    assert answer == {"verified": True, "uid": await owner.uid()}


async def test_a_device_with_an_invite_is_in_by_verify_with_a_uid(scene: Scene) -> None:
    owner, code = await inviting(scene)
    assert (await scene.verify(new_fingerprint(), uid=await owner.uid(), invite=code.lower()))["verified"]


@pytest.mark.parametrize("naming", ["email", "uid", "nobody"])
async def test_a_device_with_an_invite_is_in_by_its_socket(scene: Scene, naming: str) -> None:
    owner, code = await inviting(scene)
    names = {"email": {"email": owner.address}, "uid": {"uid": await owner.uid()}, "nobody": {}}[naming]
    device = await scene.connect(name="phone", invite=code, **names)
    welcome, listed = await device.hear(), await device.hear()
    assert (welcome["code"], welcome["text"]) == (200, await owner.uid())
    assert [(peer["name"], peer["verified"], peer["online"]) for peer in listed["peers"]] == [("phone", True, True)]


async def test_a_device_that_came_with_an_invite_comes_back_with_or_without_it(scene: Scene) -> None:
    owner, code = await inviting(scene)
    device = await scene.connect(invite=code)
    assert await is_in(device)
    assert await is_in(await scene.connect(device.fp, invite=code))
    assert await is_in(await scene.connect(device.fp))
    assert await is_in(await scene.connect(device.fp, email=owner.address, invite=code))


async def test_a_waiting_socket_is_let_in_when_its_device_verifies_with_an_invite(scene: Scene) -> None:
    owner, code = await inviting(scene)
    named = await scene.connect(email=owner.address)
    assert not await is_in(named)
    await scene.verify(named.fp, email=owner.address, invite=code)
    assert await is_in(named)
    unnamed = await scene.connect()
    assert not await is_in(unnamed)
    await scene.verify(unnamed.fp, email=owner.address, invite=await new_code(owner))
    assert await is_in(unnamed)


async def test_a_name_that_is_taken_gets_a_number(scene: Scene) -> None:
    owner, code = await inviting(scene)
    await scene.join(owner, "phone")
    device = await scene.connect(email=owner.address, name="Phone", invite=code)
    assert await is_in(device)
    assert {peer["name"] for peer in await device.peers()} == {"phone", "Phone 2"}


async def test_a_device_that_was_turned_away_is_in_with_an_invite(scene: Scene) -> None:
    owner, code = await inviting(scene)
    fp = new_fingerprint()
    await scene.verify(fp, email=owner.address)
    await owner.do(f"/peers/{fp}/reject")
    assert await is_in(await scene.connect(fp, email=owner.address, invite=code))


async def test_a_revoked_device_stays_out_and_the_invite_stays_good(scene: Scene) -> None:
    owner, code = await inviting(scene)
    device = await scene.join(owner)
    await owner.do(f"/peers/{device.fp}/revoke")
    again = await scene.connect(device.fp, email=owner.address, invite=code)
    assert not await is_in(again)
    assert await again.close_code() == 4403
    assert await is_in(await scene.connect(invite=code))


async def test_a_full_book_takes_nobody_by_invite_and_the_invite_stays_good(start: Start) -> None:
    scene = await start(max_peers=1)
    owner, code = await inviting(scene)
    device = await scene.join(owner)
    assert not (await scene.verify(new_fingerprint(), email=owner.address, invite=code))["verified"]
    await owner.do(f"/peers/{device.fp}/remove")
    assert (await scene.verify(new_fingerprint(), email=owner.address, invite=code))["verified"]


async def test_the_owner_sees_who_came_and_gets_a_mail(scene: Scene) -> None:
    owner, code = await inviting(scene)
    await scene.verify(new_fingerprint(), email=owner.address, name="grandmas phone", invite=code)
    assert "grandmas phone" in str(await scene.mailbox.next_notice(owner.address))
    assert "grandmas phone came with an invite" in await owner.page()
    assert scene.mailbox.mails == []


# Once, for an hour


@pytest.mark.parametrize("naming", ["email", "nobody"])
async def test_of_twenty_devices_with_one_invite_exactly_one_is_in(scene: Scene, naming: str) -> None:
    owner, code = await inviting(scene)
    names = {"email": owner.address} if naming == "email" else {}
    devices = await asyncio.gather(*(scene.connect(invite=code, **names) for _ in range(20)))
    heard = [(await device.hear())["code"] for device in devices]
    assert sorted(heard) == [200] + 19 * [401]


async def test_of_twenty_verifies_with_one_invite_exactly_one_is_true(scene: Scene) -> None:
    owner, code = await inviting(scene)
    asks = (scene.verify(new_fingerprint(), email=owner.address, invite=code) for _ in range(20))
    assert [answer["verified"] for answer in await asyncio.gather(*asks)].count(True) == 1


async def test_a_used_an_unknown_and_a_garbled_code_count_as_none(scene: Scene) -> None:
    owner, code = await inviting(scene)
    await scene.verify(new_fingerprint(), email=owner.address, invite=code)
    for bad in (code, "00000-00000", "no code"):
        answer = await scene.verify(new_fingerprint(), email=owner.address, invite=bad)
        assert answer.keys() == {"verified", "pair"}
        waiting = await (await scene.connect(email=owner.address, invite=bad)).hear()
        assert waiting.keys() == {"code", "text", "pair", "nonce"}


async def test_a_used_code_of_a_device_that_names_nobody_asks_nobody(scene: Scene) -> None:
    owner, code = await inviting(scene)
    await scene.verify(new_fingerprint(), email=owner.address, invite=code)
    device = await scene.connect(invite=code)
    assert (await device.hear()).keys() == {"code", "text", "nonce"}
    await scene.at_rest()
    assert scene.mailbox.mails == []
    assert "Does your device show this code?" not in await owner.page()


async def test_an_invite_that_is_no_text_counts_as_none(scene: Scene) -> None:
    assert not (await scene.verify(new_fingerprint(), email=scene.owner().address, invite=5))["verified"]


async def test_an_invite_opens_no_other_book(scene: Scene) -> None:
    _, code = await inviting(scene)
    stranger = scene.owner()
    assert not (await scene.verify(new_fingerprint(), email=stranger.address, invite=code))["verified"]
    assert await is_in(await scene.connect(invite=code))


async def test_an_invite_is_good_for_an_hour(scene: Scene, redis: Redis) -> None:
    owner, code = await inviting(scene)
    digest, uid = str(invite_digest(code)), await owner.uid()
    assert 3590 <= await redis.ttl(f"invite:{digest}") <= 3600
    now, _ = await redis.time()
    assert 3590 <= int(await redis.hget(f"invites:{{{uid}}}", digest) or 0) - now <= 3600
    await redis.hset(f"invites:{{{uid}}}", digest, now)
    assert not (await scene.verify(new_fingerprint(), email=owner.address, invite=code))["verified"]
    assert not await is_in(await scene.connect(invite=code))


async def test_the_oldest_of_too_many_invites_makes_place(scene: Scene, redis: Redis) -> None:
    owner, first = await inviting(scene)
    uid = await owner.uid()
    await redis.hincrby(f"invites:{{{uid}}}", str(invite_digest(first)), -1)
    for _ in range(20):
        last = await new_code(owner)
    assert await redis.hlen(f"invites:{{{uid}}}") == 20
    assert not await is_in(await scene.connect(email=owner.address, invite=first))
    assert await is_in(await scene.connect(email=owner.address, invite=last))


# What is shown and kept


async def test_the_code_is_shown_once_with_a_command_and_a_drawing(scene: Scene) -> None:
    owner = scene.owner()
    await owner.log_in()
    answer = await owner.act("/peers/invites")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    match = CODE.search(answer.text)
    assert match
    assert "python -m websockets" in answer.text
    assert f"/ws?invite={match[0]}" in answer.text
    assert "<svg" in answer.text.split('class="qr"')[1]
    assert match[0] not in await owner.page()


async def test_htmx_gets_the_code_in_the_fragment(scene: Scene) -> None:
    owner = scene.owner()
    await owner.log_in()
    answer = await owner.http.post("/peers/invites", headers={"HX-Request": "true"})
    assert CODE.search(answer.text)
    assert "<html" not in answer.text


async def test_the_store_knows_only_a_hash_of_the_code(scene: Scene, redis: Redis) -> None:
    _, code = await inviting(scene)
    keys = cast(list[str], await redis.keys("*"))
    (book,) = (key for key in keys if key.startswith("invites:"))
    kept = f"{keys} {await redis.hgetall(book)}"
    for form in (code, code.replace("-", ""), code.lower()):
        assert form not in kept


async def test_a_user_that_is_gone_invites_nobody(scene: Scene, redis: Redis) -> None:
    owner, code = await inviting(scene)
    uid = await owner.uid()
    assert (await owner.act("/account/delete", email=owner.address)).status_code == 200
    device = NewDevice(fingerprint(), "none", "phone", "phone", "203.0.113.x", invite_digest(code))
    assert await scene.context.books.ask(uid, None, device) == "unknown"
    await scene.context.books.invite(uid)
    with pytest.raises(NotFound):
        await scene.context.books.add(uid, fingerprint(), "doorbell", "bell")
    assert not await redis.exists(f"invites:{{{uid}}}", f"book:{{{uid}}}", f"user:{{{uid}}}")
