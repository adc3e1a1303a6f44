"""Stopping mails: the link in every mail, what it changes and what it does not, and how mails are allowed again."""

import email
import email.policy
import re
import time
from email.message import EmailMessage

import httpx
import pytest
from itsdangerous import TimestampSigner
from redis.asyncio import Redis

from app.addresses import Address
from app.context import Context
from app.errors import LinkGone
from tests.conftest import OpenProcess, Start
from tests.parts import OWNER, STRANGER
from tests.support import Owner, Scene, new_fingerprint, text_of

YEAR = 365 * 86400


def stop_in(mail: EmailMessage) -> str:
    """The path of the link in the mail's last line."""
    match = re.fullmatch(r"Stop mails to this address: https?://[^/]+(/stop/\S+)", text_of(mail).splitlines()[-1])
    assert match, text_of(mail)
    return match[1]


async def login_mail(scene: Scene, owner: Owner) -> EmailMessage:
    assert (await owner.http.post("/login", data={"email": owner.address})).status_code == 200
    return await scene.mailbox.next_mail(owner.address)


async def stopped(scene: Scene, owner: Owner) -> str:
    """Stop mails to that owner; the path of the link."""
    path = stop_in(await login_mail(scene, owner))
    assert (await scene.http.post(path)).status_code == 200
    return path


async def all_mails(scene: Scene) -> list[str]:
    """The subjects of all mails that came, taken out of the box."""
    await scene.at_rest()
    box = scene.mailbox
    found = [str(mail["Subject"]) for _, mail in box.mails + box.notices]
    box.mails, box.notices = [], []
    return found


# In every mail


async def every_mail(scene: Scene) -> list[EmailMessage]:
    """One of each kind."""
    owner, other = scene.owner(), scene.owner()
    other.address = owner.address
    fp = new_fingerprint()
    await scene.verify(fp, email=owner.address)
    mails = [await scene.mailbox.next_mail(owner.address), await login_mail(scene, owner)]
    await owner.log_in()
    await owner.approve(fp)
    mails.append(await scene.mailbox.next_notice(owner.address))
    await other.log_in()
    mails.append(await scene.mailbox.next_notice(owner.address))
    book = await scene.context.books.read(await owner.uid())
    assert book
    scene.context.notices.proof_changed(book, "laptop")
    mails.append(await scene.mailbox.next_notice(owner.address))
    return mails


async def test_every_mail_has_the_link_in_its_text_its_html_and_its_headers(scene: Scene) -> None:
    mails = await every_mail(scene)
    assert len({mail["Subject"] for mail in mails}) == 5
    for mail in mails:
        url = scene.url + stop_in(mail)
        html = mail.get_body(("html",))
        assert html
        assert f'href="{url}">Stop mails to this address</a>' in html.get_content()
        assert mail["List-Unsubscribe"] == f"<{url}>"
        assert (await scene.http.get(url)).status_code == 200


async def test_a_mail_program_may_unsubscribe_with_one_click_where_the_origin_is_https(start: Start) -> None:
    scene = await start(base_url="https://book.example.org")
    mail = await login_mail(scene, scene.owner())
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    path = httpx.URL(str(mail["List-Unsubscribe"])[1:-1]).path
    # As RFC 8058 has it: a bare POST, with no cookie, no Origin, and whatever Accept.
    answer = await scene.http.post(path, data={"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 200
    assert "Mails are stopped" in answer.text


async def test_over_plain_http_no_click_is_promised(scene: Scene) -> None:
    assert (await login_mail(scene, scene.owner()))["List-Unsubscribe-Post"] is None


async def test_the_link_in_the_header_is_whole_however_long_the_origin(start: Start) -> None:
    scene = await start(base_url=f"https://{'a' * 60}.{'b' * 60}.{'c' * 60}.example.org")
    mail = await login_mail(scene, scene.owner())
    source = mail.as_bytes(policy=email.policy.SMTP.clone(refold_source="none"))
    assert f"\r\nList-Unsubscribe: <{scene.context.settings.base_url}{stop_in(mail)}>\r\n".encode() in source


async def test_no_address_stands_in_the_link(process: Context) -> None:
    path = process.stops.url("0" * 32, OWNER)
    decoded = process.stops._tokens.read(path.rpartition("/")[2])
    assert decoded[0] == "0" * 32
    assert re.fullmatch(r"[0-9a-f]{64}", decoded[1])
    assert "example" not in str(decoded).lower()


# Looking and pressing


async def test_looking_at_the_link_changes_nothing(scene: Scene, redis: Redis) -> None:
    owner = scene.owner("somebody@example.org")
    path = stop_in(await login_mail(scene, owner))
    await scene.at_rest()
    before = set(await redis.keys())
    for method in ("GET", "HEAD", "GET"):
        assert (await owner.http.request(method, path)).status_code == 200
    page = (await owner.http.get(path)).text
    assert "s…@example.org" in page
    assert owner.address not in page
    assert page.count("<button") == 1
    assert set(await redis.keys()) == before
    assert await login_mail(scene, owner)


async def test_no_mail_of_any_kind_goes_to_a_stopped_address_and_every_answer_stays_the_same(scene: Scene) -> None:
    owner, other = scene.owner(), scene.owner()
    await owner.log_in()
    await other.log_in()
    await stopped(scene, owner)
    await all_mails(scene)
    answers = []
    for each in (owner, other):
        fp = new_fingerprint()
        asked = await scene.verify(fp, email=each.address)
        await each.approve(fp)
        page = (await scene.owner().http.post("/login", data={"email": each.address})).text
        fresh = (await each.act("/account/link")).text
        answers.append((asked.keys(), page.replace(each.address, ""), fresh.replace(Address(each.address).masked, "")))
    assert answers[0] == answers[1]
    await scene.at_rest()
    assert {to for to, _ in scene.mailbox.mails + scene.mailbox.notices} == {other.address}
    assert sorted(await all_mails(scene)) == [
        "A device asks to join your book",
        "A device joined your book",
        "Your link to peerbook",
        "Your link to peerbook",
    ]


async def test_the_page_of_a_stopped_address_allows_mails_again(scene: Scene) -> None:
    owner = scene.owner()
    path = await stopped(scene, owner)
    page = (await scene.http.get(path)).text
    assert "Mails are stopped" in page
    assert 'name="allow"' in page
    answer = await scene.http.post(path, data={"allow": "1"})
    assert answer.status_code == 200
    assert "Stop mails to this address?" in answer.text
    assert await login_mail(scene, owner)


async def test_stopping_twice_and_allowing_twice_change_nothing_more(scene: Scene) -> None:
    owner = scene.owner()
    path = await stopped(scene, owner)
    assert "Mails are stopped" in (await scene.http.post(path)).text
    for _ in range(2):
        assert "Stop mails to this address?" in (await scene.http.post(path, data={"allow": "1"})).text


async def test_a_stop_holds_for_the_address_however_it_is_typed_and_for_no_other(scene: Scene) -> None:
    await stopped(scene, scene.owner("first.typed@example.org"))
    for address in ("First.Typed@Example.ORG", "typed@example.org"):
        await scene.http.post("/login", data={"email": address})
    await scene.at_rest()
    assert [to for to, _ in scene.mailbox.mails] == ["typed@example.org"]


async def test_a_stopped_mail_costs_the_server_nothing(start: Start, redis: Redis) -> None:
    scene = await start(mail_total_hourly=10)
    owner = scene.owner()
    await stopped(scene, owner)
    for _ in range(3):
        await owner.http.post("/login", data={"email": owner.address})
    await scene.at_rest()
    assert await redis.get("limit:{server}:mail:hour") == "1"


async def test_a_stop_outlives_its_account_and_its_link_works_on(scene: Scene) -> None:
    owner = scene.owner()
    await owner.log_in()
    path = await stopped(scene, owner)
    assert (await owner.act("/account/delete", email=owner.address)).status_code == 200
    page = (await scene.http.get(path)).text
    assert "the address of that mail" in page
    assert "Mails are stopped" in page
    await scene.verify(new_fingerprint(), email=owner.address)
    assert await all_mails(scene) == []
    assert (await scene.http.post(path, data={"allow": "1"})).status_code == 200
    assert await login_mail(scene, owner)


async def test_a_link_of_an_address_that_moved_to_another_book_shows_no_other_address(process: Context) -> None:
    uid = await process.books.enroll(STRANGER)
    stop = await process.stops.peek(process.stops.url(uid, OWNER).rpartition("/")[2])
    assert (stop.masked, stop.stopped) == ("", False)


async def test_a_stop_lasts_a_year_from_the_last_mail_that_it_held_back(process: Context, redis: Redis) -> None:
    token = process.stops.url("0" * 32, OWNER).rpartition("/")[2]
    await process.stops.stop(token)
    (key,) = await redis.keys("stop:*")
    assert "example" not in key
    assert YEAR - 5 <= await redis.ttl(key) <= YEAR
    await redis.expire(key, 100)
    await process.stops.peek(token)
    assert await redis.ttl(key) <= 100, "looking prolongs nothing"
    assert await process.stops.hold_back(OWNER)
    assert YEAR - 5 <= await redis.ttl(key) <= YEAR
    assert not await process.stops.hold_back(STRANGER)


@pytest.mark.parametrize(("age", "good"), [(YEAR + 55, True), (YEAR + 65, False), (-55, True), (-65, False)])
async def test_the_link_is_good_for_a_year(
    process: Context, monkeypatch: pytest.MonkeyPatch, age: int, good: bool
) -> None:
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda signer: int(time.time()) - age)
    token = process.stops.url("0" * 32, OWNER).rpartition("/")[2]
    for act in (process.stops.peek, process.stops.stop, process.stops.allow):
        if good:
            await act(token)
        else:
            with pytest.raises(LinkGone):
                await act(token)


async def test_a_stop_outlives_the_keys_and_its_link_all_keys_but_its_own(open_process: OpenProcess) -> None:
    first, second = "first secret of at least 32 characters", "second secret of at least 32 characters"
    before = await open_process(secret_key=(first,))
    both, after = await open_process(secret_key=(second, first)), await open_process(secret_key=(second,))
    token = before.stops.url("0" * 32, OWNER).rpartition("/")[2]
    await both.stops.stop(token)
    assert await after.stops.hold_back(OWNER)
    with pytest.raises(LinkGone):
        await after.stops.allow(token)
    assert await after.stops.hold_back(OWNER)


@pytest.mark.parametrize("data", [None, {"allow": "1"}])
async def test_another_sites_page_cannot_press_the_button(scene: Scene, data: dict[str, str] | None) -> None:
    owner = scene.owner()
    path = await stopped(scene, owner) if data else stop_in(await login_mail(scene, owner))
    before = (await scene.http.get(path)).text
    for foreign in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
        assert (await owner.http.post(path, data=data, headers=foreign)).status_code == 403
    assert (await scene.http.post(path, data=data, headers={"Origin": "https://evil.example"})).status_code == 403
    assert (await scene.http.get(path)).text == before
