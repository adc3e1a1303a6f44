"""A server's long-lived objects without its HTTP: what the tests of the rules play with. The store is real."""

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

from app.addresses import Address
from app.book import Change
from app.claims import NO_CLAIM
from app.connections import Connection
from app.context import Context
from app.owners import OwnerName
from app.peers import Device, Fingerprint
from app.settings import Settings
from tests.support import SECONDS, Message, new_fingerprint

OWNER = Address("You@example.org")
STRANGER = Address("stranger@example.org")
SECRET = "a secret that only the tests know, 32+"

_ids = itertools.count(1)


def new_context(store_url: str, **given: Any) -> Context:
    """One process's objects; several on one store are several processes."""
    fixed: dict[str, Any] = {
        "base_url": "http://book.test",
        "secret_key": (SECRET,),
        "mail_from": "book@example.org",
        "mail_interval": 0,
        "ask_rate": 0,
        "message_rate": 0,
        "max_requests_near": 0,
        "max_waiting_near": 0,
        "mail_hourly": 0,
        "mail_daily": 0,
        "mail_total_hourly": 0,
    }
    return Context(Settings(**fixed | given), store_url, show_mail=lambda mail: None)


def fingerprint() -> Fingerprint:
    """A fingerprint that nobody has seen yet."""
    return Fingerprint(new_fingerprint())


def a_device(name: str = "laptop", claim: str = NO_CLAIM, fp: Fingerprint | None = None) -> Device:
    """A device that may ask."""
    return Device(fp or fingerprint(), claim, name, "lab", "203.0.113.x")


async def verified(process: Context, uid: str, name: str = "laptop") -> Device:
    """A device that asked and was approved."""
    device = a_device(name)
    assert await process.books.ask(uid, None, device) == "asked"
    await process.books.approve(uid, device.fp)
    return device


class Listener:
    """Somebody who holds a Book: hears of its changes."""

    def __init__(self) -> None:
        self._changes: asyncio.Queue[Change] = asyncio.Queue()

    def __call__(self, change: Change) -> None:
        self._changes.put_nowait(change)

    async def hear(self, wanted: Callable[[Change], bool] = lambda change: True) -> Change:
        """The next change that is wanted."""
        while True:
            change = await asyncio.wait_for(self._changes.get(), SECONDS)
            if wanted(change):
                return change

    @property
    def heard_nothing(self) -> bool:
        return self._changes.empty()


class Socket:
    """A socket as the rules see it: what was sent to it, and the code with which it was closed."""

    def __init__(self, process: Context, device: Device, owner: OwnerName | None = None) -> None:
        self.process = process
        self.reads = True
        self.closed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.connection = Connection(device, owner, self._send, self._close)
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()

    def _send(self, frame: bytes) -> bool:
        if self.reads:
            self._heard.put_nowait(frame)
        return self.reads

    def _close(self, code: int, reason: str) -> None:
        if not self.closed.done():
            self.closed.set_result(code)
            self.process.background.start(self.leave())

    @property
    def fp(self) -> Fingerprint:
        return self.connection.fp

    async def arrive(self) -> "Socket":
        await self.process.presence.arrive(self.connection)
        return self

    async def come_in(self) -> "Socket":
        """Arrive, and read the 200 and the list."""
        await self.arrive()
        assert (await self.hear())["code"] == 200
        assert "peers" in await self.hear()
        return self

    async def leave(self) -> None:
        """The socket is gone."""
        await self.process.presence.leave(self.connection)()

    async def say(self, message: Message | bytes) -> None:
        """Say it, and wait until it is served."""
        frame = message if isinstance(message, bytes) else json.dumps(message).encode()
        waiting = self.process.signaling.receive(self.connection, frame)
        if waiting is not None:
            await waiting

    async def hear(self, wanted: Callable[[Message], bool] = lambda message: "peer_update" not in message) -> Message:
        """The next message that is wanted; news of other peers are not, unless asked for."""
        while True:
            message: Message = json.loads(await asyncio.wait_for(self._heard.get(), SECONDS))
            if wanted(message):
                return message

    async def ask(self, message: Message) -> Message:
        """Say it with an id, and return what is answered to that."""
        number = next(_ids)
        await self.say(message | {"id": number})
        return await self.hear(lambda heard: heard.get("id") == number)
