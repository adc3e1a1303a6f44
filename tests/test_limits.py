"""Limits: a turn is taken in all of its windows or in none, over all processes; and what that means for mails."""

import asyncio
import logging
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from app.context import Context
from app.limits import Turn
from app.settings import Settings
from tests.conftest import OpenProcess, Start
from tests.support import Scene, new_fingerprint

OWNER = "owner@example.org"
LOGIN_MAIL = "Your link to peerbook"
REQUEST_MAIL = "A device asks to join your book"

WINDOWS = [
    ("take_login_mail", "login:interval", 60),
    ("take_login_mail", "login:hour", 3600),
    ("take_login_mail", "login:day", 86400),
    ("take_request_mail", "request:interval", 600),
    ("take_request_mail", "request:hour", 3600),
    ("take_request_mail", "request:day", 86400),
    ("take_wrong_code", "code:day", 86400),
]


async def counts(redis: Redis, owner: str = "me") -> dict[str, int]:
    """How many turns were taken, by window."""
    keys = sorted([key async for key in redis.scan_iter(f"limit:{{{owner}}}:*")])
    return {key.partition("}:")[2]: int(await redis.get(key) or 0) for key in keys}


async def let_end(redis: Redis, window: str, owner: str = "me") -> None:
    """The window is over."""
    assert await redis.delete(f"limit:{{{owner}}}:{window}")


async def taken(process: Context, times: int) -> int:
    """How many of so many login mails were allowed."""
    return sum([await process.limits.take_login_mail("me") is not None for _ in range(times)])


# Turns


async def test_a_turn_is_refused_where_one_window_is_full_and_then_costs_nothing_in_the_others(
    open_process: OpenProcess, redis: Redis
) -> None:
    process = await open_process(mail_interval=60, mail_hourly=2, mail_daily=3)
    assert await taken(process, 3) == 1
    assert await counts(redis) == {"login:day": 1, "login:hour": 1, "login:interval": 1}
    await let_end(redis, "login:interval")
    assert await taken(process, 3) == 1
    await let_end(redis, "login:interval")
    assert await taken(process, 3) == 0, "two were enough for this hour"
    assert await counts(redis) == {"login:day": 2, "login:hour": 2}
    await let_end(redis, "login:hour")
    assert await taken(process, 3) == 1
    for window in ("login:interval", "login:hour"):
        await let_end(redis, window)
    assert await taken(process, 3) == 0, "three were enough for this day"
    assert await counts(redis) == {"login:day": 3}


@pytest.mark.parametrize(("act", "window", "seconds"), WINDOWS)
async def test_each_window_lasts_as_long_as_it_says_from_its_first_turn(
    open_process: OpenProcess, redis: Redis, act: str, window: str, seconds: int
) -> None:
    process = await open_process(mail_interval=60, mail_hourly=5, mail_daily=10)
    key = f"limit:{{me}}:{window}"
    assert await getattr(process.limits, act)("me")
    assert seconds - 5 <= await redis.ttl(key) <= seconds
    await redis.expire(key, 30)
    await getattr(process.limits, act)("me")
    assert await redis.ttl(key) <= 30, "further turns make it no longer"


async def test_of_fifty_who_take_a_turn_at_once_in_two_processes_as_many_get_one_as_there_are(
    open_process: OpenProcess, redis: Redis
) -> None:
    processes = [await open_process(mail_hourly=5, mail_daily=10) for _ in range(2)]
    turns = await asyncio.gather(*(process.limits.take_login_mail("me") for process in processes for _ in range(25)))
    assert sum(isinstance(turn, Turn) for turn in turns) == 5
    assert await counts(redis) == {"login:day": 5, "login:hour": 5}


async def test_login_mails_request_mails_and_owners_have_windows_of_their_own(open_process: OpenProcess) -> None:
    limits = (await open_process(mail_interval=60, mail_hourly=1, mail_daily=1)).limits
    for take, owner in (
        (limits.take_login_mail, "me"),
        (limits.take_request_mail, "me"),
        (limits.take_login_mail, "you"),
        (limits.take_request_mail, "you"),
    ):
        assert await take(owner)
        assert await take(owner) is None


async def test_nothing_is_counted_where_all_is_switched_off(process: Context, redis: Redis) -> None:
    for _ in range(20):
        turn = await process.limits.take_login_mail("me")
        assert turn
        await process.limits.give_back(turn)
        assert await process.limits.take_request_mail("me")
        assert await process.limits.take_any_mail()
    assert [key async for key in redis.scan_iter("limit:*")] == []


async def test_a_turn_that_was_given_back_is_free_again(open_process: OpenProcess, redis: Redis) -> None:
    limits = (await open_process(mail_interval=60, mail_hourly=5)).limits
    turn = await limits.take_login_mail("me")
    assert turn
    await limits.give_back(turn)
    assert await counts(redis) == {"login:hour": 0, "login:interval": 0}
    assert await limits.take_login_mail("me")
    assert await redis.ttl("limit:{me}:login:interval") > 50


async def test_a_turn_of_a_window_that_ended_is_not_given_back_to_the_next(
    open_process: OpenProcess, redis: Redis
) -> None:
    limits = (await open_process(mail_interval=60, mail_hourly=5)).limits
    turn = await limits.take_login_mail("me")
    assert turn
    await let_end(redis, "login:interval")
    await limits.give_back(turn)
    assert await counts(redis) == {"login:hour": 0}


def test_the_defaults_are_those_that_the_readme_shows() -> None:
    settings = Settings()
    numbers = (settings.mail_interval, settings.mail_hourly, settings.mail_daily, settings.mail_total_hourly)
    assert numbers == (60, 5, 10, 500)


# What an owner notices


async def log_in(scene: Scene, address: str = OWNER) -> None:
    """Ask for a link, and wait until it is mailed or not."""
    assert (await scene.http.post("/login", data={"email": address})).status_code == 200
    await scene.at_rest()


async def subjects(scene: Scene) -> list[str]:
    """The subjects of the mails that came until now, taken out of the box."""
    await scene.at_rest()
    mails, scene.mailbox.mails = scene.mailbox.mails, []
    return [mail["Subject"] for _, mail in mails]


async def test_a_sixth_login_mail_within_an_hour_is_not_sent_and_the_page_is_the_same(start: Start) -> None:
    scene = await start(mail_hourly=5)
    pages = {(await scene.http.post("/login", data={"email": OWNER})).text for _ in range(7)}
    assert len(pages) == 1
    assert await subjects(scene) == [LOGIN_MAIL] * 5


async def test_strangers_who_ask_for_a_whole_day_never_use_up_the_login_mails(start: Start) -> None:
    scene = await start(mail_hourly=3, mail_daily=3)
    for _ in range(5):
        await scene.verify(new_fingerprint(), email=OWNER)
    await scene.at_rest()
    assert await subjects(scene) == [REQUEST_MAIL] * 3
    for _ in range(4):
        await log_in(scene)
    assert await subjects(scene) == [LOGIN_MAIL] * 3


# All mails of the server


@pytest.fixture
def log_of_mails(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged of mails that were held back, taken out of the log."""
    caplog.set_level(logging.INFO, "peerbook.mail")

    def take() -> list[str]:
        lines = [each.getMessage() for each in caplog.records if each.name == "peerbook.mail"]
        caplog.clear()
        return [line for line in lines if line.startswith("event=mails_")]

    return take


async def test_the_server_sends_no_more_mails_an_hour_than_it_may_and_says_so_once_and_once_when_they_flow_again(
    start: Start, redis: Redis, log_of_mails: Callable[[], list[str]]
) -> None:
    scene = await start(mail_total_hourly=3)
    for number in range(6):
        await log_in(scene, f"o{number}@example.org")
    assert await subjects(scene) == [LOGIN_MAIL] * 3
    assert log_of_mails() == ["event=mails_held_back reason=mail_total_hourly"]
    assert 3590 <= await redis.ttl("limit:{server}:mail:hour") <= 3600
    await let_end(redis, "mail:hour", "server")
    for number in range(2):
        await log_in(scene, f"o{number}@example.org")
    assert await subjects(scene) == [LOGIN_MAIL] * 2
    assert log_of_mails() == ["event=mails_flow_again"]


async def test_notices_and_request_mails_count_too(start: Start, redis: Redis) -> None:
    scene = await start(mail_total_hourly=3)
    owner = scene.owner()
    await scene.join(owner)  # a request mail, a login mail, and a notice
    await scene.mailbox.next_notice(owner.address)
    assert await counts(redis, "server") == {"mail:hour": 3}
    scene.mailbox.mails.clear()
    asks = new_fingerprint()
    await scene.verify(asks, email=owner.address)
    await owner.approve(asks)
    await log_in(scene, owner.address)
    await scene.at_rest()
    assert (scene.mailbox.mails, scene.mailbox.notices) == ([], [])


async def test_a_mail_that_the_server_held_back_costs_its_owner_no_turn(start: Start, redis: Redis) -> None:
    scene = await start(mail_interval=60, mail_hourly=5, mail_daily=10, mail_total_hourly=1)
    await log_in(scene, "other@example.org")
    await log_in(scene)
    await scene.verify(new_fingerprint(), email=OWNER)
    await scene.at_rest()
    scene.mailbox.mails.clear()
    uid = str(await redis.get(f"uid:{OWNER}"))
    assert set((await counts(redis, uid)).values()) == {0}
    await let_end(redis, "mail:hour", "server")
    await log_in(scene)
    assert await subjects(scene) == [LOGIN_MAIL]


async def test_two_processes_share_the_servers_mails(start: Start) -> None:
    here, there = await start(mail_total_hourly=3), await start(mail_total_hourly=3)
    for scene in (here, there, here, there):
        await log_in(scene)
    await there.at_rest()
    assert await subjects(here) == [LOGIN_MAIL] * 3
