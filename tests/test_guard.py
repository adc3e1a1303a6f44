"""What another site's page can have a browser send, and what becomes of it: tables of promises, one cell a request.

Rows are what `Sec-Fetch-Site` says, columns are what `Origin` says. Browsers that have the first always send it over
https and to localhost; older ones, and all of them over plain http, send the second with a post or neither.
"""

import re
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.support import Device, Owner, Scene, new_fingerprint

SITES = ["absent", "none", "same-origin", "same-site", "cross-site"]
ORIGINS = ["absent", "ours", "foreign", "null", "port"]

# An act on the book, with the owner's cookie: our own page says so, or nothing is done.
ACT_WITH_COOKIE = """
                absent  ours    foreign null    port
    absent      403     done    403     403     403
    none        done    done    done    done    done
    same-origin done    done    done    done    done
    same-site   403     403     403     403     403
    cross-site  403     403     403     403     403
"""
# Without it there is nobody to act for, and a foreign page does not even learn that.
ACT_WITHOUT_COOKIE = """
                absent  ours    foreign null    port
    absent      403     home    403     403     403
    none        home    home    home    home    home
    same-origin home    home    home    home    home
    same-site   403     403     403     403     403
    cross-site  403     403     403     403     403
"""
# Looking changes nothing, so every link to the page works; who comes from elsewhere cannot read what it shows.
LOOK_WITH_COOKIE = """
                absent  ours    foreign null    port
    absent      page    page    page    page    page
    none        page    page    page    page    page
    same-origin page    page    page    page    page
    same-site   page    page    page    page    page
    cross-site  page    page    page    page    page
"""
LOOK_WITHOUT_COOKIE = """
                absent  ours    foreign null    port
    absent      home    home    home    home    home
    none        home    home    home    home    home
    same-origin home    home    home    home    home
    same-site   home    home    home    home    home
    cross-site  again   again   again   again   again
"""
# What needs no cookie: the address or the link is what counts. A foreign page is refused, a program is not.
FORM = """
                absent  ours    foreign null    port
    absent      done    done    403     403     403
    none        done    done    done    done    done
    same-origin done    done    done    done    done
    same-site   403     403     403     403     403
    cross-site  403     403     403     403     403
"""

PAGE = {"Accept": "text/html"}

Send = Callable[[dict[str, str]], Awaitable[str]]


def word_of(answer: httpx.Response) -> str:
    """The answer as the tables say it, but for "done", which has to be seen."""
    if answer.status_code == 303:
        return {"/": "home", "/peers": "book"}[answer.headers["location"]]
    if answer.status_code == 200:
        return "again" if "http-equiv" in answer.text else "page"
    return str(answer.status_code)


def headers_of(scene: Scene, site: str, origin: str) -> dict[str, str]:
    """What a browser says in that row and column."""
    another_port = re.sub(r"\d+$", "1", scene.url)
    spelled = {"ours": scene.url, "foreign": "https://evil.example", "null": "null", "port": another_port}
    headers = {} if site == "absent" else {"Sec-Fetch-Site": site}
    return headers if origin == "absent" else headers | {"Origin": spelled[origin]}


async def act(scene: Scene, owner: Owner, device: Device) -> Send:
    """Renames the device."""

    async def send(headers: dict[str, str]) -> str:
        name = f"name {new_fingerprint()[:8]}"
        answer = await scene.http.post(f"/peers/{device.fp}/rename", data={"name": name}, headers=headers)
        done = (await device.peers())[0]["name"] == name
        assert done == (word_of(answer) == "book")
        return "done" if done else word_of(answer)

    return send


async def look(scene: Scene, owner: Owner, device: Device) -> Send:
    """Opens the device page."""

    async def send(headers: dict[str, str]) -> str:
        return word_of(await scene.http.get("/peers", headers=headers))

    return send


async def login(scene: Scene, owner: Owner, device: Device) -> Send:
    """Asks for a mail."""

    async def send(headers: dict[str, str]) -> str:
        answer = await scene.http.post("/login", data={"email": owner.address}, headers=headers)
        await scene.at_rest()
        mails = [to for to, _ in scene.mailbox.mails]
        scene.mailbox.mails.clear()
        assert mails == ([owner.address] if answer.status_code == 200 else [])
        return "done" if mails else word_of(answer)

    return send


async def redeem(scene: Scene, owner: Owner, device: Device) -> Send:
    """Presses the button of a mailed link, a new one each time."""

    async def send(headers: dict[str, str]) -> str:
        await owner.http.post("/login", data={"email": owner.address})
        path = httpx.URL(await scene.mailbox.next_link(owner.address)).path
        answer = await scene.http.post(path, headers=headers)
        done = "set-cookie" in answer.headers
        assert (await scene.http.get(path)).status_code == (410 if done else 200), "a refused link stays good"
        return "done" if done else word_of(answer)

    return send


async def sign_out(scene: Scene, owner: Owner, device: Device) -> Send:
    """Presses the button that signs out everywhere, of a new notice each time."""

    async def send(headers: dict[str, str]) -> str:
        await owner.log_in()
        book = await scene.context.books.read(await owner.uid())
        assert book
        path = httpx.URL(scene.context.sessions.sign_out_url(book)).path
        answer = await scene.http.post(path, headers=headers)
        done = (await owner.http.get("/peers")).status_code == 303
        assert done == (answer.status_code == 200)
        return "done" if done else word_of(answer)

    return send


@pytest.mark.parametrize(
    ("what", "cookie", "promises"),
    [
        (act, True, ACT_WITH_COOKIE),
        (act, False, ACT_WITHOUT_COOKIE),
        (look, True, LOOK_WITH_COOKIE),
        (look, False, LOOK_WITHOUT_COOKIE),
        (login, True, FORM),
        (login, False, FORM),
        (redeem, True, FORM),
        (redeem, False, FORM),
        (sign_out, True, FORM),
        (sign_out, False, FORM),
    ],
)
async def test_each_request_is_answered_as_the_table_promises(
    scene: Scene, what: Callable[[Scene, Owner, Device], Awaitable[Send]], cookie: bool, promises: str
) -> None:
    owner = scene.owner()
    device = await scene.join(owner)
    await scene.at_rest()
    scene.mailbox.mails.clear()
    with_cookie = {"Cookie": f"session={owner.http.cookies['session']}"} if cookie else {}
    send = await what(scene, owner, device)
    columns, *rows = [line.split() for line in promises.strip().splitlines()]
    assert columns == ORIGINS
    assert [site for site, *_ in rows] == SITES
    for site, *cells in rows:
        answers = [await send(PAGE | with_cookie | headers_of(scene, site, origin)) for origin in ORIGINS]
        assert answers == cells, f"Sec-Fetch-Site {site}"


@pytest.mark.parametrize("said", ["", "none, same-origin", "Same-Origin", "self"])
async def test_a_word_that_no_browser_says_is_refused(scene: Scene, said: str) -> None:
    owner = scene.owner()
    device = await scene.join(owner)
    headers = {"Sec-Fetch-Site": said, "Origin": scene.url}
    answer = await owner.http.post(f"/peers/{device.fp}/revoke", headers=headers)
    assert answer.status_code == 403
    await device.hears_nothing()


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_no_unsafe_route_of_the_owners_pages_is_without_the_guard(scene: Scene, site: str) -> None:
    owner = scene.owner()
    device = await scene.join(owner)
    programs = {"/verify", "/turn", "/iceservers"}  # no cookie counts there
    unsafe = {
        (method, f"/{route.path}")
        for route in scene.running.app.router.routes
        for method in route.methods - {"GET", "HEAD", "OPTIONS"}
        if f"/{route.path}" not in programs
    }
    assert unsafe >= {("POST", "/peers"), ("POST", "/login"), ("POST", "/link/<token:str>"), ("POST", "/logout")}
    for method, route in unsafe:
        path = re.sub(r"<\w+:str>", "x", route.replace("<fp:str>", device.fp))
        for cookies in (owner.http.cookies, None):
            scene.http.cookies = cookies or httpx.Cookies()
            answer = await scene.http.request(method, path, headers={"Sec-Fetch-Site": site})
            assert (answer.status_code, answer.json()["code"]) == (403, 403), (method, path)
    await device.hears_nothing()
    assert "Your devices" in await owner.page()
