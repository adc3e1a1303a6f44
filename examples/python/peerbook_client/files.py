"""Shares a folder with the other devices of a book: they list its files and download them over a data channel.

    python -m peerbook_client.files --server http://localhost:8000 --email you@example.org FOLDER

The channel is called `files`. Asked `{"list": true}`, it answers `{"files": [{"name", "size"}, …]}`; asked
`{"get": name}`, it sends `{"name", "size"}`, then so many bytes in binary messages. What can't be served is
answered with `{"error": text}`. A page that speaks this is examples/browser/files.html.
"""

import argparse
import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from aiortc import RTCDataChannel

from peerbook_client.book import Peer, Peerbook

LABEL = "files"
CHUNK = 16384
_MOST_BUFFERED = 1 << 20


class Share:
    """A folder that is shared: the files that lie right in it, no hidden ones and none that a link leads to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def files(self) -> list[dict[str, Any]]:
        """Name and size of each file, by name."""
        paths = (path for path in self._folder.iterdir() if self._shows(path))
        return [{"name": path.name, "size": path.stat().st_size} for path in sorted(paths)]

    def path(self, name: object) -> Path | None:
        """The file of that name, if it is shared."""
        return next((path for path in self._folder.iterdir() if path.name == name and self._shows(path)), None)

    @staticmethod
    def _shows(path: Path) -> bool:
        return path.is_file() and not path.is_symlink() and not path.name.startswith(".")

    async def serve(self, channel: RTCDataChannel, asked: AsyncIterator[str | bytes]) -> None:
        """Answer what is asked on the channel, one thing after the other, until it closes."""
        async for message in asked:
            await self._answer(channel, message)

    async def _answer(self, channel: RTCDataChannel, message: str | bytes) -> None:
        try:
            asked = json.loads(message)
        except ValueError:
            asked = None
        path = self.path(asked.get("get")) if isinstance(asked, dict) else None
        if isinstance(asked, dict) and asked.get("list"):
            channel.send(json.dumps({"files": self.files()}))
        elif path:
            await _send_file(channel, path)
        else:
            channel.send(json.dumps({"error": "There is no such file."}))


async def list_files(channel: RTCDataChannel) -> list[dict[str, Any]]:
    """What the other side shares."""
    incoming = messages(channel)
    channel.send(json.dumps({"list": True}))
    answer: dict[str, Any] = json.loads(await anext(incoming))
    return list(answer["files"])


async def download(channel: RTCDataChannel, name: str) -> bytes:
    """A file that the other side shares; raises FileNotFoundError."""
    incoming = messages(channel)
    channel.send(json.dumps({"get": name}))
    head = json.loads(await anext(incoming))
    if "error" in head:
        raise FileNotFoundError(name)
    data = b""
    while len(data) < head["size"]:
        chunk = await anext(incoming)
        assert isinstance(chunk, bytes)
        data += chunk
    return data


def messages(channel: RTCDataChannel) -> AsyncIterator[str | bytes]:
    """What comes on the channel from now on, until it closes."""
    queue: asyncio.Queue[str | bytes | None] = asyncio.Queue()
    channel.on("message", queue.put_nowait)
    channel.on("close", lambda: queue.put_nowait(None))

    async def each() -> AsyncIterator[str | bytes]:
        while (message := await queue.get()) is not None:
            yield message

    return each()


async def _send_file(channel: RTCDataChannel, path: Path) -> None:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        channel.send(json.dumps({"name": path.name, "size": size}))
        left = size
        while left and (chunk := file.read(min(CHUNK, left))):
            left -= len(chunk)
            await _drained(channel)
            channel.send(chunk)


async def _drained(channel: RTCDataChannel) -> None:
    """Wait while more is under way than a slow reader can take."""
    if channel.bufferedAmount < _MOST_BUFFERED:
        return
    low = asyncio.Event()
    channel.bufferedAmountLowThreshold = _MOST_BUFFERED // 2
    channel.once("bufferedamountlow", low.set)
    channel.once("close", low.set)
    await low.wait()


def share(book: Peerbook, folder: Path) -> None:
    """Have the peers of a book see that folder."""
    shared = Share(folder)

    def welcome(channel: RTCDataChannel, peer: Peer | None) -> None:
        if channel.label == LABEL:
            book.start_task(shared.serve(channel, messages(channel)))

    book.on("channel", welcome)


async def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """Share a folder until told to stop."""
    parser = argparse.ArgumentParser(
        prog="peerbook_client.files", description="Share a folder with your other devices."
    )
    parser.add_argument("folder", type=Path, help="whose files are shared")
    parser.add_argument("--server", default="http://localhost:8000", help="the peerbook's origin")
    parser.add_argument("--email", help="your mail address, or")
    parser.add_argument("--uid", help="your uid, from the device page")
    parser.add_argument("--name", default="files", help="how this device is called")
    parser.add_argument("--key", type=Path, default=Path.home() / ".peerbook.pem", help="certificate and private key")
    given = parser.parse_args(arguments)
    book = Peerbook(given.server, given.key, email=given.email, uid=given.uid, name=given.name, kind="server")
    book.on("state", lambda state, pair, code: say(f"{state}{f', code {pair}' if pair else ''}"))
    book.on("channel", lambda channel, peer: say(f"{peer.name if peer else 'somebody'} opened {channel.label}"))
    share(book, given.folder)
    async with book:
        while book.state != "stopped":
            await book.news()


if __name__ == "__main__":
    asyncio.run(main())
