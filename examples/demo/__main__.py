"""Starts a server of its own with the page /demo, and a Python peer in its book: `make demo`.

It needs no configuration and no internet. What it keeps is forgotten when it ends.
"""

import asyncio
import hashlib
import json
import os
import re
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

from aiortc import RTCDataChannel
from peerbook_client import Peer, Peerbook
from peerbook_client.files import messages

from app.handlers.demo import OWNER, PEER

ROOT = Path(__file__).parent.parent.parent
PORT = 8000
# On one's own machine nobody has to be kept from asking often.
_SETTINGS = {"DEMO": "1", "MAIL_INTERVAL": "0", "MAIL_HOURLY": "0", "MAIL_DAILY": "0", "ASK_RATE": "0"}
_LINK = re.compile(r"^(https?://\S+)/link/(\S+)$")


class Server:
    """The server's process. Its output is shown, but for the mail about our own peer."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def until(self, pattern: re.Pattern[str], *, shown: bool = False) -> re.Match[str]:
        """The next line that fits."""
        async for line in self._lines():
            if shown:
                print(line)
            if match := pattern.search(line):
                return match
        raise SystemExit("The server ended.")

    async def show(self) -> None:
        """Show all that it says until it ends."""
        async for line in self._lines():
            print(line, flush=True)

    async def _lines(self) -> AsyncIterator[str]:
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            yield line.decode().rstrip("\n")


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[Server]:
    """A peerbook with the demo's page, which ends with the block."""
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    environment = inherited | _SETTINGS | {"DATA_DIR": str(folder / "data"), "PORT": str(_port())}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app"), env=environment, cwd=ROOT, stdout=PIPE, stderr=STDOUT, process_group=0
    )
    try:
        yield Server(process)
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


def _port() -> int:
    """PORT, or the usual one, or any where that is taken."""
    if given := os.environ.get("PORT"):
        return int(given)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", PORT))
            return PORT
    return 0


def approve(link: str, fp: str, pair: str) -> None:
    """Do as an owner does: open the mailed link, press its button, and approve the device with that code."""
    origin = _LINK.sub(r"\1", link)
    opener = build_opener(HTTPCookieProcessor(CookieJar()))
    for address, fields in ((link, {}), (f"{origin}/peers/{fp}/approve", {"pair": pair})):
        headers = {"Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
        opener.open(Request(address, urlencode(fields).encode(), headers), timeout=10).close()  # noqa: S310 - our own


def welcome(book: Peerbook, channel: RTCDataChannel, peer: Peer | None) -> None:
    """Answer on a channel that somebody opened: talk, or take a file."""
    print(f"{PEER}: {peer.name if peer else 'somebody'} opened the channel {channel.label}", flush=True)
    if channel.label == "chat":
        channel.on("message", lambda text: channel.send(f"I heard “{text}”."))
    elif channel.label == "file":
        book.start_task(take_file(channel, messages(channel)))


async def take_file(channel: RTCDataChannel, incoming: AsyncIterator[str | bytes]) -> None:
    """Take a file, and say what came."""
    head, digest, size = json.loads(await anext(incoming)), hashlib.sha256(), 0
    while size < head["size"]:
        chunk = await anext(incoming)
        assert isinstance(chunk, bytes)
        digest.update(chunk)
        size += len(chunk)
    channel.send(f"I have {head['name']}, {size} bytes. Its SHA-256 begins with {digest.hexdigest()[:8]}.")


async def main() -> None:
    """Run until told to stop: by Ctrl-C, or SIGTERM."""
    me = asyncio.current_task()
    assert me
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, me.cancel)
    with tempfile.TemporaryDirectory(prefix="peerbook-demo-") as name:
        async with server(Path(name)) as running:
            url = (await running.until(re.compile(r"peerbook is at (\S+)")))[1]
            book = Peerbook(url, Path(name) / "home-pi.pem", email=OWNER, name=PEER, kind="pi")
            book.on("channel", lambda channel, peer: welcome(book, channel, peer))
            async with book:
                link = await running.until(_LINK)
                while book.pair is None:
                    await book.news()
                await asyncio.to_thread(approve, link[0], book.fp, book.pair)
                while book.state != "in":
                    await book.news()
                print(f"\nOpen {url}/demo\n\nMails to {OWNER} are shown here. Press Ctrl-C to end.\n", flush=True)
                await running.show()


if __name__ == "__main__":
    with suppress(asyncio.CancelledError):
        asyncio.run(main())
