"""Every secret opens the one door that it was made for. What opens none looks the same, whatever is wrong with it."""

import re
import time
from dataclasses import dataclass
from email.message import EmailMessage
from functools import partial

import pytest
from itsdangerous import TimestampSigner
from redis.asyncio import Redis

from app.tokens import Tokens
from tests.conftest import SECRET, Start
from tests.support import Owner, Scene, code_in, link_in, text_of

DOORS = ("link", "signout", "stop")
PURPOSES = {"link": "peerbook link", "signout": "peerbook sign out", "stop": "peerbook stop"}
OTHER_KEY = "another secret of at least 32 characters"


@dataclass
class Bunch:
    """An owner with one of each secret, none of them used but for the session."""

    owner: Owner
    tokens: dict[str, str]
    others: dict[str, str]


def token_in(mail: EmailMessage, door: str) -> str:
    match = re.search(rf"https?://\S+/{door}/(\S+)$", text_of(mail), re.M)
    assert match, text_of(mail)
    return match[1]


async def gather(scene: Scene, redis: Redis) -> Bunch:
    """Let an owner come by one of each secret."""
    owner, waiting = scene.owner(), scene.owner()
    await owner.log_in()
    await scene.join(owner)
    notice = await scene.mailbox.next_notice(owner.address)
    await scene.at_rest()
    scene.mailbox.mails.clear()
    await waiting.http.post("/login", data={"email": owner.address})
    mail = await scene.mailbox.next_mail(owner.address)
    tokens = {"link": token_in(mail, "link"), "signout": token_in(notice, "signout"), "stop": token_in(mail, "stop")}
    others = {name: owner.http.cookies[name] for name in ("session", "browser")}
    others |= {"asker": waiting.http.cookies["asker"], "code": code_in(mail).replace(" ", "")}
    others |= {
        "uid": await owner.uid(),
        "link's secret": str(Tokens((SECRET,), PURPOSES["link"], 60).read(tokens["link"])),
    }
    others |= {key: key.partition(":")[2].strip("{}") for key in map(str, await redis.keys("link:*"))}
    others |= {key: key.partition(":")[2].strip("{}") for key in map(str, await redis.keys("code:*"))}
    return Bunch(owner, tokens, others)


async def is_logged_in(owner: Owner) -> bool:
    return (await owner.http.get("/peers")).status_code == 200


async def gone_at(scene: Scene, door: str, token: str) -> set[bytes]:
    """The pages of a token that is no good there, to look at and to press."""
    page = {"Accept": "text/html"}
    seen = set()
    for method in ("GET", "POST", "HEAD"):
        answer = await scene.http.request(method, f"/{door}/{token}", headers=page)
        assert answer.status_code == 410, (door, method)
        assert "set-cookie" not in answer.headers
        if method != "HEAD":
            seen.add(answer.content)
    return seen


async def test_no_secret_opens_a_door_that_it_was_not_made_for(scene: Scene, redis: Redis) -> None:
    bunch = await gather(scene, redis)
    pages: set[bytes] = set()
    for door in DOORS:
        for name, secret in (bunch.tokens | bunch.others).items():
            if name != door:
                pages |= await gone_at(scene, door, secret)
    assert len(pages) == 1
    for name, secret in (bunch.tokens | bunch.others).items():
        if name != "session":
            thief = scene.owner()
            thief.http.cookies.set("session", secret)
            assert not await is_logged_in(thief), name
            thief.http.cookies.set("session", f"{bunch.others['uid']}.{secret}")
            assert not await is_logged_in(thief), name
        if name != "asker":
            thief = scene.owner()
            thief.http.cookies.set("asker", secret)
            answer = await thief.http.post("/login/code", data={"code": bunch.others["code"]})
            assert answer.status_code == 410, name
    assert await is_logged_in(bunch.owner)
    for door in ("stop", "link", "signout"):
        assert (await scene.http.get(f"/{door}/{bunch.tokens[door]}")).status_code == 200
    assert (await scene.http.post(f"/link/{bunch.tokens['link']}")).status_code == 303


async def test_what_we_sign_for_one_purpose_is_none_for_another(scene: Scene, redis: Redis) -> None:
    bunch = await gather(scene, redis)
    signers = {door: Tokens((SECRET,), purpose, 10**6) for door, purpose in PURPOSES.items()}
    for door, token in bunch.tokens.items():
        value = signers[door].read(token)
        for purpose in set(DOORS) - {door}:
            await gone_at(scene, door, signers[purpose].sign(value))
        assert (await scene.http.get(f"/{door}/{signers[door].sign(value)}")).status_code == 200


@pytest.mark.parametrize("door", DOORS)
async def test_a_token_that_is_changed_cut_foreign_or_too_old_shows_the_page_of_a_made_up_one(
    scene: Scene, redis: Redis, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    bunch = await gather(scene, redis)
    token, purpose = bunch.tokens[door], PURPOSES[door]
    value = Tokens((SECRET,), purpose, 60).read(token)
    bad = {token[:-1], token[1:], token + "x", token.rpartition(".")[0], token[: len(token) // 2], token.swapcase()}
    bad |= {f"{token[:3]}{'A' if token[3] != 'A' else 'B'}{token[4:]}", Tokens((OTHER_KEY,), purpose, 60).sign(value)}
    with monkeypatch.context() as patch:
        for date in (0, int(time.time()) - 366 * 86400, int(time.time()) + 120):
            patch.setattr(TimestampSigner, "get_timestamp", partial(int, date))
            bad.add(Tokens((SECRET,), purpose, 60).sign(value))
    pages = await gone_at(scene, "link", "made-up")
    for each in bad:
        pages |= await gone_at(scene, door, each)
    assert len(pages) == 1
    assert (await scene.http.get(f"/{door}/{token}")).status_code == 200, "and the good one is still good"


async def test_a_redeemed_an_expired_and_an_outdated_link_show_that_very_page(scene: Scene, redis: Redis) -> None:
    pages = await gone_at(scene, "link", "made-up")
    owner = scene.owner()

    async def mailed() -> EmailMessage:
        await owner.http.post("/login", data={"email": owner.address})
        return await scene.mailbox.next_mail(owner.address)

    redeemed = await mailed()
    await owner.open_link(link_in(redeemed))
    expired = token_in(await mailed(), "link")
    for key in await redis.keys("link:*"):
        await redis.pexpire(key, 0)
    outdated = token_in(await mailed(), "link")
    await scene.join(owner)
    sign_out = token_in(await scene.mailbox.next_notice(owner.address), "signout")
    assert (await owner.act("/logout/everywhere")).status_code == 200
    for token in (token_in(redeemed, "link"), expired, outdated):
        pages |= await gone_at(scene, "link", token)
    pages |= await gone_at(scene, "signout", sign_out)
    assert len(pages) == 1


async def test_a_key_that_was_taken_away_closes_every_door_that_it_signed_for(start: Start, redis: Redis) -> None:
    before = await start(secret_key=(OTHER_KEY,))
    both, after = await start(secret_key=(SECRET, OTHER_KEY)), await start()
    owner = before.owner()
    await owner.log_in()
    await before.join(owner)
    notice = await before.mailbox.next_notice(owner.address)
    await before.at_rest()
    before.mailbox.mails.clear()
    await owner.http.post("/login", data={"email": owner.address})
    mail = await before.mailbox.next_mail(owner.address)
    pages = set()
    for door, token in {door: token_in(notice if door == "signout" else mail, door) for door in DOORS}.items():
        assert (await both.http.get(f"/{door}/{token}")).status_code == 200
        pages |= await gone_at(after, door, token)
    assert len(pages) == 1
    # No key signs a session: it goes on.
    there = after.owner()
    there.http.cookies.set("session", owner.http.cookies["session"])
    assert await is_logged_in(there)
