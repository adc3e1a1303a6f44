"""The activity: what happened to a book, in the words of its page, newest first."""

import pytest
from redis.asyncio import Redis

from app.book import Happening
from tests.conftest import Start
from tests.support import Owner, Scene, new_fingerprint

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
CHROME = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36"
EDGE = (
    "Mozilla/5.0 (Windows NT 10.0; Win64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36 Edg/142.0"
)
SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Safari/604.1"


async def logged_in(scene: Scene, address: str = "", **headers: str) -> Owner:
    owner = scene.owner(address)
    owner.http.headers.update(headers)
    await owner.log_in()
    return owner


async def activity(scene: Scene, owner: Owner) -> list[Happening]:
    """The lines of the owner's page."""
    visit = await scene.context.sessions.visit(owner.http.cookies["session"], prolong=False)
    assert visit
    return visit.activity


async def last(scene: Scene, owner: Owner) -> tuple[str, str, str]:
    """What the newest line says."""
    line = (await activity(scene, owner))[0]
    return line.what, line.name, line.detail


async def asked(scene: Scene, owner: Owner, name: str = "phone") -> str:
    """A fingerprint whose device asks."""
    fp = new_fingerprint()
    await scene.verify(fp, email=owner.address, name=name)
    await scene.at_rest()
    return fp


# Every act writes its line


async def test_a_request_says_which_device_asked_from_where_and_that_a_mail_went_out(scene: Scene) -> None:
    owner = await logged_in(scene)
    await asked(scene, owner)
    mailed, request, *_ = await activity(scene, owner)
    assert (request.what, request.name, request.detail) == ("asked", "phone", "127.0.0.x")
    assert mailed.what == "mailed"


async def test_an_approval_says_under_which_name(scene: Scene) -> None:
    owner = await logged_in(scene)
    await owner.approve(await asked(scene, owner), name="my phone")
    assert await last(scene, owner) == ("approved", "my phone", "")


async def test_a_replacement_names_the_device_that_is_replaced(scene: Scene) -> None:
    owner = await logged_in(scene)
    old = await scene.join(owner, "laptop")
    await owner.approve(await asked(scene, owner, "laptop"), replaces=old.fp)
    assert await last(scene, owner) == ("replaced", "laptop", "")


async def test_a_rejection_names_the_device(scene: Scene) -> None:
    owner = await logged_in(scene)
    await owner.do(f"/peers/{await asked(scene, owner)}/reject")
    assert await last(scene, owner) == ("rejected", "phone", "")


async def test_a_device_entered_ahead_is_named(scene: Scene) -> None:
    owner = await logged_in(scene)
    await owner.do("/peers", fp=new_fingerprint(), name="doorbell")
    assert await last(scene, owner) == ("added", "doorbell", "")


async def test_a_new_name_stands_beside_the_old_one(scene: Scene) -> None:
    owner = await logged_in(scene)
    device = await scene.join(owner, "laptop")
    await owner.do(f"/peers/{device.fp}/rename", name="old faithful")
    assert await last(scene, owner) == ("renamed", "laptop", "old faithful")
    await device.ask({"command": "rename", "name": "mine again"})
    assert await last(scene, owner) == ("renamed", "old faithful", "mine again")


@pytest.mark.parametrize(("act", "what"), [("revoke", "revoked"), ("remove", "removed")])
async def test_a_device_that_is_shut_out_is_named(scene: Scene, act: str, what: str) -> None:
    owner = await logged_in(scene)
    device = await scene.join(owner, "laptop")
    await owner.do(f"/peers/{device.fp}/{act}")
    assert what in [line.what for line in await activity(scene, owner) if line.name == "laptop"]


async def test_an_invite_and_who_came_with_it(scene: Scene) -> None:
    owner = await logged_in(scene)
    code = await scene.context.books.invite(await owner.uid())
    assert await last(scene, owner) == ("invite", "", "")
    await scene.verify(new_fingerprint(), email=owner.address, name="tablet", invite=code)
    assert await last(scene, owner) == ("invited", "tablet", "127.0.0.x")


async def test_an_import_says_how_many(scene: Scene) -> None:
    owner, other = await logged_in(scene), await logged_in(scene)
    for name in ("laptop", "phone"):
        await other.do("/peers", fp=new_fingerprint(), name=name)
    exported = (await other.http.get("/account/export")).text
    await owner.do("/account/import", json=exported, confirm="1")
    assert await last(scene, owner) == ("imported", "", "2")


@pytest.mark.parametrize(
    ("agent", "browser"),
    [
        (FIREFOX, "Firefox on Linux"),
        (CHROME, "Chrome on Android"),
        (EDGE, "Edge on Windows"),
        (SAFARI, "Safari on iPhone"),
        ("curl/8", "a browser"),
    ],
)
async def test_a_login_says_with_which_browser_and_from_where(scene: Scene, agent: str, browser: str) -> None:
    owner = await logged_in(scene, **{"User-Agent": agent})
    assert await last(scene, owner) == ("login", "", f"{browser}, 127.0.0.x")


@pytest.mark.parametrize(
    ("client", "place"),
    [("203.0.113.77", "203.0.113.x"), ("2001:db8:1:2::3", "2001:db8:1::/48"), ("::ffff:203.0.113.77", "203.0.113.x")],
)
async def test_no_whole_ip_address_is_kept(start: Start, redis: Redis, client: str, place: str) -> None:
    scene = await start(proxies_count=1)
    owner = await logged_in(scene, **{"X-Forwarded-For": client})
    assert (await last(scene, owner))[2].endswith(f", {place}")
    for key in await redis.keys("activity:*"):
        assert client not in str(await redis.lrange(key, 0, -1))


async def test_a_logout_and_a_logout_everywhere(scene: Scene) -> None:
    owner = await logged_in(scene)
    uid = await owner.uid()
    assert (await owner.act("/logout")).status_code == 200
    await owner.log_in()
    assert (await owner.act("/logout/everywhere")).status_code == 200
    await owner.log_in()
    assert await owner.uid() == uid
    said = [line.what for line in await activity(scene, owner)]
    assert said == ["login", "mailed", "signed out", "login", "mailed", "logout", "login", "mailed"]


async def test_proof_that_is_demanded_and_not_any_more(scene: Scene) -> None:
    owner = await logged_in(scene)
    await owner.do("/account/require-proof", on="1")
    await owner.do("/account/require-proof", on="0")
    assert [line.what for line in (await activity(scene, owner))[:2]] == ["proof not demanded", "proof demanded"]


async def test_an_act_that_was_refused_writes_nothing(scene: Scene) -> None:
    owner = await logged_in(scene)
    device = await scene.join(owner, "laptop")
    await owner.do("/peers", fp=new_fingerprint(), name="doorbell")
    before = await activity(scene, owner)
    assert (await owner.act(f"/peers/{device.fp}/rename", name="Doorbell")).status_code == 422
    assert (await owner.act(f"/peers/{new_fingerprint()}/revoke")).status_code == 404
    assert await activity(scene, owner) == before


# How it is kept and shown


async def test_the_newest_line_comes_first_and_has_its_time(scene: Scene, redis: Redis) -> None:
    owner = await logged_in(scene)
    for name in ("laptop", "phone"):
        await owner.do("/peers", fp=new_fingerprint(), name=name)
    lines = await activity(scene, owner)
    now, _ = await redis.time()
    assert [line.name for line in lines[:2]] == ["phone", "laptop"]
    assert all(now - 10 <= line.at <= now for line in lines)


async def test_the_last_200_lines_are_kept(scene: Scene) -> None:
    owner = await logged_in(scene)
    uid = await owner.uid()
    for number in range(205):
        await scene.context.books.note(uid, "mailed", detail=str(number))
    lines = await activity(scene, owner)
    assert [line.detail for line in lines] == [str(number) for number in range(204, 4, -1)]
    page = await owner.page()
    assert page.index("A mail went out: 204") < page.index("A mail went out: 5<")


async def test_a_page_tells_each_line_as_a_sentence(scene: Scene) -> None:
    owner = await logged_in(scene)
    device = await scene.join(owner, "laptop")
    await owner.do(f"/peers/{device.fp}/rename", name="old faithful")
    page = await owner.page()
    for sentence in ("laptop asked to join from 127.0.0.x", "laptop was approved", "laptop is now called old faithful"):
        assert sentence in page


async def test_a_book_shows_its_own_activity_only(scene: Scene) -> None:
    mine, other = await logged_in(scene), await logged_in(scene)
    await other.do("/peers", fp=new_fingerprint(), name="secret place")
    assert "secret place" not in await mine.page()
