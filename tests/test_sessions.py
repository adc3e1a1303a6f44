"""Links and sessions: a link opens its book once, a session its browser, and the store could open neither."""

import asyncio
import hashlib
import time
from typing import Any

import pytest
from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from redis.asyncio import Redis

from app.context import Context
from app.errors import LinkGone
from app.sessions import Login
from tests.conftest import OpenProcess
from tests.parts import OWNER, SECRET, a_device, verified

OTHER_KEY = "another secret of at least 32 characters"


@pytest.fixture
async def uid(process: Context) -> str:
    return await process.books.enroll(OWNER)


async def new_token(process: Context, uid: str) -> str:
    link = await process.sessions.issue_link(uid, OWNER)
    base, _, token = link.url.rpartition("/link/")
    assert base == "http://book.test"
    return token


async def redeem(process: Context, token: str, browser: str | None = None) -> Login:
    return await process.sessions.redeem_link(token, browser, "a browser")


async def log_in(process: Context, uid: str) -> Login:
    return await redeem(process, await new_token(process, uid))


async def is_gone(process: Context, token: str) -> None:
    with pytest.raises(LinkGone):
        await process.sessions.peek_link(token)
    with pytest.raises(LinkGone):
        await redeem(process, token)


def signer(key: str = SECRET, salt: str = "peerbook link", digest: Any = hashlib.sha256) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(key, salt=salt, signer_kwargs={"digest_method": digest})


# Links


async def test_a_link_opens_its_book_once(process: Context, uid: str) -> None:
    token = await new_token(process, uid)
    for _ in range(3):
        assert await process.sessions.peek_link(token) == OWNER
    login = await redeem(process, token)
    assert (login.uid, login.address) == (uid, OWNER)
    visit = await process.sessions.visit(login.cookie)
    assert visit
    assert visit.book.uid == uid
    await is_gone(process, token)


async def test_of_all_who_redeem_a_link_at_once_one_gets_in(process: Context, uid: str) -> None:
    token = await new_token(process, uid)
    outcomes = await asyncio.gather(*(redeem(process, token) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(outcome, Login) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, LinkGone) for outcome in outcomes) == 49


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "garbage", "%00", "\x00", "\udcff", "é", "x" * 10_000, "InNlY3JldCI.aaaaaa.sig"]
)
async def test_garbage_is_no_link(process: Context, token: str) -> None:
    await is_gone(process, token)


async def test_a_link_that_was_changed_or_cut_is_none(process: Context, uid: str) -> None:
    token = await new_token(process, uid)
    for index in range(0, len(token), 5):
        other = "A" if token[index] != "A" else "B"
        with pytest.raises(LinkGone):
            await process.sessions.peek_link(token[:index] + other + token[index + 1 :])
        with pytest.raises(LinkGone):
            await process.sessions.peek_link(token[:index])
    assert await process.sessions.peek_link(token) == OWNER


async def test_a_link_is_signed_with_our_key_for_this_purpose(process: Context, uid: str) -> None:
    secret = signer().loads(await new_token(process, uid))
    assert await process.sessions.peek_link(str(signer().dumps(secret))) == OWNER
    for other in (signer(OTHER_KEY), signer(salt="peerbook sign out"), signer(digest=hashlib.sha1)):
        await is_gone(process, str(other.dumps(secret)))


@pytest.mark.parametrize("value", [7, None, ["a"], {"a": 1}, ""])
async def test_what_we_signed_but_never_kept_opens_nothing(process: Context, value: object) -> None:
    await is_gone(process, str(signer().dumps(value)))


async def test_a_link_that_the_store_let_go_is_gone(process: Context, uid: str, redis: Redis) -> None:
    token = await new_token(process, uid)
    (key,) = await redis.keys("link:*")
    assert 590 <= await redis.ttl(key) <= 600
    await redis.delete(key)
    await is_gone(process, token)


@pytest.mark.parametrize(("skew", "good"), [(55, True), (65, False), (-655, True), (-665, False)])
async def test_clocks_may_differ_by_a_minute(
    process: Context, uid: str, monkeypatch: pytest.MonkeyPatch, skew: int, good: bool
) -> None:
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda signer: int(time.time()) + skew)
    token = await new_token(process, uid)
    if good:
        await redeem(process, token)
    else:
        await is_gone(process, token)


async def test_signing_out_everywhere_ends_links_and_sessions(process: Context, uid: str) -> None:
    login, token = await log_in(process, uid), await new_token(process, uid)
    assert await process.books.sign_out(uid)
    assert await process.sessions.visit(login.cookie) is None
    await is_gone(process, token)
    assert await process.sessions.visit((await log_in(process, uid)).cookie)


async def test_a_link_of_a_user_that_is_gone_opens_nothing(process: Context, uid: str, redis: Redis) -> None:
    token = await new_token(process, uid)
    await redis.delete(f"user:{{{uid}}}")
    await is_gone(process, token)


async def test_a_user_that_goes_while_the_link_is_redeemed_gets_no_session(
    process: Context, uid: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, settle = await new_token(process, uid), process.books.settle

    async def late(*args: Any) -> str:
        await redis.delete(f"user:{{{uid}}}")
        return await settle(*args)

    monkeypatch.setattr(process.books, "settle", late)
    with pytest.raises(LinkGone):
        await redeem(process, token)
    assert await redis.keys("session:*") == []


async def test_keys_can_be_changed_without_breaking_links_in_mails(open_process: OpenProcess) -> None:
    before = await open_process(secret_key=(OTHER_KEY,))
    uid = await before.books.enroll(OWNER)
    token = await new_token(before, uid)
    both, after = await open_process(secret_key=(SECRET, OTHER_KEY)), await open_process(secret_key=(SECRET,))
    assert await both.sessions.peek_link(token) == OWNER
    await is_gone(after, token)
    newest = await new_token(both, uid)
    assert await after.sessions.peek_link(newest) == OWNER
    await is_gone(before, newest)


# The owner settles in


async def test_an_owner_who_came_stays_with_all_that_waits_for_him(process: Context, uid: str, redis: Redis) -> None:
    await process.books.ask(uid, OWNER, a_device())
    await verified(process, uid)
    await log_in(process, uid)
    await process.books.ask(uid, OWNER, a_device("phone"))
    await process.books.enroll(OWNER)
    lasting = ["uid:you@example.org", *(f"{noun}:{{{uid}}}" for noun in ("user", "book", "version", "requests"))]
    assert [await redis.ttl(key) for key in [*lasting, *await redis.keys("peer:*")]] == [-1] * 6


async def test_a_user_whose_address_was_forgotten_while_the_link_was_in_the_mail_keeps_it(
    process: Context, uid: str, redis: Redis
) -> None:
    token = await new_token(process, uid)
    await redis.delete("uid:you@example.org")
    await redeem(process, token)
    assert await process.books.enroll(OWNER) == uid


async def test_a_browser_is_known_again(process: Context, uid: str) -> None:
    first = await log_in(process, uid)
    again = await redeem(process, await new_token(process, uid), first.browser)
    other = await log_in(process, uid)
    assert [login.new_browser for login in (first, again, other)] == [False, False, True]
    assert again.browser == first.browser != other.browser


async def test_a_garbled_browser_cookie_is_one_that_nobody_had(process: Context, uid: str) -> None:
    await log_in(process, uid)
    assert (await redeem(process, await new_token(process, uid), "\udcff")).new_browser


# Sessions


@pytest.mark.parametrize("cookie", [None, "", ".", "a", "a.b", ".secret", "no uid.secret", "é.é", "a.\udcff", "{a}.b"])
async def test_a_cookie_that_is_none_opens_nothing(process: Context, cookie: str | None) -> None:
    assert await process.sessions.visit(cookie) is None


async def test_a_cookie_opens_only_the_book_it_was_given_for(process: Context, uid: str) -> None:
    login = await log_in(process, uid)
    secret = login.cookie.partition(".")[2]
    other = await process.books.enroll(type(OWNER)("stranger@example.org"))
    for cookie in (f"{other}.{secret}", secret, f"{uid}.{secret}x", f"{uid}.", login.cookie.upper()):
        assert await process.sessions.visit(cookie) is None


async def test_a_session_that_is_used_goes_on(process: Context, uid: str, redis: Redis) -> None:
    login = await log_in(process, uid)
    (key,) = await redis.keys("session:*")
    await redis.expire(key, 100)
    assert await process.sessions.visit(login.cookie, prolong=False)
    assert await redis.ttl(key) <= 100
    assert await process.sessions.visit(login.cookie)
    assert await redis.ttl(key) > 43_000


async def test_no_session_goes_on_for_ever(process: Context, uid: str, redis: Redis) -> None:
    login = await log_in(process, uid)
    (key,) = await redis.keys("session:*")
    await redis.hset(key, "began", str(int(time.time()) - 604_790))
    assert await process.sessions.visit(login.cookie)
    await redis.hset(key, "began", str(int(time.time()) - 604_810))
    assert await process.sessions.visit(login.cookie) is None
    assert not await redis.exists(key)


async def test_a_sessions_age_is_by_the_stores_clock(
    process: Context, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    login, now = await log_in(process, uid), time.time
    monkeypatch.setattr(time, "time", lambda: now() + 604_810)
    visit = await process.sessions.visit(login.cookie)
    assert visit
    assert visit.fresh


async def test_a_session_is_fresh_for_a_quarter_of_an_hour(process: Context, uid: str, redis: Redis) -> None:
    login = await log_in(process, uid)
    (key,) = await redis.keys("session:*")
    for age, fresh in ((0, True), (890, True), (910, False)):
        await redis.hset(key, "began", str(int(time.time()) - age))
        visit = await process.sessions.visit(login.cookie)
        assert visit
        assert visit.fresh is fresh


async def test_logging_out_ends_this_session_only(process: Context, uid: str) -> None:
    here, there = await log_in(process, uid), await log_in(process, uid)
    await process.sessions.end(here.cookie)
    assert await process.sessions.visit(here.cookie) is None
    assert await process.sessions.visit(there.cookie)


async def test_a_session_that_ended_is_not_remembered_beside_its_user(process: Context, uid: str, redis: Redis) -> None:
    here, there = await log_in(process, uid), await log_in(process, uid)
    assert await redis.zcard(f"secrets:{{{uid}}}") == 4
    await process.sessions.end(here.cookie)
    left = await redis.zrange(f"secrets:{{{uid}}}", 0, -1)
    assert f"session:{hashlib.sha256(there.cookie.encode()).hexdigest()}" in left
    assert f"session:{hashlib.sha256(here.cookie.encode()).hexdigest()}" not in left


async def test_a_visit_shows_the_book_its_activity_and_the_session_that_opened_it(process: Context, uid: str) -> None:
    device = await verified(process, uid)
    login = await log_in(process, uid)
    visit = await process.sessions.visit(login.cookie)
    assert visit
    assert (visit.cookie, set(visit.book.peers), visit.fresh) == (login.cookie, {device.fp}, True)
    assert "approved" in {line.what for line in visit.activity}


async def test_links_sessions_and_browsers_are_too_long_to_guess(process: Context, uid: str) -> None:
    _, secret = signer().loads_unsafe(await new_token(process, uid))
    login = await log_in(process, uid)
    bits = {"link": secret, "session": login.cookie.partition(".")[2], "browser": login.browser}
    assert {name: len(text) * 6 // 8 * 8 for name, text in bits.items()} == {
        "link": 192,
        "session": 256,
        "browser": 192,
    }


# Signing out everywhere, from a mail


async def sign_out_token(process: Context, uid: str) -> str:
    book = await process.books.read(uid)
    assert book
    return process.sessions.sign_out_url(book).rpartition("/signout/")[2]


async def test_the_link_that_signs_out_works_once_and_shows_first(process: Context, uid: str) -> None:
    login, token = await log_in(process, uid), await sign_out_token(process, uid)
    for _ in range(2):
        assert await process.sessions.peek_sign_out(token) == OWNER
    assert await process.sessions.visit(login.cookie)
    await process.sessions.redeem_sign_out(token)
    assert await process.sessions.visit(login.cookie) is None
    with pytest.raises(LinkGone):
        await process.sessions.peek_sign_out(token)
    with pytest.raises(LinkGone):
        await process.sessions.redeem_sign_out(token)


async def test_no_other_token_signs_out(process: Context, uid: str) -> None:
    old = signer(salt="peerbook sign out")
    tokens = [
        "",
        "garbage",
        "\udcff",
        await new_token(process, uid),
        str(signer(OTHER_KEY, "peerbook sign out").dumps([uid, 1])),
        str(old.dumps(["nobody", 1])),
        str(old.dumps([uid, 2])),
    ]
    for token in tokens:
        with pytest.raises(LinkGone):
            await process.sessions.peek_sign_out(token)
        with pytest.raises(LinkGone):
            await process.sessions.redeem_sign_out(token)


@pytest.mark.parametrize(
    ("skew", "good"), [(55, True), (65, False), (-30 * 86400 - 55, True), (-30 * 86400 - 65, False)]
)
async def test_clocks_may_differ_by_a_minute_for_the_link_that_signs_out_too(
    process: Context, uid: str, monkeypatch: pytest.MonkeyPatch, skew: int, good: bool
) -> None:
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda signer: int(time.time()) + skew)
    token = await sign_out_token(process, uid)
    if good:
        await process.sessions.redeem_sign_out(token)
    else:
        with pytest.raises(LinkGone):
            await process.sessions.redeem_sign_out(token)


# What the store knows


async def test_a_copy_of_the_store_opens_nothing(process: Context, uid: str, redis: Redis) -> None:
    login, token = await log_in(process, uid), await new_token(process, uid)
    await verified(process, uid)
    dump: list[Any] = []
    for key in await redis.keys("*"):
        match await redis.type(key):
            case "string":
                dump += [key, await redis.get(key)]
            case "hash":
                dump += [key, str(await redis.hgetall(key))]
            case "set":
                dump += [key, str(await redis.smembers(key))]
            case "zset":
                dump += [key, str(await redis.zrange(key, 0, -1))]
            case "list":
                dump += [key, str(await redis.lrange(key, 0, -1))]
            case other:
                raise AssertionError(other)
    text = "\n".join(str(each) for each in dump)
    link_secret = str(signer().loads(token))
    for secret in (token, link_secret, login.cookie, login.cookie.partition(".")[2], login.browser, SECRET):
        assert secret not in text
    assert hashlib.sha256(link_secret.encode()).hexdigest() in text
