"""The stream of an open page: it shows the book as it is and every change of it, for as long as the session lasts."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from app.streams import Streams
from tests.conftest import Start
from tests.streams import HEARTBEAT, following
from tests.support import Owner, Scene, eventually, new_fingerprint


async def logged_in(scene: Scene, address: str = "") -> Owner:
    owner = scene.owner(address)
    await owner.log_in()
    return owner


@pytest.fixture
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that has nothing to tell says so at once."""
    monkeypatch.setattr("app.handlers.events.HEARTBEAT", 0.05)


# What it tells


async def test_the_first_event_is_the_book_as_it_is(scene: Scene) -> None:
    owner = await logged_in(scene)
    await owner.do("/peers", fp=new_fingerprint(), name="doorbell")
    async with following(owner) as stream:
        shown = await stream.hear_book()
        assert "doorbell" in shown
        assert "<html" not in shown


async def test_a_stream_is_never_kept_and_never_held_back(scene: Scene) -> None:
    async with following(await logged_in(scene)) as stream:
        assert stream.response.headers["cache-control"] == "no-store"
        assert stream.response.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in stream.response.headers


async def test_a_request_shows_at_once_with_its_code(scene: Scene) -> None:
    owner = await logged_in(scene)
    async with following(owner) as stream:
        await stream.hear_book()
        pair = (await scene.verify(new_fingerprint(), email=owner.address, name="tablet"))["pair"]
        assert "tablet" in await stream.hear_book(lambda shown: pair in shown)


async def test_a_device_that_comes_and_goes_shows_at_once(scene: Scene) -> None:
    owner = await logged_in(scene)
    device = await scene.join(owner)
    async with following(owner) as stream:
        assert "Online" in await stream.hear_book()
        await device.leave()
        await stream.hear_book(lambda shown: "Online" not in shown)
        await scene.join(owner, fp=device.fp)
        await stream.hear_book(lambda shown: "Online" in shown)


async def test_a_change_in_another_browser_shows_within_a_second(scene: Scene) -> None:
    owner = await logged_in(scene)
    device = await scene.join(owner)
    other = await logged_in(scene, owner.address)
    async with following(owner) as stream:
        await stream.hear_book()
        began = time.monotonic()
        await other.do(f"/peers/{device.fp}/rename", name="old faithful")
        await stream.hear_book(lambda shown: "old faithful" in shown)
        assert time.monotonic() - began < 1


async def test_a_change_by_another_process_shows_within_a_second(start: Start) -> None:
    here, there = await start(), await start()
    owner = await logged_in(here)
    other = await logged_in(there, owner.address)
    async with following(owner) as stream:
        await stream.hear_book()
        began = time.monotonic()
        await other.do("/peers", fp=new_fingerprint(), name="doorbell")
        await stream.hear_book(lambda shown: "doorbell" in shown)
        assert time.monotonic() - began < 1


@pytest.mark.usefixtures("quick_heartbeat")
async def test_a_request_that_nobody_answered_vanishes_by_itself(scene: Scene, redis: Redis) -> None:
    owner = await logged_in(scene)
    pair = (await scene.verify(new_fingerprint(), email=owner.address))["pair"]
    async with following(owner) as stream:
        assert pair in await stream.hear_book()
        for key in await redis.keys("request:*"):
            await redis.pexpire(key, 1)
        await stream.hear_book(lambda shown: pair not in shown)


async def test_a_change_of_somebody_elses_book_is_never_told(scene: Scene) -> None:
    mine, other = await logged_in(scene), await logged_in(scene)
    async with following(mine) as stream:
        await stream.hear_book()
        await other.do("/peers", fp=new_fingerprint(), name="secret place")
        await mine.do("/peers", fp=new_fingerprint(), name="doorbell")
        assert "secret place" not in await stream.hear_book(lambda shown: "doorbell" in shown)


async def test_seven_open_pages_do_not_block_each_other(scene: Scene) -> None:
    owner = await logged_in(scene)
    async with (
        following(owner) as first,
        following(owner),
        following(owner),
        following(owner),
        following(owner),
        following(owner),
        following(owner) as last,
    ):
        await owner.do("/peers", fp=new_fingerprint(), name="doorbell")
        for stream in (first, last):
            await stream.hear_book(lambda shown: "doorbell" in shown)


def lose_the_store(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found to be out of reach, and not heard before the patch is undone."""
    monkeypatch.setattr(scene.context.contact, "heard", lambda asked: False)
    scene.context.contact.lose()


async def test_a_page_hears_that_the_store_is_out_of_reach_and_how_things_stand_when_it_is_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await logged_in(scene)
    async with following(owner) as stream:
        await stream.hear_book()
        lose_the_store(scene, monkeypatch)
        assert await stream.hear() == ("away", "")
        monkeypatch.undo()
        await stream.hear_until("book")


async def test_a_stream_that_cannot_begin_is_refused(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = await logged_in(scene)
    lose_the_store(scene, monkeypatch)
    assert (await owner.http.get("/peers/events")).status_code == 503


# How long it lasts


@pytest.mark.usefixtures("quick_heartbeat")
async def test_a_stream_without_news_has_a_heartbeat(scene: Scene) -> None:
    async with following(await logged_in(scene)) as stream:
        await stream.hear_book()
        assert await stream.hear() == (HEARTBEAT, "")


@pytest.mark.usefixtures("quick_heartbeat")
async def test_a_stream_does_not_prolong_its_session(scene: Scene, redis: Redis) -> None:
    owner = await logged_in(scene)
    (session,) = await redis.keys("session:*")
    await redis.expire(session, 100)
    async with following(owner) as stream:
        await stream.hear_book()
        assert (await stream.hear())[0] == HEARTBEAT
        await scene.verify(new_fingerprint(), email=owner.address)
        await stream.hear_book()
        assert await redis.ttl(session) <= 100


@pytest.mark.usefixtures("quick_heartbeat")
async def test_a_stream_ends_with_its_session(scene: Scene, redis: Redis) -> None:
    async with following(await logged_in(scene)) as stream:
        await stream.hear_book()
        await redis.delete(*await redis.keys("session:*"))
        await stream.hear_end()


async def test_a_logout_ends_the_streams_of_this_session_only(scene: Scene) -> None:
    owner = await logged_in(scene)
    other = await logged_in(scene, owner.address)
    async with following(owner) as ends, following(other) as stays:
        assert (await owner.act("/logout")).status_code == 200
        await ends.hear_end()
        await other.do("/peers", fp=new_fingerprint(), name="doorbell")
        await stays.hear_book(lambda shown: "doorbell" in shown)


async def test_a_logout_everywhere_ends_all_streams_within_a_second(start: Start) -> None:
    here, there = await start(), await start()
    owner = await logged_in(here)
    other = await logged_in(there, owner.address)
    async with following(owner) as near, following(other) as far:
        await near.hear_book()
        await far.hear_book()
        began = time.monotonic()
        assert (await owner.act("/logout/everywhere")).status_code == 200
        await near.hear_end()
        await far.hear_end()
        assert time.monotonic() - began < 1


async def test_a_deleted_account_ends_its_streams(scene: Scene) -> None:
    owner = await logged_in(scene)
    async with following(owner) as stream:
        await stream.hear_book()
        assert (await owner.act("/account/delete", email=owner.address)).status_code == 200
        await stream.hear_end()


async def test_a_server_that_stops_ends_its_streams_at_once(scene: Scene) -> None:
    async with following(await logged_in(scene)) as stream:
        await stream.hear_book()
        async with asyncio.timeout(2):
            await scene.stop()
        assert "event: end" not in await stream.rest(), "the page comes back, since its session lasts"


async def test_a_stream_that_opens_while_the_server_stops_ends_at_once() -> None:
    streams = Streams()
    streams.end_all()
    assert streams.open().ended


async def test_a_page_that_was_closed_is_forgotten(scene: Scene) -> None:
    owner = await logged_in(scene)
    async with following(owner) as stream:
        await stream.hear_book()
        assert len(scene.context.streams._open) == 1
    await eventually(lambda: not scene.context.streams._open)
    assert not scene.context.books._shelves[await owner.uid()].listeners


async def test_a_stream_with_no_session_is_sent_home(scene: Scene) -> None:
    answer = await scene.owner().http.get("/peers/events")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    answer = await scene.owner().http.get("/peers/events", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/")
