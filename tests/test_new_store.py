"""The pages say since when the store keeps books, and tell a known browser that they are gone where it is new."""

import re

import pytest
from redis.asyncio import Redis

from app.pages import exact
from tests.support import Owner, Scene

LONG_AGO = 1_700_000_000
NEW = "store is new since"


@pytest.fixture
async def owner(scene: Scene, redis: Redis) -> Owner:
    """Somebody who logged in while the store was as old as this."""
    await redis.set("since", LONG_AGO)
    owner = scene.owner()
    await owner.log_in()
    return owner


async def home(owner: Owner) -> str:
    answer = await owner.http.get("/")
    assert answer.status_code == 200
    return answer.text


async def lose_everything(scene: Scene, redis: Redis) -> int:
    """The store comes back empty, and the process renews its lease; returns since when there is a new one."""
    await redis.flushall()
    await scene.context.store.keep_lease(scene.context.process, 30)
    return await scene.context.store.since()


async def test_the_device_page_says_since_when_there_are_books(owner: Owner) -> None:
    assert "kept books since <time" in await owner.page()
    assert "14 November 2023" in await owner.page()


async def test_a_known_browser_is_told_that_the_store_is_new(scene: Scene, owner: Owner, redis: Redis) -> None:
    assert NEW not in await home(owner)
    since = await lose_everything(scene, redis)
    answer = await owner.http.get("/peers", follow_redirects=True)
    assert answer.url.path == "/"
    assert re.search(rf"{NEW} <time [^>]*>{exact(since).split(',')[0]}</time>; books from before are gone", answer.text)


async def test_nobody_else_is_told(scene: Scene, owner: Owner, redis: Redis) -> None:
    await lose_everything(scene, redis)
    assert NEW not in await home(scene.owner())


async def test_who_logs_in_again_is_told_no_more(scene: Scene, owner: Owner, redis: Redis) -> None:
    await lose_everything(scene, redis)
    assert NEW in await home(owner)
    await owner.log_in()
    assert NEW not in await home(owner)


async def test_nobody_is_told_once_the_books_are_back(scene: Scene, owner: Owner, redis: Redis) -> None:
    await lose_everything(scene, redis)
    await scene.context.store.date_back(LONG_AGO)
    assert NEW not in await home(owner)


@pytest.mark.parametrize("typed", ["", "x", "-1", "9" * 30, "²"])
async def test_a_cookie_that_is_none_of_ours_tells_nothing(scene: Scene, owner: Owner, typed: str) -> None:
    answer = await scene.http.get("/", headers={b"Cookie": f"store={typed}".encode()})
    assert answer.status_code == 200
    assert NEW not in answer.text


async def test_the_cookie_is_no_secret_and_lasts(scene: Scene, redis: Redis) -> None:
    await redis.set("since", LONG_AGO)
    owner = scene.owner()
    await owner.http.post("/login", data={"email": owner.address})
    path = (await scene.mailbox.next_link(owner.address)).removeprefix(scene.url)
    cookies = (await owner.http.post(path)).headers.get_list("set-cookie")
    (cookie,) = [each for each in cookies if each.startswith("store=")]
    assert cookie.startswith(f"store={LONG_AGO};")
    assert "Max-Age=31536000" in cookie
    assert "HttpOnly" in cookie


async def test_home_is_there_while_the_store_is_not(scene: Scene, owner: Owner) -> None:
    scene.context.contact.lose()
    assert NEW not in await home(owner)
