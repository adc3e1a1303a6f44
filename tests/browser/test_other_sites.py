"""Pages of other sites in a real browser: what they may ask where their origin is allowed, and what they never get."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.browser.person import Person
from tests.conftest import Start
from tests.support import Device, Scene, new_fingerprint

pytestmark = pytest.mark.timeout(120)

ASK = """async ([url, body]) => {
    try {
        const headers = {"Content-Type": "application/json"};
        const answer = await fetch(url + "/verify", {method: "POST", headers, body: JSON.stringify(body)});
        return [answer.status, await answer.json()];
    } catch (error) { return [0, String(error)]; }
}"""
ASK_UNREAD = """([url, body]) => fetch(url + "/verify", {method: "POST", mode: "no-cors", body: JSON.stringify(body)})
    .then(answer => answer.type)"""
DIAL = """url => new Promise(done => {
    const socket = new WebSocket(url);
    socket.onmessage = event => { done(JSON.parse(event.data).code); socket.close(); };
    socket.onclose = event => done(event.code);
})"""
READ = """url => fetch(url, {credentials: "include"}).then(answer => answer.text(), error => error.name)"""
FOLLOW = """url => new Promise(done => {
    const stream = new EventSource(url, {withCredentials: true});
    stream.addEventListener("book", event => done(event.data));
    stream.onerror = () => { stream.close(); done("refused"); };
})"""
POST = """([url, form]) => fetch(url, {
    method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams(form),
}).then(answer => answer.type)"""
SUBMIT = """([url, form]) => {
    const element = document.createElement("form");
    element.method = "post";
    element.action = url;
    for (const [name, value] of Object.entries(form)) {
        const input = document.createElement("input");
        [input.name, input.value] = [name, value];
        element.append(input);
    }
    document.body.append(element);
    element.submit();
}"""
FRAME = """url => new Promise(done => {
    const frame = document.createElement("iframe");
    frame.onload = () => {
        try { done(String(frame.contentDocument && frame.contentDocument.title)); } catch (error) { done(error.name); }
    };
    frame.src = url;
    document.body.append(frame);
})"""


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port of another site: one blank page, at 127.0.0.1 (our own host) and at localhost (another one)."""
    page = b"<!doctype html><title>Another site</title><link rel=icon href=data:,><p>Hello."

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
            % (len(page), page)
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def browser(chromium: Browser) -> AsyncIterator[BrowserContext]:
    context = await chromium.new_context()
    yield context
    await context.close()


@pytest.fixture
async def stranger(browser: BrowserContext, port: int) -> Page:
    """A page of a site on another host."""
    page = await browser.new_page()
    await page.goto(f"http://localhost:{port}/")
    return page


def question(scene: Scene) -> list[Any]:
    return [scene.url, {"fp": new_fingerprint(), "email": scene.owner().address}]


def socket_url(scene: Scene) -> str:
    return f"{scene.url.replace('http', 'ws', 1)}/ws?fp={new_fingerprint()}"


# What programs ask


@pytest.mark.parametrize("listed", [False, True])
async def test_a_page_of_an_allowed_origin_asks_and_dials(
    start: Start, stranger: Page, port: int, listed: bool
) -> None:
    scene = await start(allowed_origins=(f"http://localhost:{port}",) if listed else ())
    status, answer = await stranger.evaluate(ASK, question(scene))
    assert (status, answer["verified"]) == (200, False)
    status, answer = await stranger.evaluate(ASK, [scene.url, {"fp": "bad"}])
    assert (status, answer["code"]) == (400, 400), "errors can be read as well"
    assert await stranger.evaluate(DIAL, socket_url(scene)) == 401, "it waits for its owner"


async def test_a_page_of_another_origin_neither_asks_nor_dials(start: Start, stranger: Page, port: int) -> None:
    scene = await start(allowed_origins=("https://app.example.org", f"http://127.0.0.1:{port}"))
    assert await stranger.evaluate(ASK, question(scene)) == [0, "TypeError: Failed to fetch"]
    assert await stranger.evaluate(ASK_UNREAD, question(scene)) == "opaque"
    assert await stranger.evaluate(DIAL, socket_url(scene)) == 1006, "the handshake failed"
    await scene.at_rest()
    assert scene.mailbox.mails == []
    assert not list(scene.context.connections)


# The owner's pages, in the browser in which the owner is logged in


@pytest.fixture
async def person(scene: Scene, chromium: Browser) -> AsyncIterator[Person]:
    context = await chromium.new_context(base_url=scene.url)
    person = Person(scene, scene.owner(), context)
    await person.open_page()
    await person.log_in()
    yield person
    await context.close()


@pytest.fixture
async def device(scene: Scene, person: Person) -> Device:
    """A device of the owner's, approved in the browser."""
    device = await scene.connect(email=person.owner.address, name="laptop")
    await device.hear()
    await person.card("laptop").get_by_role("button", name="Approve").click()
    await device.hear_until(lambda heard: "peers" in heard)
    return device


async def assert_all_is_as_it_was(person: Person, device: Device) -> None:
    await device.hears_nothing()
    await person.page.goto("/peers")
    await expect(person.row("laptop")).to_be_visible()


# "127.0.0.1" is another port of our own host: the browser calls it same-site and sends the owner's cookie along.
other_hosts = pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])


@other_hosts
async def test_another_sites_page_reads_nothing_of_the_owners(
    scene: Scene, person: Person, device: Device, port: int, host: str
) -> None:
    page = await person.context.new_page()
    await page.goto(f"http://{host}:{port}/")
    for path in ("/peers", "/account/export", "/"):
        assert await page.evaluate(READ, scene.url + path) == "TypeError", path
    assert await page.evaluate(FOLLOW, f"{scene.url}/peers/events") == "refused"
    # A page that must not be framed is replaced by one of the browser's own, which belongs to nobody.
    assert await page.evaluate(FRAME, f"{scene.url}/peers") == "null"
    await page.evaluate("url => { window.opened = window.open(url); }", f"{scene.url}/peers")
    await page.wait_for_function("window.opened.closed")  # so it looks from here: what it shows is out of reach
    await assert_all_is_as_it_was(person, device)


@other_hosts
async def test_another_sites_page_does_nothing_in_the_owners_name(
    scene: Scene, person: Person, device: Device, port: int, host: str
) -> None:
    acts: list[tuple[str, dict[str, str]]] = [
        (f"/peers/{device.fp}/revoke", {}),
        (f"/peers/{device.fp}/remove", {}),
        ("/peers/revoke", {"fp": device.fp}),
        ("/account/delete", {"email": person.owner.address}),
        ("/logout/everywhere", {}),
        ("/logout", {}),
    ]
    page = await person.context.new_page()
    for path, form in acts:
        await page.goto(f"http://{host}:{port}/")
        assert await page.evaluate(POST, [scene.url + path, form]) == "opaque"
        async with page.expect_navigation(url=scene.url + path) as navigation:
            await page.evaluate(SUBMIT, [scene.url + path, form])
        answer = await navigation.value
        assert answer
        assert answer.status == 403, path
    await assert_all_is_as_it_was(person, device)


@other_hosts
async def test_another_sites_page_has_no_mail_sent(scene: Scene, person: Person, port: int, host: str) -> None:
    page = await person.context.new_page()
    await page.goto(f"http://{host}:{port}/")
    assert await page.evaluate(POST, [f"{scene.url}/login", {"email": "victim@example.org"}]) == "opaque"
    await scene.at_rest()
    assert scene.mailbox.mails == []
