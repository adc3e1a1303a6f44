"""Peers in browser tabs: pages of another site that import the server's peerbook.js."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Page

from tests.support import Owner, Scene

# Waiting times are not waited for, and every channel that somebody opens answers.
START = """async ([server, options]) => {
    const { Peerbook } = await import(`${server}/static/peerbook.js`);
    const book = window.book = new Peerbook({ random: () => 0, ...options });
    window.states = [];
    window.refused = [];
    window.outcomes = [];
    window.channels = [];
    window.ended = 0;
    book.addEventListener("closed", () => { ended += 1; });
    book.addEventListener("state", ({ detail }) => states.push(detail));
    book.addEventListener("refused", ({ detail }) => refused.push(detail.fp));
    book.addEventListener("outcome", ({ detail }) => outcomes.push(detail));
    book.addEventListener("channel", ({ detail }) => {
        channels.push(detail);
        detail.channel.onmessage = ({ data }) => detail.channel.send(`${book.name} heard ${data}`);
    });
    await book.start();
    return book.fp;
}"""
CONNECT = """async ([peer, timeout]) => {
    window.channel = await book.connect(peer, { timeout });
    window.ask = (text) => new Promise((done) => {
        channel.onmessage = ({ data }) => done(data);
        channel.send(text);
    });
}"""
BLANK = b"<!doctype html><title>A program</title><link rel=icon href=data:,><p>Hello."


@asynccontextmanager
async def other_site(page: bytes = BLANK) -> AsyncIterator[str]:
    """A site that is not the server's, with one page, a blank one; its origin."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(page) + page)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}"


class Tab:
    """A peer in a tab."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name
        self.fp = ""

    async def start(self, scene: Scene, owner: Owner, **options: Any) -> None:
        """Begin to connect to the server."""
        given = {"server": scene.url, "email": owner.address, "name": self.name} | options
        self.fp = await self.page.evaluate(START, [scene.url, given])

    async def join(self, scene: Scene, owner: Owner, **options: Any) -> "Tab":
        """Ask to join, be approved by the code that it shows, and be in."""
        await self.start(scene, owner, **options)
        await self.until("book.pair")
        if "session" not in {cookie.name for cookie in owner.http.cookies.jar}:
            await owner.log_in()
        await owner.approve(self.fp, pair=await self.see("book.pair"))
        await self.until("book.state === 'in'")
        return self

    async def connect(self, peer: str, seconds: float = 20) -> None:
        """Open a channel."""
        await self.page.evaluate(CONNECT, [peer, seconds * 1000])

    async def ask(self, text: str) -> str:
        """What the other side answers on the channel."""
        answer: str = await self.page.evaluate("text => ask(text)", text)
        return answer

    async def renegotiate(self, fp: str) -> None:
        """Restart ICE with a peer, and wait until both agreed on it."""
        ufrag = f"/ice-ufrag:(.*)/.exec(book.connection('{fp}').currentRemoteDescription.sdp)[1]"
        before = await self.see(ufrag)
        await self.see(f"book.connection('{fp}').restartIce()")
        await self.until(f"{ufrag} !== {json.dumps(before)}")

    async def see(self, expression: str) -> Any:
        """The value of an expression in the page, awaited."""
        return await self.page.evaluate(expression)

    async def until(self, expression: str) -> None:
        """Wait until it holds."""
        await self.page.wait_for_function(expression)


async def pair_of(
    open_tab: Callable[[str], Awaitable[Tab]], scene: Scene, owner: Owner, **options: Any
) -> tuple[Tab, Tab]:
    """Two tabs that are in."""
    phone, home = await open_tab("phone"), await open_tab("home-pi")
    await phone.join(scene, owner, **options)
    await home.join(scene, owner, **options)
    return phone, home
