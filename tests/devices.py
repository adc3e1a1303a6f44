"""Devices that run the Python client of examples/python: real certificates on disk, real WebRTC."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiortc import RTCDataChannel
from peerbook_client import Peer, Peerbook

from tests.support import SECONDS, Owner, Scene


class PythonPeer:
    """One device. Every channel that somebody opens to it answers."""

    def __init__(self, book: Peerbook) -> None:
        self.book = book
        self.name = book.name
        self.states: list[tuple[str, str | None, int | None]] = []
        self.refused: list[str] = []
        self.outcomes: list[tuple[str, str, int]] = []
        self.channels: list[RTCDataChannel] = []
        self.closed: list[str] = []
        book.on("state", lambda *state: self.states.append(state))
        book.on("refused", self.refused.append)
        book.on("outcome", lambda *outcome: self.outcomes.append(outcome))
        book.on("closed", self.closed.append)
        book.on("channel", self._welcome)

    def _welcome(self, channel: RTCDataChannel, peer: Peer | None) -> None:
        self.channels.append(channel)
        if channel.label == "data":
            channel.on("message", lambda text: channel.send(f"{self.name} heard {text}"))

    @property
    def fp(self) -> str:
        return self.book.fp

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until it holds; looked at whenever the book has news."""
        async with asyncio.timeout(SECONDS):
            while not holds():
                await self.book.news()

    async def be_in(self) -> None:
        await self.until(lambda: self.book.state == "in")

    async def went_away(self, code: int) -> None:
        """Wait until the server closed with that code."""
        await self.until(lambda: any(state[2] == code for state in self.states))

    async def join(self, owner: Owner) -> "PythonPeer":
        """Be approved by the code that it shows, and be in."""
        await self.until(lambda: self.book.pair)
        if "session" not in {cookie.name for cookie in owner.http.cookies.jar}:
            await owner.log_in()
        await owner.approve(self.fp, pair=str(self.book.pair))
        await self.be_in()
        return self


async def answer_on(channel: RTCDataChannel, text: str) -> str:
    """What the other side answers."""
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    channel.once("message", heard.set_result)
    channel.send(text)
    return await asyncio.wait_for(heard, SECONDS)


@asynccontextmanager
async def python_peer(scene: Scene, folder: Path, owner: Owner, name: str, **options: Any) -> AsyncIterator[PythonPeer]:
    """A device that connects to the server, and comes back at once where others would wait."""
    given: dict[str, Any] = {"server": scene.url, "email": owner.address, "name": name, "random": lambda: 0.0} | options
    book = Peerbook(identity=folder / f"{name}.pem", **given)
    peer = PythonPeer(book)
    async with book:
        yield peer
