"""Who we are comes from BASE_URL alone: no header of a request changes a link, a redirect or a page."""

import re
from email.message import EmailMessage

import httpx
import pytest

from tests.conftest import Start
from tests.support import Scene, link_in, new_fingerprint

OURS = "http://book.example.org"
EVIL = "evil.example"
FORWARDED = f"for=203.0.113.7;by=203.0.113.8;host={EVIL};proto=https"
SPOOFS: dict[str, dict[str, str]] = {
    "host": {"Host": EVIL},
    "host with a port": {"Host": f"{EVIL}:4444"},
    "forwarded host": {"X-Forwarded-Host": EVIL},
    "forwarded server": {"X-Forwarded-Server": EVIL},
    "forwarded proto": {"X-Forwarded-Proto": "https"},
    "forwarded port": {"X-Forwarded-Port": "4444"},
    "forwarded path": {"X-Forwarded-Path": f"//{EVIL}/"},
    "forwarded prefix": {"X-Forwarded-Prefix": f"//{EVIL}"},
    "scheme": {"X-Scheme": "javascript"},
    "forwarded": {"Forwarded": FORWARDED},
    "original url": {"X-Original-URL": f"//{EVIL}/", "X-Rewrite-URL": f"//{EVIL}/"},
    "a proxy's host": {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Host": EVIL, "X-Forwarded-Proto": "https"},
    "all at once": {
        "Host": EVIL,
        "X-Forwarded-For": "203.0.113.6, 203.0.113.7",
        "X-Forwarded-Host": EVIL,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Port": "4444",
        "X-Forwarded-Path": f"//{EVIL}/",
        "X-Scheme": "https",
        "Forwarded": FORWARDED,
    },
}

spoofs = pytest.mark.parametrize("spoof", SPOOFS.values(), ids=SPOOFS)
proxies = pytest.mark.parametrize("proxies", [0, 1])


def addresses_in(mail: EmailMessage) -> set[str]:
    """The origins of all addresses in a mail, in its text and in its HTML."""
    parts = [mail.get_body((kind,)) for kind in ("plain", "html")]
    text = "".join(part.get_content() for part in parts if part)
    return set(re.findall(r"(\w+://[^/\s\"]*)/", text))


def shape_of(answer: httpx.Response) -> tuple[int, str, str]:
    """All of an answer but the clock on the page."""
    return answer.status_code, str(answer.headers), re.sub(r'data-now="\d+"', "", answer.text)


@spoofs
@proxies
async def test_every_mail_leads_to_our_own_host(start: Start, proxies: int, spoof: dict[str, str]) -> None:
    scene = await start(base_url=OURS, proxies_count=proxies)
    mailbox, owner, again = scene.mailbox, scene.owner("owner@example.org"), scene.owner("owner@example.org")
    for each in (owner.http, again.http, scene.http):
        each.headers.update(spoof)

    fp = new_fingerprint()
    await scene.http.post("/verify", json={"fp": fp, "email": owner.address})
    mails = [await mailbox.next_mail(owner.address)]
    for browser in (owner, again):
        await browser.http.post("/login", data={"email": owner.address})
        mails.append(await mailbox.next_mail(owner.address))
        answer = await browser.http.post(link_in(mails[-1]).removeprefix(OURS))
        assert (answer.status_code, answer.headers["location"]) == (303, "/peers")
    await owner.approve(fp)
    mails += [await mailbox.next_notice(owner.address) for _ in ("a new browser", "a device")]

    for mail in mails:
        assert addresses_in(mail) == {OURS}, mail["Subject"]
        assert EVIL not in mail.as_string(), mail["Subject"]


@spoofs
@proxies
async def test_every_page_and_redirect_is_the_same_for_every_host(
    start: Start, proxies: int, spoof: dict[str, str]
) -> None:
    scene: Scene = await start(base_url=OURS, proxies_count=proxies)
    owner = scene.owner()
    await owner.http.post("/login", data={"email": owner.address})
    path = (await scene.mailbox.next_link(owner.address)).removeprefix(OURS)
    assert (await owner.http.post(path)).status_code == 303
    await scene.at_rest()
    asks = [
        ("GET", "/"),
        ("GET", "/peers"),
        ("GET", "/nowhere"),
        ("GET", path),
        ("GET", "/account/export"),
        ("POST", "/login"),
        ("POST", "/peers"),
        ("POST", "/turn"),
        ("DELETE", "/peers"),
    ]
    for http in (owner.http, scene.http):
        http.headers["Accept-Encoding"] = "identity"  # the clock on the page changes the length of the compressed one
        for method, where in asks:
            plain = await http.request(method, where)
            spoofed = await http.request(method, where, headers=spoof)
            assert shape_of(spoofed) == shape_of(plain), (method, where)
            assert EVIL not in spoofed.text
