"""Notices: short mails about what matters for the safety of a book, each with a link that signs out everywhere."""

import re

import pytest
from redis.asyncio import Redis

from app.claims import claim_of_secret
from app.peers import Device, Fingerprint
from tests.support import Owner, Scene, new_fingerprint, text_of

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


async def logged_in(scene: Scene, address: str = "") -> Owner:
    owner = scene.owner(address)
    await owner.log_in()
    return owner


async def sign_out_path(owner: Owner) -> str:
    """The path of the link in the owner's next notice."""
    text = text_of(await owner.mailbox.next_notice(owner.address))
    match = re.search(r"^http://\S+?(/signout/\S+)$", text, re.M)
    assert match, text
    return match[1]


async def notified(scene: Scene, owner: Owner) -> str:
    """The path of the sign-out link in a notice that the owner gets now."""
    await scene.join(owner)
    return await sign_out_path(owner)


async def is_logged_in(owner: Owner) -> bool:
    return (await owner.http.get("/peers")).status_code == 200


# Which mails go out


async def test_an_approved_device_is_told_by_mail_under_its_new_name(scene: Scene) -> None:
    owner = await logged_in(scene)
    fp = new_fingerprint()
    await scene.verify(fp, email=owner.address, name="phone")
    await owner.approve(fp, name="my phone")
    mail = await scene.mailbox.next_notice(owner.address)
    assert mail["Subject"] == "A device joined your book"
    assert "my phone" in text_of(mail)
    assert fp not in str(mail)


async def test_a_device_that_proves_itself_in_another_way_from_now_on_is_told_by_mail(scene: Scene) -> None:
    owner = await logged_in(scene)
    laptop = await scene.join(owner)
    await scene.mailbox.next_notice(owner.address)
    same = Device(Fingerprint(laptop.fp), claim_of_secret("kept on this device"), "laptop", "lab", "203.0.113.x")
    assert await scene.context.books.ask(await owner.uid(), None, same) == "asked"
    await owner.approve(laptop.fp)
    mail = await scene.mailbox.next_notice(owner.address)
    assert mail["Subject"] == "A device proves itself in another way"
    assert "laptop" in text_of(mail)
    assert "laptop proves itself in another way" in await owner.page()
    # The connection that proved nothing is not this device any more.
    due = await laptop.hear_until(lambda heard: "code" in heard)
    assert (due["code"], due["proof"]) == (401, "secret")


async def test_a_hostile_name_makes_no_link_in_a_mail(scene: Scene) -> None:
    owner = await logged_in(scene)
    fp = new_fingerprint()
    await scene.verify(fp, email=owner.address, name="<b>evil.example.com/login</b>")
    await owner.approve(fp)
    mail = str(await scene.mailbox.next_notice(owner.address))
    assert "evil.example.com" not in mail
    assert "<b>evil" not in mail


async def test_a_refused_approval_tells_nobody(scene: Scene) -> None:
    owner = await logged_in(scene)
    assert (await owner.act(f"/peers/{new_fingerprint()}/approve")).status_code == 404
    await scene.at_rest()
    assert scene.mailbox.notices == []


async def test_the_first_browser_ever_is_no_news(scene: Scene) -> None:
    await logged_in(scene)
    await scene.at_rest()
    assert scene.mailbox.notices == []


async def test_a_known_browser_is_no_news(scene: Scene) -> None:
    owner = await logged_in(scene)
    assert (await owner.act("/logout")).status_code == 200
    await owner.log_in()
    await scene.at_rest()
    assert scene.mailbox.notices == []


async def test_a_new_browser_is_told_by_mail_once(scene: Scene) -> None:
    owner = await logged_in(scene)
    other = scene.owner(owner.address)
    other.http.headers["User-Agent"] = FIREFOX
    await other.log_in()
    mail = await scene.mailbox.next_notice(owner.address)
    assert mail["Subject"] == "A new browser opened your book"
    assert "Firefox on Linux, 127.0.0.x" in text_of(mail)
    await other.log_in()
    await scene.at_rest()
    assert scene.mailbox.notices == []


async def test_a_browser_that_is_known_to_one_book_is_new_to_another(scene: Scene) -> None:
    mine, other = await logged_in(scene), await logged_in(scene)
    other.http.cookies.clear()
    other.http.cookies.update(mine.http.cookies)
    await other.log_in()
    assert (await scene.mailbox.next_notice(other.address))["Subject"] == "A new browser opened your book"


async def test_the_store_knows_a_browser_only_by_a_hash(scene: Scene, redis: Redis) -> None:
    owner = await logged_in(scene)
    (key,) = await redis.keys("browsers:*")
    (kept,) = await redis.zrange(key, 0, -1)
    assert owner.http.cookies["browser"] not in kept


async def test_a_notice_opens_no_book(scene: Scene) -> None:
    owner = await logged_in(scene)
    path = await notified(scene, owner)
    token = path.rpartition("/")[2]
    stranger = scene.owner()
    assert (await stranger.http.post(f"/link/{token}")).status_code == 410
    assert not await is_logged_in(stranger)


# Signing out from a mail


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_looking_at_the_link_changes_nothing(scene: Scene, method: str) -> None:
    owner = await logged_in(scene)
    path = await notified(scene, owner)
    scanner = scene.owner()
    for _ in range(3):
        assert (await scanner.http.request(method, path)).status_code == 200
    assert await is_logged_in(owner)
    assert (await scanner.http.post(path)).status_code == 200


async def test_the_link_shows_whose_sessions_would_end_and_not_the_whole_address(scene: Scene) -> None:
    owner = await logged_in(scene)
    page = (await scene.owner().http.get(await notified(scene, owner))).text
    assert "@example.org" in page
    assert owner.address not in page


async def test_pressing_its_button_ends_all_sessions_and_links(scene: Scene) -> None:
    owner = await logged_in(scene)
    other = await logged_in(scene, owner.address)
    path = await sign_out_path(owner)
    await other.http.post("/login", data={"email": owner.address})
    link = (await scene.mailbox.next_link(owner.address)).removeprefix(scene.url)
    assert (await scene.owner().http.post(path)).status_code == 200
    assert not await is_logged_in(owner)
    assert not await is_logged_in(other)
    assert (await other.http.get(link)).status_code == 410
    assert (await other.http.post(link)).status_code == 410


async def test_devices_stay_connected(scene: Scene) -> None:
    owner = await logged_in(scene)
    device = await scene.join(owner)
    assert (await scene.owner().http.post(await sign_out_path(owner))).status_code == 200
    await device.hears_nothing()


async def test_a_used_a_foreign_and_a_garbled_link_are_gone(scene: Scene) -> None:
    owner = await logged_in(scene)
    path = await notified(scene, owner)
    await owner.http.post("/login", data={"email": owner.address})
    login = (await scene.mailbox.next_link(owner.address)).rpartition("/")[2]
    for bad in (f"/signout/{login}", f"{path}x", "/signout/nonsense"):
        assert (await owner.http.get(bad)).status_code == 410
        assert (await owner.http.post(bad)).status_code == 410
    assert await is_logged_in(owner)
    assert (await owner.http.post(path)).status_code == 200
    for _ in range(2):
        assert (await owner.http.get(path)).status_code == 410
        answer = await owner.http.post(path)
        assert answer.status_code == 410
        assert 'action="/login"' in answer.text


async def test_a_link_from_before_a_logout_everywhere_is_gone(scene: Scene) -> None:
    owner = await logged_in(scene)
    path = await notified(scene, owner)
    assert (await owner.act("/logout/everywhere")).status_code == 200
    scene.mailbox.mails.clear()
    await owner.log_in()
    assert (await owner.http.post(path)).status_code == 410
    assert await is_logged_in(owner)


async def test_a_link_of_an_account_that_is_gone_is_gone(scene: Scene) -> None:
    owner = await logged_in(scene)
    path = await notified(scene, owner)
    assert (await owner.act("/account/delete", email=owner.address)).status_code == 200
    assert (await owner.http.get(path)).status_code == 410
    assert (await owner.http.post(path)).status_code == 410


async def test_another_sites_page_cannot_press_the_button(scene: Scene) -> None:
    owner = await logged_in(scene)
    path = await notified(scene, owner)
    answer = await owner.http.post(path, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert await is_logged_in(owner)
