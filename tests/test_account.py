"""The account: its acts need a fresh link, logging out everywhere ends everything, and deleting it leaves nothing."""

import asyncio
from typing import cast

import pytest
from redis.asyncio import Redis

from tests.conftest import Start
from tests.streams import following
from tests.support import Owner, Scene, new_fingerprint

ACTS = [
    ("GET", "/account/export"),
    ("POST", "/account/import"),
    ("POST", "/account/require-proof"),
    ("POST", "/account/delete"),
]


async def logged_in(scene: Scene, address: str = "") -> Owner:
    owner = scene.owner(address)
    await owner.log_in()
    return owner


async def is_logged_in(owner: Owner) -> bool:
    return (await owner.http.get("/peers")).status_code == 200


async def let_time_pass(redis: Redis, minutes: int) -> None:
    """The sessions in the store are so much older."""
    for key in await redis.keys("session:*"):
        await redis.hincrby(key, "began", -60 * minutes)


async def keys_of(redis: Redis, pattern: str) -> list[str]:
    return cast(list[str], await redis.keys(pattern))


async def everything(redis: Redis) -> str:
    """All keys and values of the store as one text."""
    found = []
    for key in await keys_of(redis, "*"):
        match await redis.type(key):
            case "string":
                value: object = await redis.get(key)
            case "hash":
                value = await redis.hgetall(key)
            case "set":
                value = await redis.smembers(key)
            case "zset":
                value = await redis.zrange(key, 0, -1)
            case "list":
                value = await redis.lrange(key, 0, -1)
            case other:
                raise AssertionError(other)
        found.append(f"{key} {value}")
    return "\n".join(found)


# A fresh link


@pytest.mark.parametrize(("method", "path"), ACTS)
async def test_an_act_needs_a_link_that_was_redeemed_within_15_minutes(
    scene: Scene, redis: Redis, method: str, path: str
) -> None:
    owner = await logged_in(scene)
    await let_time_pass(redis, 16)
    before = await everything(redis)
    answer = await owner.http.request(
        method, path, data={"on": "1", "email": owner.address} if method == "POST" else None
    )
    assert answer.status_code == 422
    assert "less than 15 minutes old" in answer.text
    assert 'action="/account/link"' in answer.text
    assert 'action="/account/delete"' not in answer.text
    assert await everything(redis) == before


@pytest.mark.parametrize(("method", "path"), ACTS)
async def test_an_act_needs_a_session(scene: Scene, method: str, path: str) -> None:
    answer = await scene.owner().http.request(method, path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize("path", [path for method, path in ACTS if method == "POST"] + ["/account/link"])
async def test_another_sites_page_cannot_act(scene: Scene, path: str) -> None:
    owner = await logged_in(scene)
    answer = await owner.http.post(path, data={"email": owner.address}, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert await is_logged_in(owner)


async def test_fourteen_minutes_are_fresh(scene: Scene, redis: Redis) -> None:
    owner = await logged_in(scene)
    await let_time_pass(redis, 14)
    assert (await owner.http.get("/account/export")).status_code == 200


async def test_a_fresh_link_is_mailed_from_the_page_and_opens_the_acts(scene: Scene, redis: Redis) -> None:
    owner = await logged_in(scene)
    await let_time_pass(redis, 16)
    answer = await owner.act("/account/link")
    assert answer.status_code == 200
    assert owner.address not in answer.text
    await owner.open_link(await scene.mailbox.next_link(owner.address))
    assert (await owner.http.get("/account/export")).status_code == 200


# Logging out


async def test_a_logout_ends_this_session_only(scene: Scene) -> None:
    owner = await logged_in(scene)
    other = await logged_in(scene, owner.address)
    kept = owner.http.cookies["session"]
    assert (await owner.act("/logout")).status_code == 200
    assert "session" not in owner.http.cookies
    owner.http.cookies.set("session", kept)
    assert not await is_logged_in(owner)
    assert await is_logged_in(other)


async def test_a_logout_everywhere_ends_all_sessions_and_unredeemed_links(scene: Scene) -> None:
    owner = await logged_in(scene)
    other, stranger = await logged_in(scene, owner.address), await logged_in(scene)
    await other.http.post("/login", data={"email": owner.address})
    link = (await scene.mailbox.next_link(owner.address)).removeprefix(scene.url)
    kept = owner.http.cookies["session"]
    assert (await owner.act("/logout/everywhere")).status_code == 200
    owner.http.cookies.set("session", kept)
    assert not await is_logged_in(owner)
    assert not await is_logged_in(other)
    assert (await other.http.post(link)).status_code == 410
    assert await is_logged_in(stranger)
    await owner.log_in()
    assert await is_logged_in(owner)


async def test_devices_stay_connected_when_their_owner_logs_out_everywhere(scene: Scene) -> None:
    owner = await logged_in(scene)
    device = await scene.join(owner)
    assert (await owner.act("/logout/everywhere")).status_code == 200
    await device.hears_nothing()
    assert len(await device.peers()) == 1


# Deleting


async def test_a_wrong_address_deletes_nothing(scene: Scene, redis: Redis) -> None:
    owner = await logged_in(scene)
    before = await everything(redis)
    for typed in ("", "other@example.org", owner.address + "x"):
        answer = await owner.act("/account/delete", email=typed)
        assert answer.status_code == 422
        assert "This is not the address of this book." in answer.text
        assert f'value="{typed}"' in answer.text
    assert await everything(redis) == before


async def test_the_address_may_be_typed_in_any_case(scene: Scene) -> None:
    owner = await logged_in(scene, "You@Example.org")
    assert (await owner.act("/account/delete", email=" yOU@eXAMPLE.ORG ")).status_code == 200
    assert not await is_logged_in(owner)


async def test_a_deleted_account_leaves_nothing_in_the_store(start: Start, redis: Redis) -> None:
    scene = await start(mail_interval=60, mail_hourly=50, mail_daily=50, mail_total_hourly=500)
    owner = await logged_in(scene)
    uid = await owner.uid()
    other = scene.owner(owner.address)
    await redis.delete(f"limit:{{{uid}}}:login:interval")
    await other.log_in()
    await redis.delete(f"limit:{{{uid}}}:login:interval")
    await owner.http.post("/login", data={"email": owner.address})  # a link that nobody redeems
    laptop, revoked, removed = [await scene.join(owner, name) for name in ("laptop", "phone", "tablet")]
    await owner.do(f"/peers/{revoked.fp}/revoke")
    await owner.do(f"/peers/{removed.fp}/remove")
    fps = [laptop.fp, revoked.fp, removed.fp, *(new_fingerprint() for _ in range(5))]
    ahead, asks, rejected, invited, unnamed = fps[3:]
    await owner.do("/peers", fp=ahead, name="doorbell")
    await scene.verify(rejected, email=owner.address)
    await owner.do(f"/peers/{rejected}/reject")
    await scene.verify(asks, email=owner.address)
    used, unused = [await scene.context.books.invite(uid) for _ in range(2)]
    assert (await scene.verify(invited, email=owner.address, invite=used))["verified"]
    stray = await scene.connect(unnamed, invite=unused.replace("-", "") + "X")
    assert (await stray.hear())["code"] == 401
    await stray.leave()
    await scene.at_rest()
    kept = [key for noun in ("session", "link", "code", "invite") for key in await keys_of(redis, f"{noun}:*")]
    digests = [key.partition(":")[2] for key in kept]
    assert {key.partition(":")[0] for key in kept} == {"session", "link", "code", "invite"}

    assert (await owner.act("/account/delete", email=owner.address)).status_code == 200
    assert await laptop.close_code() == 4403
    await scene.at_rest()
    remains = await everything(redis)
    for each in (uid, owner.address, *fps, *digests):
        assert each not in remains, remains


async def test_deleting_takes_its_cookies_away(scene: Scene) -> None:
    owner = await logged_in(scene)
    assert (await owner.act("/account/link")).status_code == 200
    assert set(owner.http.cookies) == {"session", "browser", "store", "asker"}
    assert (await owner.act("/account/delete", email=owner.address)).status_code == 200
    assert dict(owner.http.cookies) == {}


async def test_every_session_of_a_deleted_account_is_over(scene: Scene) -> None:
    owner = await logged_in(scene)
    other = await logged_in(scene, owner.address)
    async with following(other) as stream:
        assert (await owner.act("/account/delete", email=owner.address)).status_code == 200
        await stream.hear_end()
    assert not await is_logged_in(other)


async def test_live_sockets_of_a_deleted_account_are_closed_in_all_processes(start: Start) -> None:
    here, there = await start(), await start()
    owner = await logged_in(here)
    near, far = await here.join(owner, "near"), await there.join(owner, "far")
    assert (await owner.act("/account/delete", email=owner.address)).status_code == 200
    assert [await near.close_code(), await far.close_code()] == [4403, 4403]


async def test_a_login_after_deleting_opens_a_fresh_book_with_another_uid(scene: Scene) -> None:
    owner = await logged_in(scene)
    uid = await owner.uid()
    device = await scene.join(owner, "old faithful")
    assert (await owner.act("/account/delete", email=owner.address)).status_code == 200
    assert await device.close_code() == 4403
    scene.mailbox.mails.clear()
    await owner.log_in()
    assert await owner.uid() != uid
    assert "old faithful" not in await owner.page()
    again = await scene.connect(device.fp, email=owner.address)
    assert (await again.hear())["code"] == 401


async def test_deleting_touches_no_other_book(scene: Scene, redis: Redis) -> None:
    owner, other = await logged_in(scene), await logged_in(scene)
    shared = new_fingerprint()
    device = await scene.join(other, "laptop", shared)
    await owner.do("/peers", fp=shared, name="laptop")
    assert (await owner.act("/account/delete", email=owner.address)).status_code == 200
    await device.hears_nothing()
    assert await redis.zrange(f"books:{shared[:32]}", 0, -1) == [await other.uid()]


async def test_of_two_who_delete_at_once_nobody_meets_an_error(scene: Scene, redis: Redis) -> None:
    owner = await logged_in(scene)
    other = await logged_in(scene, owner.address)
    uid = await owner.uid()
    answers = await asyncio.gather(*(each.act("/account/delete", email=owner.address) for each in (owner, other)))
    assert {answer.status_code for answer in answers} <= {200, 303}
    await scene.at_rest()
    assert uid not in await everything(redis)
