"""What the tests play with: devices, owners in a browser, and a mailbox. All of them real, over real sockets."""

import asyncio
import email
import email.policy
import itertools
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any, cast
from urllib.parse import urlencode

import httpx
from aiosmtpd.smtp import SMTP, Envelope, Session
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.context import Context
from app.server import Running

SECONDS = 10.0
"""How long a test waits for what must come."""

NOTICES = (
    "A device joined your book",
    "A device proves itself in another way",
    "A new browser opened your book",
)
"""The subjects of mails that only tell something."""

Message = dict[str, Any]


def new_fingerprint() -> str:
    """The fingerprint of a device that nobody has seen yet."""
    return secrets.token_hex(32).upper()


async def stored(redis: Redis) -> set[str]:
    """What the store holds beside what every process leaves there."""
    keys = {str(key) async for key in redis.scan_iter()}
    return {key for key in keys if not key.startswith("process:")} - {"schema", "since"}


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(SECONDS):
        while not holds():  # noqa: ASYNC110 - what is waited for is the state of many objects, none of which tells
            await asyncio.sleep(0.005)


class Mailbox:
    """A real mail server that keeps what it gets."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, EmailMessage]] = []
        self.notices: list[tuple[str, EmailMessage]] = []
        self.refuse = ""
        self._news = asyncio.Condition()
        self.url = ""
        self.port = 0

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refuse:
            return self.refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = cast(bytes, envelope.content)
        message = email.message_from_bytes(content, policy=email.policy.default)
        box = self.notices if str(message["Subject"]) in NOTICES else self.mails
        async with self._news:
            box.extend((to, message) for to in envelope.rcpt_tos)
            self._news.notify_all()
        return "250 OK"

    async def next_mail(self, to: str) -> EmailMessage:
        """The oldest mail with a link to a book to that address, taken out of the box; waits for it."""
        return await self._next(self.mails, to)

    async def next_notice(self, to: str) -> EmailMessage:
        """The oldest notice to that address, taken out of the box; waits for it."""
        return await self._next(self.notices, to)

    async def next_link(self, to: str) -> str:
        """The link in the next mail to that address."""
        return link_in(await self.next_mail(to))

    def addressees(self) -> set[str]:
        """To whom the mails are that lie in the box."""
        return {to for to, _ in self.mails}

    async def _next(self, box: list[tuple[str, EmailMessage]], to: str) -> EmailMessage:
        async with self._news:
            await asyncio.wait_for(self._news.wait_for(lambda: any(each == to for each, _ in box)), SECONDS)
            index = next(i for i, (each, _) in enumerate(box) if each == to)
            return box.pop(index)[1]


class SilentMailServer:
    """A mail server that takes calls and says nothing, until it is released and turns everybody away."""

    def __init__(self) -> None:
        self.url = ""
        self.called = asyncio.Event()
        self._released = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.called.set()
        await self._released.wait()
        writer.write(b"554 closed\r\n")
        writer.close()

    def release(self) -> None:
        self._released.set()


def text_of(mail: EmailMessage) -> str:
    """The plain text of a mail."""
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def link_in(mail: EmailMessage) -> str:
    """The link that stands in a mail on a line of its own."""
    match = re.search(r"^(https?://\S+/link/\S+)$", text_of(mail), re.M)
    assert match, text_of(mail)
    return match[1]


def code_in(mail: EmailMessage) -> str:
    """The code that stands in a login mail."""
    match = re.search(r"nowhere else: (\d{3} \d{3})$", text_of(mail), re.M)
    assert match, text_of(mail)
    return match[1]


class Device:
    """A device: a fingerprint, and a socket that is read one message at a time."""

    def __init__(self, socket: ClientConnection, fp: str) -> None:
        self.socket = socket
        self.fp = fp

    async def hear(self) -> Message:
        """The next message."""
        return cast(Message, json.loads(await asyncio.wait_for(self.socket.recv(), SECONDS)))

    async def hear_until(self, wanted: Callable[[Message], bool]) -> Message:
        """The next message that is wanted; others are passed over."""
        while True:
            message = await self.hear()
            if wanted(message):
                return message

    async def say(self, message: Message | str | bytes) -> None:
        """Send a message: an object as JSON, a text or bytes as they are."""
        await self.socket.send(json.dumps(message) if isinstance(message, dict) else message)

    async def ask(self, message: Message) -> Message:
        """Send a message with an id, and return what is answered to it."""
        number = next(_ids)
        await self.say(message | {"id": number})
        return await self.hear_until(lambda heard: heard.get("id") == number)

    async def peers(self) -> list[Message]:
        """The peer list, asked for now."""
        number = next(_ids)
        peers: list[Message] = []
        await self.say({"command": "get_list", "id": number})
        while (heard := await self.hear()).get("id") != number:
            peers = heard.get("peers", peers)  # lists that came for other reasons lie before the one that was asked for
        return peers

    async def hear_update(self, fp: str) -> Message:
        """The next news of that peer."""
        heard = await self.hear_until(lambda heard: "peer_update" in heard and heard["source_fp"] == fp)
        return cast(Message, heard["peer_update"])

    async def leave(self) -> None:
        """Close the socket."""
        await self.socket.close()

    async def hears_nothing(self) -> None:
        """Nothing was sent to this device before the answer to a message that it sends now."""
        number = next(_ids)
        await self.say({"command": "no such command", "id": number})
        heard = await self.hear()
        assert heard.get("id") == number, heard

    async def close_code(self) -> int | None:
        """The code with which the server closes."""
        try:
            while True:
                await asyncio.wait_for(self.socket.recv(), SECONDS)
        except ConnectionClosed:
            return self.socket.close_code


_ids = itertools.count(1)


class Owner:
    """A person with a browser: an HTTP client with cookies that posts forms as a page of ours would."""

    def __init__(self, url: str, address: str, mailbox: Mailbox) -> None:
        self.url = url
        self.address = address
        self.mailbox = mailbox
        self.http = httpx.AsyncClient(
            base_url=url, verify=False, headers={"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
        )

    async def open_link(self, link: str) -> None:
        """Open a mailed link and press its button."""
        path = link.removeprefix(self.url)
        assert (await self.http.get(path)).status_code == 200
        answer = await self.http.post(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/peers")

    async def log_in(self) -> None:
        """Have a link mailed, and open it."""
        assert (await self.http.post("/login", data={"email": self.address})).status_code == 200
        await self.open_link(await self.mailbox.next_link(self.address))

    async def page(self) -> str:
        """The device page."""
        answer = await self.http.get("/peers")
        assert answer.status_code == 200
        return answer.text

    async def act(self, path: str, **fields: str) -> httpx.Response:
        """Post a form of the device page."""
        return await self.http.post(path, data=fields)

    async def do(self, path: str, **fields: str) -> None:
        """Post a form of the device page that must succeed."""
        answer = await self.act(path, **fields)
        assert answer.status_code == 303, answer.text

    async def approve(self, fp: str, **fields: str) -> None:
        await self.do(f"/peers/{fp}/approve", **fields)

    async def uid(self) -> str:
        """The uid on the page."""
        match = re.search(r"<code[^>]*>([0-9a-f]{32})</code>", await self.page())
        assert match
        return match[1]


class Scene:
    """A running server, its mailbox, and a way to bring devices and owners."""

    running: Running

    def __init__(self, url: str, mailbox: Mailbox) -> None:
        self.url = url
        self.mailbox = mailbox
        self.http = httpx.AsyncClient(base_url=url, verify=False)
        self._owners: list[Owner] = []
        self._sockets: list[ClientConnection] = []
        self._stopped = False

    def owner(self, address: str = "") -> Owner:
        """Somebody with a mail address and a fresh browser."""
        owner = Owner(self.url, address or f"owner{secrets.token_hex(4)}@example.org", self.mailbox)
        self._owners.append(owner)
        return owner

    async def connect(self, fp: str = "", **query: str) -> Device:
        """A device that opened its socket."""
        fp = fp or new_fingerprint()
        url = f"{self.url.replace('http', 'ws', 1)}/ws?{urlencode({'fp': fp} | query)}"
        socket = await connect(url, proxy=None, compression=None, open_timeout=SECONDS, close_timeout=1)
        self._sockets.append(socket)
        return Device(socket, fp)

    async def join(self, owner: Owner, name: str = "laptop", fp: str = "") -> Device:
        """A device that was approved, is in, and has read its 200 and its list."""
        device = await self.connect(fp, email=owner.address, name=name)
        heard = await device.hear()
        if heard["code"] == 401:
            if "session" not in {cookie.name for cookie in owner.http.cookies.jar}:
                await owner.log_in()
            await owner.approve(device.fp)
            heard = await device.hear()
        assert heard["code"] == 200
        assert "peers" in await device.hear()
        return device

    @property
    def context(self) -> Context:
        """The long-lived objects of the server."""
        return self.running.app.ctx

    def tell_absences_after(self, seconds: float) -> None:
        """Have the others hear so much later that a peer left."""
        self.context.absences._delay = seconds

    async def verify(self, fp: str, **members: Any) -> Message:
        """Ask about a fingerprint over HTTP."""
        answer = await self.http.post("/verify", json={"fp": fp} | members)
        assert answer.status_code == 200, answer.text
        return cast(Message, answer.json())

    async def at_rest(self) -> None:
        """Wait until the server has done all that it began beside its answers: mails are out, sockets have arrived."""
        await eventually(lambda: not self.context.background._tasks)

    async def stop(self) -> None:
        """Stop the server."""
        if not self._stopped:
            self._stopped = True
            await self.running.close()
            for doorway in self.running.app.blueprints.values():
                doorway.reset()  # it would keep every app that ever had it, and all that hangs on that

    async def close(self) -> None:
        for socket in self._sockets:
            socket.transport.abort()  # one with unread messages would not see the answer to its close frame
            await socket.wait_closed()
        for owner in self._owners:
            await owner.http.aclose()
        await self.http.aclose()


@asynccontextmanager
async def open_mailbox(mailbox: Mailbox | None = None, **options: Any) -> AsyncIterator[Mailbox]:
    """A mailbox, a new one by default, at a free port; options are aiosmtpd's."""
    mailbox = mailbox or Mailbox()
    loop = asyncio.get_running_loop()
    calls: list[SMTP] = []

    def answer() -> SMTP:
        calls.append(SMTP(mailbox, loop=loop, hostname="mail.test", **options))
        return calls[-1]

    server = await loop.create_server(answer, "127.0.0.1", 0)
    mailbox.port = server.sockets[0].getsockname()[1]
    mailbox.url = f"smtp://127.0.0.1:{mailbox.port}?starttls=0"
    try:
        yield mailbox
    finally:
        server.close()
        for call in calls:  # a caller that was killed in the middle of one leaves it open
            if call.transport:
                call.transport.close()
