"""Codes: six digits in a login mail open the book in the browser that asked, and tell nobody else anything."""

import asyncio
import re
from collections import Counter
from email.message import EmailMessage

import httpx
import pytest
from redis.asyncio import Redis

from app.codes import asker
from app.context import Context
from app.errors import CodeGone, LinkGone, PeerbookError, WrongCode
from app.sessions import Link, Login
from tests.conftest import OpenProcess, Start
from tests.parts import OWNER, SECRET, STRANGER
from tests.streams import following
from tests.support import Owner, Scene, code_in, link_in, new_fingerprint, text_of

HTTPS = "https://book.example.org"
HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}"


@pytest.fixture
async def uid(process: Context) -> str:
    return await process.books.enroll(OWNER)


class Browser:
    """A browser that asks, as the rules see it."""

    def __init__(self, process: Context) -> None:
        self.process = process
        self.cookie = asker(None)
        self.code = ""
        self.link: Link | None = None

    async def ask(self, uid: str) -> "Browser":
        """Ask for a mail, and read it."""
        self.link = await self.process.sessions.issue_link(uid, OWNER)
        await self.process.codes.expect(self.cookie, OWNER)
        self.code = await self.process.codes.issue(self.cookie, OWNER, self.link)
        return self

    async def ask_for_nothing(self) -> "Browser":
        """Ask where no mail goes out."""
        await self.process.codes.expect(self.cookie, OWNER)
        return self

    async def enter(self, code: str) -> Login:
        """Type a code."""
        return await self.process.codes.redeem(self.cookie, code, None, "a browser")

    async def fail(self, times: int = 1) -> list[type[PeerbookError]]:
        """Type a wrong code so many times; what was said."""
        said = []
        for _ in range(times):
            with pytest.raises(PeerbookError) as refused:
                await self.enter(wrong(self.code))
            said.append(refused.type)
        return said


def wrong(code: str) -> str:
    """Another code than that one."""
    return "111111" if code != "111 111" else "222222"


# One code, one book


async def test_a_code_opens_its_book_once(process: Context, uid: str) -> None:
    browser = await Browser(process).ask(uid)
    assert re.fullmatch(r"\d{3} \d{3}", browser.code)
    login = await browser.enter(browser.code)
    assert (login.uid, login.address) == (uid, OWNER)
    visit = await process.sessions.visit(login.cookie)
    assert visit
    assert visit.fresh
    with pytest.raises(CodeGone):
        await browser.enter(browser.code)


@pytest.mark.parametrize("form", ["{}{}", "{} {}", "{}-{}", " {}  {} ", "{}\u00a0{}\n", "-{}-{}-"])
async def test_blanks_and_hyphens_are_forgiven(process: Context, uid: str, form: str) -> None:
    browser = await Browser(process).ask(uid)
    assert await browser.enter(form.format(*browser.code.split()))


@pytest.mark.parametrize("typed", ["", "12345", "1234567", "abcdef", "\udcff", "\x00", "١٢٣٤٥٦", "1" * 60_000])
async def test_what_is_no_code_does_not_fit(process: Context, uid: str, typed: str) -> None:
    browser = await Browser(process).ask(uid)
    with pytest.raises(WrongCode):
        await browser.enter(typed)
    assert await browser.enter(browser.code)


async def test_a_redeemed_link_makes_its_code_void_and_the_other_way_round(process: Context, uid: str) -> None:
    first, second = await Browser(process).ask(uid), await Browser(process).ask(uid)
    assert first.link
    assert second.link
    await process.sessions.redeem(first.link.digest, None, "")
    with pytest.raises(CodeGone):
        await first.enter(first.code)
    await second.enter(second.code)
    with pytest.raises(LinkGone):
        await process.sessions.peek_link(second.link.url.rpartition("/")[2])


async def test_a_code_is_of_no_use_in_another_browser(process: Context, uid: str) -> None:
    browser, other = await Browser(process).ask(uid), await Browser(process).ask(uid)
    other.code = browser.code
    assert await other.fail() == [WrongCode]
    with pytest.raises((WrongCode, CodeGone)):
        await Browser(process).enter(browser.code)
    assert await browser.enter(browser.code)


async def test_signing_out_everywhere_makes_codes_void(process: Context, uid: str) -> None:
    browser = await Browser(process).ask(uid)
    assert await process.books.sign_out(uid)
    with pytest.raises(CodeGone):
        await browser.enter(browser.code)
    assert await browser.ask(uid)
    assert await browser.enter(browser.code)


async def test_a_code_lasts_as_long_as_its_link(process: Context, uid: str, redis: Redis) -> None:
    browser = await Browser(process).ask(uid)
    for key in [*await redis.keys("code:*"), *await redis.keys("link:*")]:
        assert 590 <= await redis.ttl(key) <= 600
    (link,) = await redis.keys("link:*")
    await redis.pexpire(link, 0)
    with pytest.raises(CodeGone):
        await browser.enter(browser.code)


async def test_a_code_that_the_store_let_go_is_gone(process: Context, uid: str, redis: Redis) -> None:
    browser = await Browser(process).ask(uid)
    (key,) = await redis.keys("code:*")
    await redis.pexpire(key, 0)
    assert await browser.fail() == [CodeGone]
    with pytest.raises(CodeGone):
        await browser.enter(browser.code)
    assert await redis.keys("code:*") == [], "and trying it leaves nothing"


async def test_keys_can_be_changed_without_breaking_codes_in_mails(open_process: OpenProcess) -> None:
    old = "another secret of at least 32 characters"
    before = await open_process(secret_key=(old,))
    both, after = await open_process(secret_key=(SECRET, old)), await open_process(secret_key=(SECRET,))
    uid = await before.books.enroll(OWNER)
    browser = await Browser(before).ask(uid)
    browser.process = after
    with pytest.raises(WrongCode):
        await browser.enter(browser.code)
    browser.process = both
    assert await browser.enter(browser.code)


async def test_a_copy_of_the_store_tells_no_code(process: Context, uid: str, redis: Redis) -> None:
    browser = await Browser(process).ask(uid)
    (key,) = await redis.keys("code:*")
    text = f"{key!s} {await redis.hgetall(key)}"
    assert browser.cookie not in text
    assert browser.code not in text
    assert browser.code.replace(" ", "") not in re.findall(r"\d+", text)
    assert OWNER.key not in text.lower()


# Tries


async def test_five_tries_are_given_and_then_the_right_one_is_too_late(process: Context, uid: str) -> None:
    browser = await Browser(process).ask(uid)
    assert await browser.fail(7) == [WrongCode] * 5 + [CodeGone] * 2
    with pytest.raises(CodeGone):
        await browser.enter(browser.code)


async def test_the_fifth_try_may_be_the_right_one(process: Context, uid: str) -> None:
    browser = await Browser(process).ask(uid)
    await browser.fail(4)
    assert await browser.enter(browser.code)


async def test_fifty_wrong_ones_at_once_are_fifty_tries(process: Context, uid: str, redis: Redis) -> None:
    browser = await Browser(process).ask(uid)
    said = await asyncio.gather(*(browser.enter(wrong(browser.code)) for _ in range(50)), return_exceptions=True)
    assert Counter(map(type, said)) == {WrongCode: 5, CodeGone: 45}
    (key,) = await redis.keys("code:*")
    assert await redis.hget(key, "tries") == "50"
    with pytest.raises(CodeGone):
        await browser.enter(browser.code)


async def test_of_fifty_right_ones_at_once_one_gets_in(process: Context, uid: str) -> None:
    browser = await Browser(process).ask(uid)
    outcomes = await asyncio.gather(*(browser.enter(browser.code) for _ in range(50)), return_exceptions=True)
    assert Counter(map(type, outcomes)) == {Login: 1, CodeGone: 49}


async def test_after_ten_wrong_ones_a_day_only_links_open_the_book(process: Context, uid: str, redis: Redis) -> None:
    for _ in range(2):
        await (await Browser(process).ask(uid)).fail(5)
    browser = await Browser(process).ask(uid)
    with pytest.raises(WrongCode):
        await browser.enter(browser.code)
    assert browser.link
    assert await process.sessions.redeem_link(browser.link.url.rpartition("/")[2], None, "")
    other = await process.books.enroll(STRANGER)
    stranger = await Browser(process).ask(other)
    assert await stranger.enter(stranger.code), "another owner's day is another's"
    assert 86_390 <= await redis.ttl(f"limit:{{{uid}}}:code:day") <= 86_400
    await redis.delete(f"limit:{{{uid}}}:code:day")
    await browser.ask(uid)
    assert await browser.enter(browser.code)


async def test_a_hundred_wrong_ones_at_once_in_many_browsers_are_no_more_than_ten_guesses(
    process: Context, uid: str, redis: Redis
) -> None:
    browsers = [await Browser(process).ask(uid) for _ in range(20)]
    await asyncio.gather(*(each.enter(wrong(each.code)) for each in browsers for _ in range(5)), return_exceptions=True)
    assert await redis.get(f"limit:{{{uid}}}:code:day") == "10"


async def test_right_codes_cost_nothing_of_the_day(process: Context, uid: str, redis: Redis) -> None:
    for _ in range(12):
        browser = await Browser(process).ask(uid)
        await browser.enter(browser.code)
    assert await redis.get(f"limit:{{{uid}}}:code:day") == "0"


# Asking again


async def test_asking_again_without_a_second_mail_keeps_the_code_of_the_first(process: Context, uid: str) -> None:
    browser = await Browser(process).ask(uid)
    await browser.fail()
    await browser.ask_for_nothing()
    assert await browser.enter(browser.code)


async def test_asking_again_gives_a_code_no_further_tries(process: Context, uid: str) -> None:
    browser = await Browser(process).ask(uid)
    await browser.fail(5)
    await browser.ask_for_nothing()
    with pytest.raises(WrongCode):
        await browser.enter(browser.code)


async def test_a_second_mail_makes_the_code_of_the_first_void(process: Context, uid: str) -> None:
    browser = await Browser(process).ask(uid)
    first = browser.code
    await browser.fail(5)
    await browser.ask(uid)
    if first != browser.code:
        with pytest.raises(WrongCode):
            await browser.enter(first)
    assert await browser.enter(browser.code)


async def test_asking_for_another_address_forgets_the_code_whether_or_not_that_gets_a_mail(
    process: Context, uid: str
) -> None:
    browser = await Browser(process).ask(uid)
    await process.codes.expect(browser.cookie, STRANGER)
    with pytest.raises(WrongCode):
        await browser.enter(browser.code)


async def test_a_mail_that_goes_out_after_the_browser_asked_for_another_address_gives_it_no_code(
    process: Context, uid: str, redis: Redis
) -> None:
    browser = Browser(process)
    link = await process.sessions.issue_link(uid, OWNER)
    await process.codes.expect(browser.cookie, STRANGER)
    code = await process.codes.issue(browser.cookie, OWNER, link)
    with pytest.raises(WrongCode):
        await browser.enter(code)
    await redis.delete(*await redis.keys("code:*"))
    code = await process.codes.issue(browser.cookie, OWNER, link)
    assert await redis.keys("code:*") == [], "nor one that never asked"
    with pytest.raises(CodeGone):
        await browser.enter(code)


async def test_a_browser_cannot_tell_from_its_tries_when_its_mail_went_out(process: Context, uid: str) -> None:
    early = Browser(process)
    await process.codes.expect(early.cookie, OWNER)
    assert await early.fail(2) == [WrongCode] * 2
    link = await process.sessions.issue_link(uid, OWNER)
    early.code = await process.codes.issue(early.cookie, OWNER, link)
    assert await early.fail(4) == [WrongCode] * 3 + [CodeGone]


@pytest.mark.parametrize("cookie", [None, "", "x", "x" * 33, "é" * 32, "\udcff" * 32, "a" * 31 + "\n"])
def test_a_garbled_cookie_is_replaced_and_a_good_one_kept(cookie: str | None) -> None:
    fresh = asker(cookie)
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", fresh)
    assert fresh != cookie
    assert asker(fresh) == fresh


# The page


async def ask(owner: Owner, address: str = "") -> httpx.Response:
    answer = await owner.http.post("/login", data={"email": address or owner.address})
    assert answer.status_code == 200
    return answer


async def type_code(owner: Owner, code: str, **fields: str) -> httpx.Response:
    return await owner.http.post("/login/code", data={"code": code} | fields)


async def mailed_code(owner: Owner) -> str:
    await ask(owner)
    return code_in(await owner.mailbox.next_mail(owner.address))


async def test_the_code_from_the_mail_opens_the_book_in_the_browser_that_asked(scene: Scene) -> None:
    owner = scene.owner()
    answer = await type_code(owner, await mailed_code(owner))
    assert (answer.status_code, answer.headers["location"]) == (303, "/peers")
    assert set(owner.http.cookies) == {"session", "browser", "store"}, "and its cookie is not needed any more"
    await owner.page()


async def test_the_page_after_asking_has_a_field_for_the_code(scene: Scene) -> None:
    owner = scene.owner()
    page = (await ask(owner)).text
    assert 'action="/login/code"' in page
    assert 'inputmode="numeric"' in page
    assert 'autocomplete="one-time-code"' in page
    assert "<script" not in page


async def test_only_login_mails_hold_a_code(scene: Scene) -> None:
    owner = scene.owner()
    await scene.verify(new_fingerprint(), email=owner.address)
    assert "type this code" not in text_of(await scene.mailbox.next_mail(owner.address))
    assert await scene.context.store.redis.keys("code:*") == []
    await owner.open_link(link_in(await login_mail(owner)))


async def login_mail(owner: Owner) -> EmailMessage:
    await ask(owner)
    return await owner.mailbox.next_mail(owner.address)


async def test_the_code_of_a_fresh_link_from_the_account_page_works_too(scene: Scene, redis: Redis) -> None:
    owner = scene.owner()
    await owner.log_in()
    for key in await redis.keys("session:*"):
        await redis.hincrby(key, "began", -60 * 16)
    assert 'action="/login/code"' in (await owner.act("/account/link")).text
    code = code_in(await scene.mailbox.next_mail(owner.address))
    assert (await type_code(owner, code)).status_code == 303
    assert (await owner.http.get("/account/export")).status_code == 200


@pytest.mark.parametrize(("origin", "name"), [(HTTPS, "__Host-asker"), (None, "asker")])
async def test_the_cookie_is_for_this_server_and_no_script_and_lives_as_long_as_the_code(
    start: Start, origin: str | None, name: str
) -> None:
    scene = await start(**({"base_url": origin} if origin else {}))
    (cookie,) = (await ask(scene.owner())).headers.get_list("set-cookie")
    assert re.match(rf"{name}=[A-Za-z0-9_-]{{32}};", cookie)
    for part in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=600"):
        assert part in cookie
    assert ("Secure" in cookie) is bool(origin)
    assert "Domain" not in cookie


async def test_a_wrong_code_is_the_same_page_with_a_sentence(scene: Scene) -> None:
    owner = scene.owner()
    code = await mailed_code(owner)
    answer = await type_code(owner, wrong(code), email=owner.address)
    assert answer.status_code == 422
    assert "This code does not fit" in answer.text
    assert owner.address in answer.text
    assert 'action="/login/code"' in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert (await type_code(owner, code)).status_code == 303


async def test_what_the_form_carries_is_text(scene: Scene) -> None:
    owner = scene.owner()
    await ask(owner)
    page = (await type_code(owner, HOSTILE, email=HOSTILE)).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "{{7*7}}" in page


async def test_a_code_that_is_gone_is_one_page_that_offers_a_new_mail(scene: Scene, redis: Redis) -> None:
    pages = set()

    async def gone(owner: Owner, code: str) -> None:
        answer = await type_code(owner, code)
        assert answer.status_code == 410
        assert "set-cookie" not in answer.headers
        pages.add(answer.content)

    never, forged, tried, used, redeemed, old, late = (scene.owner() for _ in range(7))
    await gone(never, "123456")
    forged.http.cookies.set("asker", asker(None))
    await gone(forged, "123456")
    code = await mailed_code(tried)
    for _ in range(5):
        await type_code(tried, wrong(code))
    await gone(tried, code)
    code = await mailed_code(used)
    cookie = used.http.cookies["asker"]
    assert (await type_code(used, code)).status_code == 303
    used.http.cookies.set("asker", cookie)
    await gone(used, code)
    mail = await login_mail(redeemed)
    await scene.owner().open_link(link_in(mail))
    await gone(redeemed, code_in(mail))
    code = await mailed_code(old)
    await scene.context.books.sign_out(str(await redis.get(f"uid:{old.address}")))
    await gone(old, code)
    code = await mailed_code(late)
    for key in await redis.keys("code:*"):
        await redis.pexpire(key, 0)
    await gone(late, code)
    assert len(pages) == 1
    page = pages.pop().decode()
    assert "This code is of no use any more" in page
    assert 'action="/login"' in page


async def test_nobody_learns_from_codes_whether_a_mail_went_out(start: Start, redis: Redis) -> None:
    scene = await start(owners=("@example.org",), mail_interval=60)
    await ask(scene.owner(), "limited@example.org")
    stops = scene.context.stops.url("0" * 32, type(OWNER)("stopped@example.org"))
    assert (await scene.http.post(stops.removeprefix(scene.url))).status_code == 200
    seen = set()
    for address in ("mailed@example.org", "unserved@example.com", "limited@example.org", "stopped@example.org"):
        told = []
        browser = scene.owner()
        for again in (False, False, True):
            await scene.at_rest()
            if again:  # a while later, so that a mail goes out where one may
                uid = str(await redis.get(f"uid:{address}"))
                await redis.delete(f"limit:{{{uid}}}:login:interval")
            answer = await ask(browser, address)
            assert re.sub("=[^;]+", "", answer.headers["set-cookie"], count=1).startswith("asker;")
            told.append(answer.text.replace(address, "ADDRESS"))
            for _ in range(7):
                answer = await type_code(browser, "not a code")
                told.append(f"{answer.status_code} {sorted(answer.headers)} {answer.text}")
        seen.add(tuple(told))
    assert len(seen) == 1
    statuses = [line.partition(" ")[0] for line in seen.pop()]
    assert statuses.count("422") == 3 * 5
    assert statuses.count("410") == 3 * 2
    await scene.at_rest()
    assert sorted(to for to, _ in scene.mailbox.mails) == [
        "limited@example.org",
        "limited@example.org",
        "mailed@example.org",
        "mailed@example.org",
    ]


async def test_asking_twice_within_the_interval_keeps_the_code_of_the_only_mail(start: Start) -> None:
    owner = (await start(mail_interval=60)).owner()
    code = await mailed_code(owner)
    await ask(owner)
    assert (await type_code(owner, code)).status_code == 303


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_sites_page_cannot_type_a_code(scene: Scene, site: str) -> None:
    owner = scene.owner()
    code = await mailed_code(owner)
    answer = await owner.http.post("/login/code", data={"code": code}, headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 403
    assert (await type_code(owner, code)).status_code == 303


async def test_a_code_tells_the_owner_of_a_new_browser_as_a_link_does(scene: Scene) -> None:
    owner, other = scene.owner(), scene.owner()
    other.address = owner.address
    await owner.log_in()
    assert (await type_code(other, await mailed_code(other))).status_code == 303
    assert (await scene.mailbox.next_notice(owner.address))["Subject"] == "A new browser opened your book"
    assert (await type_code(other, await mailed_code(other))).status_code == 303
    await scene.at_rest()
    assert scene.mailbox.notices == []


async def test_signing_out_everywhere_ends_links_codes_sessions_and_open_pages_in_all_processes(start: Start) -> None:
    here, there = await start(), await start()
    owner = here.owner()
    await owner.log_in()
    far = there.owner(owner.address)
    far.http.cookies.update(owner.http.cookies)
    waiting = here.owner(owner.address)
    mail = await login_mail(waiting)
    async with following(owner) as near_stream, following(far) as far_stream:
        assert (await far.act("/logout/everywhere")).status_code == 200
        await near_stream.hear_end()
        await far_stream.hear_end()
    for each in (owner, far):
        assert (await each.http.get("/peers")).status_code == 303
    assert (await type_code(waiting, code_in(mail))).status_code == 410
    assert (await waiting.http.post(httpx.URL(link_in(mail)).path)).status_code == 410
