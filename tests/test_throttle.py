"""Throttle and pace: who asks too often, who sends too fast, and whose request gives way. Nobody else notices."""

import asyncio

import pytest
from redis.asyncio import Redis

from app.pace import Pace
from tests.conftest import Start
from tests.keys import new_certificate
from tests.support import Owner, Scene, new_fingerprint
from tests.test_proofs import approved, come_in

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def came_from(address: str) -> dict[str, str]:
    """What the one trusted proxy says of a client."""
    return {"X-Forwarded-For": address}


async def ask(scene: Scene, address: str = "203.0.113.7", **members: str) -> int:
    """POST /verify from that address, of a device that nobody knows."""
    body = {"fp": new_fingerprint(), "email": "you@example.org"} | members
    return (await scene.http.post("/verify", json=body, headers=came_from(address))).status_code


async def dial(scene: Scene, address: str, **query: str) -> int:
    """The status of an upgrade from that address: 101, or why not."""
    params = {"fp": new_fingerprint()} | query
    async with scene.http.stream("GET", "/ws", params=params, headers=UPGRADE | came_from(address)) as answer:
        return answer.status_code


@pytest.fixture
async def strict(start: Start) -> Scene:
    """A server behind one proxy that takes three asks a minute."""
    return await start(proxies_count=1, ask_rate=3)


# Asks


async def test_too_many_asks_of_one_address_are_told_to_wait(strict: Scene) -> None:
    assert [await ask(strict) for _ in range(5)] == [200, 200, 200, 429, 429]
    body = {"fp": new_fingerprint(), "email": "you@example.org"}
    answer = await strict.http.post("/verify", json=body, headers=came_from("203.0.113.7"))
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.json() == {"code": 429, "text": "Too many of these, try again later."}


async def test_an_ask_that_is_refused_stores_and_mails_nothing(strict: Scene, redis: Redis) -> None:
    for _ in range(3):
        await ask(strict)
    await strict.at_rest()
    before = await lasting_keys(redis)
    mails = len(strict.mailbox.mails)
    assert await ask(strict, email="somebody@example.org") == 429
    assert await dial_many(strict, 5) == [101, 101, 101, 101, 429]
    await strict.at_rest()
    assert len(strict.mailbox.mails) == mails
    left = await lasting_keys(redis) - before
    assert len(left) == 1
    assert left.pop().startswith("limit:ask:ws:")


async def lasting_keys(redis: Redis) -> set[str]:
    """All keys but those that say who is here."""
    return {str(key) for key in await redis.keys() if not str(key).startswith(("process:", "wait:"))}


async def dial_many(scene: Scene, times: int) -> list[int]:
    statuses = []
    for _ in range(times):
        statuses.append(await dial(scene, "203.0.113.7"))
        await scene.at_rest()
    return statuses


@pytest.mark.parametrize(
    "other", ["203.0.113.8", "2001:db8:0:1::7"], ids=["another address", "an address of another kind"]
)
async def test_others_ask_as_before(strict: Scene, other: str) -> None:
    assert [await ask(strict) for _ in range(4)][-1] == 429
    assert await ask(strict, other) == 200


async def test_the_addresses_of_one_ipv6_network_are_one(strict: Scene) -> None:
    assert [await ask(strict, f"2001:db8:0:7::{n}") for n in range(1, 5)] == [200, 200, 200, 429]
    assert await ask(strict, "2001:db8:0:8::1") == 200


async def test_what_a_client_says_of_its_own_address_counts_for_nothing(strict: Scene) -> None:
    forged = [f"198.51.100.{n}, 203.0.113.7" for n in range(4)]
    assert [await ask(strict, each) for each in forged] == [200, 200, 200, 429]


async def test_without_a_proxy_nobody_is_believed(start: Start) -> None:
    scene = await start(ask_rate=3)
    assert [await ask(scene, f"198.51.100.{n}") for n in range(4)] == [200, 200, 200, 429]


async def test_each_door_counts_for_itself(strict: Scene) -> None:
    assert [await ask(strict) for _ in range(4)][-1] == 429
    login = {"email": "you@example.org"}
    headers = came_from("203.0.113.7") | {"Accept": "text/html"}
    statuses = [(await strict.http.post("/login", data=login, headers=headers)).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert await dial_many(strict, 5) == [101, 101, 101, 101, 429]


async def test_a_device_that_is_in_does_not_count_and_is_never_refused(strict: Scene) -> None:
    owner, key = strict.owner(), new_certificate()
    bare = await strict.join(owner)
    fp = await approved(strict, owner, key, name="phone")
    for _ in range(5):
        assert (await strict.verify(bare.fp, email=owner.address))["verified"]
        assert await dial(strict, "203.0.113.7", email=owner.address) in (101, 429)
        await strict.at_rest()
    for _ in range(5):
        await (await strict.connect(bare.fp, email=owner.address)).leave()
        await (await strict.connect(bare.fp)).leave()
        await (await come_in(strict, owner, key, fp)).leave()
    while await dial(strict, "127.0.0.1") == 101:
        await strict.at_rest()
    assert (await (await strict.connect(bare.fp, email=owner.address)).hear())["code"] == 200
    assert (await (await strict.connect(bare.fp)).hear())["code"] == 200
    await come_in(strict, owner, key, fp)


async def test_a_denied_device_does_not_shut_its_neighbours_out(start: Start) -> None:
    scene = await start(ask_rate=3)
    owner = scene.owner()
    await owner.log_in()
    fp = new_fingerprint()
    asked = await scene.verify(fp, email=owner.address)
    await owner.do(f"/peers/{fp}/reject", pair=asked["pair"])
    for _ in range(8):
        denied = await scene.connect(fp, email=owner.address)
        assert await denied.close_code() == 4403
    assert (await (await scene.connect(email=owner.address)).hear())["code"] == 401


async def test_one_that_slips_through_is_told_after_the_upgrade(strict: Scene) -> None:
    throttle = strict.context.throttle
    assert await dial_many(strict, 3) == [101, 101, 101]
    throttle._overrun.clear()  # this process has not heard of it yet
    device = await strict.connect(email="you@example.org")
    assert (await device.hear())["code"] == 401  # another address: 127.0.0.1
    for _ in range(2):
        await strict.connect(email="you@example.org")
        await strict.at_rest()
    late = await strict.connect(email="you@example.org")
    assert (await late.hear())["code"] == 429
    assert await late.close_code() == 4429


async def test_it_holds_over_all_processes(start: Start) -> None:
    here = await start(proxies_count=1, ask_rate=3)
    there = await start(proxies_count=1, ask_rate=3)
    assert [await ask(each) for each in (here, there, here, there, here)] == [200, 200, 200, 429, 429]


async def test_parallel_asks_are_counted_one_by_one(strict: Scene) -> None:
    statuses = await asyncio.gather(*(ask(strict) for _ in range(20)))
    assert sorted(statuses) == [200] * 3 + [429] * 17


async def test_the_count_ends_with_its_minute(strict: Scene, redis: Redis) -> None:
    assert [await ask(strict) for _ in range(4)][-1] == 429
    (key,) = await redis.keys("limit:ask:*")
    assert 1 <= await redis.ttl(key) <= 60
    assert "203.0.113" not in key
    await redis.delete(key)
    strict.context.throttle._overrun = dict.fromkeys(strict.context.throttle._overrun, 0.0)
    assert await ask(strict) == 200
    assert strict.context.throttle._overrun == {}


async def test_a_flood_of_addresses_does_not_fill_the_memory(strict: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.throttle._MOST_OVERRUN", 2)
    for n in range(4):
        assert [await ask(strict, f"203.0.113.{n}") for _ in range(4)][-1] == 429
    assert len(strict.context.throttle._overrun) <= 2


async def test_a_rate_of_0_limits_nothing(start: Start, redis: Redis) -> None:
    scene = await start(ask_rate=0)
    assert {await ask(scene) for _ in range(30)} == {200}
    assert await redis.keys("limit:ask:*") == []


# Messages


def test_a_pace_takes_a_burst_and_then_its_rate() -> None:
    pace = Pace(rate=10, burst=3)
    assert [pace.takes(100.0, 0) for _ in range(4)] == [True, True, True, False]
    assert pace.takes(100.15, 0)
    assert not pace.takes(100.15, 0)
    assert [pace.takes(200.0, 0) for _ in range(4)] == [True, True, True, False]  # a long rest earns a burst, no more
    assert not pace.flooding


def test_a_pace_is_flooding_once_as_many_again_were_refused() -> None:
    pace = Pace(rate=10, burst=3)
    for _ in range(6):
        pace.takes(100.0, 0)
    assert not pace.flooding
    pace.takes(100.0, 0)
    assert pace.flooding


def test_who_sends_a_little_too_fast_is_refused_now_and_then_and_never_cut() -> None:
    pace = Pace(rate=10, burst=3)
    taken = [pace.takes(100 + n / 15, 0) for n in range(1500)]
    assert 990 <= sum(taken) <= 1010
    assert not pace.flooding


def test_a_large_message_counts_as_several_and_never_as_more_than_there_may_be_at_once() -> None:
    pace = Pace(rate=10, burst=5, share=1000)
    assert [pace.takes(100.0, 1999), pace.takes(100.0, 2000), pace.takes(100.0, 999)] == [True, True, False]
    assert pace.takes(101.0, 1_000_000)
    assert not pace.takes(101.0, 0)


def test_a_rate_of_0_takes_everything() -> None:
    pace = Pace(rate=0, burst=1)
    assert all(pace.takes(0.0, 0) for _ in range(1000))
    assert not pace.flooding


async def test_messages_over_the_rate_are_refused_and_not_forwarded(start: Start) -> None:
    scene = await start(message_rate=1, message_burst=5)
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    for n in range(8):
        await laptop.say({"target": phone.fp, "offer": n, "id": n})
    answers = [await laptop.hear_until(lambda heard: "id" in heard) for _ in range(8)]
    assert [answer["code"] for answer in answers] == [200] * 5 + [429] * 3
    assert [answer["id"] for answer in answers] == list(range(8))
    heard = [(await phone.hear())["offer"] for _ in range(5)]
    assert heard == [0, 1, 2, 3, 4]
    await phone.hears_nothing()


async def test_a_large_message_counts_as_several_of_the_rate(start: Start) -> None:
    scene = await start(message_rate=1, message_burst=5)
    device = await scene.join(scene.owner())
    sizes = [3000, 3000, 10]
    codes = [(await device.ask({"command": "get_list", "more": "x" * size}))["code"] for size in sizes]
    assert codes == [200, 429, 200]


async def test_one_that_floods_is_cut_and_the_others_are_not(start: Start) -> None:
    scene = await start(message_rate=1, message_burst=5)
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    for _ in range(20):
        await laptop.say("no message at all")
    assert await laptop.close_code() == 4429
    assert (await phone.ask({"command": "get_list"}))["code"] == 200


async def test_a_bad_message_over_the_rate_is_still_called_bad(start: Start) -> None:
    scene = await start(message_rate=1, message_burst=2)
    device = await scene.connect()
    await device.hear()
    for _ in range(3):
        await device.say("[]")
    assert [(await device.hear())["code"] for _ in range(3)] == [400] * 3


async def test_each_socket_has_a_rate_of_its_own(start: Start) -> None:
    scene = await start(message_rate=1, message_burst=3)
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    codes = [(await laptop.ask({"command": "get_list"}))["code"] for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    assert (await phone.ask({"command": "get_list"}))["code"] == 200


# Requests


async def open_requests(owner: Owner) -> set[str]:
    """The names of the requests on the page."""
    page = await owner.page()
    return {name for name in NAMES if f">{name}<" in page}


NAMES = ["one", "two", "three", "four"]


async def test_a_full_list_gives_the_place_of_the_oldest_that_nobody_waits_for(start: Start) -> None:
    scene = await start(max_requests=2)
    owner = scene.owner()
    await owner.log_in()
    waiting = await scene.connect(email=owner.address, name="one")
    await waiting.hear()
    for name in ("two", "three", "four"):
        assert "pair" in await scene.verify(new_fingerprint(), email=owner.address, name=name)
    await scene.at_rest()
    assert await open_requests(owner) == {"one", "four"}
    await owner.approve(waiting.fp)
    assert (await waiting.hear())["code"] == 200


async def test_where_all_have_somebody_who_waits_a_new_one_finds_no_place_and_does_not_see_that(start: Start) -> None:
    scene = await start(max_requests=2)
    owner = scene.owner()
    await owner.log_in()
    waiting = [await scene.connect(email=owner.address, name=name) for name in ("one", "two")]
    heard = [await each.hear() for each in waiting]
    late = await scene.connect(email=owner.address, name="three")
    assert (await late.hear()).keys() == heard[0].keys()
    assert (await scene.verify(new_fingerprint(), email=owner.address, name="four")).keys() == {"verified", "pair"}
    assert await open_requests(owner) == {"one", "two"}
    await waiting[0].leave()
    await scene.at_rest()
    await scene.verify(new_fingerprint(), email=owner.address, name="four")
    assert await open_requests(owner) == {"two", "four"}


async def test_the_requests_of_one_network_give_way_to_each_other_and_to_nobody_else(start: Start) -> None:
    scene = await start(proxies_count=1, max_requests_near=2)
    owner = scene.owner()
    await owner.log_in()
    for name, address in (("one", "203.0.113.1"), ("two", "198.51.100.1"), ("three", "198.51.100.9")):
        assert await ask(scene, address, email=owner.address, name=name) == 200
    assert await open_requests(owner) == {"one", "two", "three"}
    await ask(scene, "198.51.100.17", email=owner.address, name="four")
    assert await open_requests(owner) == {"one", "three", "four"}


async def test_a_second_socket_of_a_waiting_device_keeps_its_place_when_the_first_one_leaves(start: Start) -> None:
    scene = await start(max_requests=1)
    owner = scene.owner()
    await owner.log_in()
    first = await scene.connect(email=owner.address, name="one")
    await first.hear()
    second = await scene.connect(first.fp, email=owner.address, name="one")
    await second.hear()
    await first.leave()
    await scene.at_rest()
    await scene.verify(new_fingerprint(), email=owner.address, name="two")
    assert await open_requests(owner) == {"one"}
