"""The owner's pages over HTTP: logging in, links, cookies, the acts on devices, and what a stranger's site cannot do."""

import asyncio

import httpx
import pytest
from redis.asyncio import Redis

from tests.conftest import Start
from tests.support import Owner, Scene, new_fingerprint

CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}
PAGE = {"Accept": "text/html"}
HTTPS = "https://book.example.org"
HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}"


async def mailed_path(owner: Owner) -> str:
    """The path of a link that was mailed just now."""
    assert (await owner.http.post("/login", data={"email": owner.address})).status_code == 200
    link = httpx.URL(await owner.mailbox.next_link(owner.address))
    return link.path


# Home and login


async def test_home_says_what_this_is_and_has_the_form(scene: Scene) -> None:
    answer = await scene.owner().http.get("/")
    assert answer.status_code == 200
    assert 'action="/login"' in answer.text
    assert 'name="email"' in answer.text


async def test_a_login_is_the_same_page_for_every_address(start: Start) -> None:
    scene = await start(owners=("@example.org",))
    known = scene.owner("known@example.org")
    await known.log_in()
    pages = set()
    for address in (known.address, "unknown@example.org", "unserved@example.com"):
        answer = await scene.owner().http.post("/login", data={"email": address})
        assert answer.status_code == 200
        pages.add(answer.text.replace(address, "ADDRESS"))
    assert len(pages) == 1
    await scene.at_rest()
    assert "unserved@example.com" not in [to for to, _ in scene.mailbox.mails]


async def test_a_second_login_within_the_interval_is_the_same_page_without_a_mail(start: Start) -> None:
    scene = await start(mail_interval=60)
    owner = scene.owner()
    first, second = [await owner.http.post("/login", data={"email": owner.address}) for _ in range(2)]
    assert first.text == second.text
    await scene.at_rest()
    assert [to for to, _ in scene.mailbox.mails] == [owner.address]


# Links


async def test_a_link_shows_whose_book_it_opens_and_not_the_whole_address(scene: Scene) -> None:
    owner = scene.owner("somebody@example.org")
    answer = await scene.owner().http.get(await mailed_path(owner))
    assert answer.status_code == 200
    assert "s…@example.org" in answer.text
    assert owner.address not in answer.text


async def test_fetching_a_link_changes_nothing_however_often(scene: Scene, redis: Redis) -> None:
    owner = scene.owner()
    path = await mailed_path(owner)
    await scene.at_rest()
    before = set(await redis.keys())
    for _ in range(3):
        assert (await owner.http.get(path)).status_code == 200
        head = await owner.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
    assert set(await redis.keys()) == before
    assert (await owner.http.post(path)).status_code == 303


async def test_a_link_opens_a_book_once(scene: Scene) -> None:
    owner = scene.owner()
    path = await mailed_path(owner)
    assert (await owner.http.post(path)).status_code == 303
    for answer in (await owner.http.post(path), await owner.http.get(path), await owner.http.head(path)):
        assert answer.status_code == 410


async def test_of_fifty_who_redeem_a_link_at_once_one_gets_in(scene: Scene) -> None:
    path = await mailed_path(scene.owner())
    answers = await asyncio.gather(*[scene.http.post(path) for _ in range(50)])
    assert sorted(answer.status_code for answer in answers) == [303] + [410] * 49
    assert sum("set-cookie" in answer.headers for answer in answers) == 1


async def test_a_used_and_a_made_up_link_are_one_page_that_offers_a_new_one(scene: Scene) -> None:
    owner = scene.owner()
    path = await mailed_path(owner)
    await owner.http.post(path)
    pages = {(await scene.owner().http.post(each)).text for each in (path, "/link/made-up", path + "x")}
    assert len(pages) == 1
    assert 'action="/login"' in pages.pop()


async def test_an_expired_link_is_gone(start: Start, redis: Redis) -> None:
    owner = (await start()).owner()
    path = await mailed_path(owner)
    (key,) = await redis.keys("link:*")
    await redis.pexpire(key, 0)
    assert (await owner.http.get(path)).status_code == 410
    assert (await owner.http.post(path)).status_code == 410


# The session


async def test_the_session_cookie_is_for_this_server_and_no_script(scene: Scene) -> None:
    owner = scene.owner()
    answer = await owner.http.post(await mailed_path(owner))
    for cookie in answer.headers.get_list("set-cookie"):
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie


async def test_over_https_the_cookie_is_secure_and_bound_to_the_host(start: Start) -> None:
    scene = await start(base_url=HTTPS)
    owner = scene.owner()
    answer = await owner.http.post(await mailed_path(owner))
    cookies = answer.headers.get_list("set-cookie")
    assert any(cookie.startswith("__Host-session=") for cookie in cookies)
    assert all(cookie.startswith("__Host-") and "Secure" in cookie for cookie in cookies)
    assert "strict-transport-security" in (await owner.http.get("/")).headers


async def test_without_a_session_every_page_sends_home(scene: Scene) -> None:
    http, fp = scene.owner().http, new_fingerprint()
    answers = [await http.get("/peers")]
    for path in ("/peers", f"/peers/{fp}/approve", f"/peers/{fp}/revoke", f"/peers/{fp}/remove", "/logout"):
        answers.append(await http.post(path))
    for answer in answers:
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize("cookie", ["x", "", "a.b", "é", "{}.{}", "0" * 32 + "." + "A" * 43, "*" * 3000])
async def test_a_made_up_cookie_is_no_session(scene: Scene, cookie: str) -> None:
    headers = [(b"Accept", b"text/html"), (b"Cookie", f"session={cookie}".encode())]
    answer = await scene.http.get("/peers", headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_a_session_of_one_owner_opens_no_other_book(scene: Scene) -> None:
    mine, other = scene.owner(), scene.owner()
    await mine.log_in()
    await other.log_in()
    _, _, secret = mine.http.cookies["session"].partition(".")
    forged = f"{await other.uid()}.{secret}"
    answer = await scene.http.get("/peers", headers=PAGE | {"Cookie": f"session={forged}"})
    assert answer.status_code == 303


async def test_logging_out_ends_the_session_and_leaves_devices_connected(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.join(owner)
    cookie = owner.http.cookies["session"]
    answer = await owner.act("/logout")
    assert answer.status_code == 200
    assert "session" not in owner.http.cookies
    again = await scene.http.get("/peers", headers=PAGE | {"Cookie": f"session={cookie}"})
    assert again.status_code == 303
    await device.hears_nothing()


async def test_a_browser_that_comes_from_a_mail_is_sent_around_once(scene: Scene) -> None:
    answer = await scene.owner().http.get("/peers", headers=CROSS_SITE)
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0; url=/peers">' in answer.text


# The acts


async def test_an_approved_device_moves_from_the_requests_into_the_book(scene: Scene) -> None:
    owner = scene.owner()
    asked = await scene.verify(fp := new_fingerprint(), email=owner.address, name="laptop")
    await owner.log_in()
    assert f'<p class="pair">{asked["pair"]}</p>' in await owner.page()
    await owner.approve(fp, pair=asked["pair"], name="Work laptop")
    page = await owner.page()
    assert asked["pair"] not in page
    assert "Work laptop" in page


async def test_a_rejected_request_leaves_the_page(scene: Scene) -> None:
    owner = scene.owner()
    asked = await scene.verify(fp := new_fingerprint(), email=owner.address)
    await owner.log_in()
    await owner.do(f"/peers/{fp}/reject", pair=asked["pair"])
    assert asked["pair"] not in await owner.page()


async def test_a_device_that_replaces_another_keeps_its_name_and_shuts_the_old_one_out(scene: Scene) -> None:
    owner = scene.owner()
    old = await scene.join(owner, "laptop")
    new = await scene.connect(email=owner.address, name="laptop")
    await new.hear()
    await owner.approve(new.fp, replaces=old.fp)
    assert (await new.hear())["code"] == 200
    assert await old.close_code() == 4403
    assert [(peer["name"], peer["fp"]) for peer in await new.peers()] == [("laptop", new.fp)]


async def test_a_removed_device_leaves_the_page(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.join(owner)
    await owner.do(f"/peers/{device.fp}/remove")
    assert f'id="peer-{device.fp}"' not in await owner.page()


async def test_the_acts_take_a_fingerprint_in_every_form(scene: Scene) -> None:
    owner, fp = scene.owner(), new_fingerprint()
    await owner.log_in()
    colons = ":".join(fp[i : i + 2] for i in range(0, 64, 2)).lower()
    await owner.do("/peers", fp=f" sha-256 {colons} ", name="doorbell")
    await owner.do(f"/peers/{colons}/rename", name="front door")
    assert "front door" in await owner.page()


@pytest.mark.parametrize("act", ["approve", "reject", "rename", "revoke", "remove"])
@pytest.mark.parametrize("fp", ["AB" * 32, "no fingerprint", "%00", "..%2f.."])
async def test_an_unknown_fingerprint_is_404(scene: Scene, act: str, fp: str) -> None:
    owner = scene.owner()
    await owner.log_in()
    answer = await owner.act(f"/peers/{fp}/{act}", name="x")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")


async def test_a_wrong_pair_code_is_404_and_approves_nobody(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.connect(email=owner.address)
    await device.hear()
    await owner.log_in()
    for act in ("approve", "reject"):
        assert (await owner.act(f"/peers/{device.fp}/{act}", pair="000-00x")).status_code == 404
    await device.hears_nothing()


@pytest.mark.parametrize("name", ["taken", "TAKEN", "x" * 65, "\u200b"])
async def test_a_bad_or_taken_name_comes_back_with_its_error_and_what_was_typed(scene: Scene, name: str) -> None:
    owner = scene.owner()
    await scene.join(owner, "taken")
    device = await scene.join(owner, "phone")
    asking = await scene.connect(email=owner.address)
    await asking.hear()
    for path, fields in (
        (f"/peers/{device.fp}/rename", {}),
        (f"/peers/{asking.fp}/approve", {}),
        ("/peers", {"fp": new_fingerprint()}),
    ):
        answer = await owner.act(path, name=name, **fields)
        assert answer.status_code == 422, path
        assert 'class="problem"' in answer.text
        assert f'value="{name}"' in answer.text
        assert all(value in answer.text for value in fields.values())
    assert {peer["name"] for peer in await device.peers()} == {"taken", "phone"}


async def test_a_fingerprint_that_is_in_the_book_cannot_be_added(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.join(owner)
    answer = await owner.act("/peers", fp=device.fp, name="another")
    assert answer.status_code == 422
    assert "in your book already" in answer.text


async def test_a_full_book_takes_no_more(start: Start) -> None:
    scene = await start(max_peers=1)
    owner = scene.owner()
    await scene.join(owner)
    second = await scene.connect(email=owner.address)
    await second.hear()
    assert (await owner.act(f"/peers/{second.fp}/approve")).status_code == 422
    assert (await owner.act("/peers", fp=new_fingerprint(), name="x")).status_code == 422
    await second.hears_nothing()


# Text and headers


async def test_names_are_text_wherever_they_stand(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.join(owner, HOSTILE)
    asked = await scene.verify(fp := new_fingerprint(), email=owner.address, name=HOSTILE)
    pages = [await owner.page(), (await owner.act(f"/peers/{device.fp}/rename", name=HOSTILE * 3)).text]
    await owner.do(f"/peers/{fp}/reject", pair=asked["pair"])
    pages.append(await owner.page())
    pages.append((await owner.http.post("/login", data={"email": HOSTILE})).text)
    for page in pages:
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page
        assert "{{7*7}}" in page


async def test_no_page_holds_a_script_or_a_style_of_its_own(scene: Scene) -> None:
    owner = scene.owner()
    await scene.join(owner)
    for page in (await owner.page(), (await owner.http.get("/")).text):
        assert " style=" not in page
        assert "<style" not in page
        assert " onclick=" not in page
        assert "<script>" not in page


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/link/x", 410), ("/ws?fp=x", 400)])
async def test_an_error_is_a_page_for_browsers_and_json_for_programs(scene: Scene, path: str, status: int) -> None:
    page = await scene.http.get(path, headers=PAGE)
    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert "<h1>" in page.text
    program = await scene.http.get(path)
    assert (program.status_code, program.headers["content-type"]) == (status, "application/json")
    assert program.json().keys() == {"code", "text"}


async def test_a_wrong_method_is_405_and_names_the_right_ones(scene: Scene) -> None:
    answer = await scene.http.delete("/peers")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) >= {"GET", "POST"}
