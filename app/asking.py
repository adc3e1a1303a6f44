"""Asking: a device wants to enter a book, and its owner gets a mail with a link."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from app.addresses import Address
from app.background import Background
from app.book import Book
from app.books import Books
from app.codes import Codes
from app.errors import NotFound, TooMany
from app.limits import Limits
from app.mailer import Mailer
from app.notices import Notices
from app.owners import NOBODY, OwnerName, Uid
from app.pairs import pair_code
from app.peers import Device, Fingerprint, Request
from app.sessions import Sessions
from app.settings import Settings
from app.stamps import Stamps
from app.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Ask:
    """What came of asking. `pair` is the same whether or not anything was stored."""

    outcome: str
    uid: str | None
    pair: str

    @property
    def verified(self) -> bool:
        """Whether the device is in already."""
        return self.outcome in ("verified", "invited")

    @property
    def denied(self) -> bool:
        """Whether the owner does not want this device."""
        return self.outcome == "denied"


class Asking:
    """Takes the requests of devices, and mails their owners within the limits.

    Nobody is told whether an address is known, served or mailed, nor can see it from the time: before its answer, each
    ask and each login takes as many steps to the store as any other, and what differs is done beside it.
    """

    def __init__(
        self,
        settings: Settings,
        books: Books,
        sessions: Sessions,
        codes: Codes,
        mailer: Mailer,
        stamps: Stamps,
        notices: Notices,
        limits: Limits,
        throttle: Throttle,
        background: Background,
    ) -> None:
        self._settings = settings
        self._books = books
        self._sessions = sessions
        self._codes = codes
        self._mailer = mailer
        self._stamps = stamps
        self._notices = notices
        self._limits = limits
        self._throttle = throttle
        self._background = background

    async def ask(self, owner: OwnerName, device: Device, endpoint: str, waiter: str | None = None) -> Ask:
        """Ask the owner, named by address or uid, to let the device in. Nobody is told whether there is such an owner.

        `endpoint` is where it asks, `waiter` the connection that waits for the answer, if one does. Raises TooMany where
        the device's network asks too often; a device that is in already does not ask.
        """
        uid = await self._uid_of(owner)
        if await self.is_in(uid, device):
            return Ask("verified", uid, "")
        await self._throttle.ask(endpoint, device.network)
        if isinstance(owner, Address):
            uid = await self._uid_for(owner)
            outcome = await self._books.ask(uid, None if uid == NOBODY else owner, device, waiter=waiter)
            pair = self._pair(owner.key, device)
        else:
            outcome = await self._books.ask(uid, None, device, waiter=waiter)
            book = await self._books.read(uid)
            pair = self._pair(Address(book.owner.address).key if book else uid, device)
        if outcome == "asked":
            self._background.start(self._mail_request(uid, device, pair))
        elif outcome == "invited":
            self._background.start(self._tell_of_invited(uid, device.fp))
        return Ask(outcome, uid if outcome != "unknown" else None, pair)

    async def is_in(self, uid: str, device: Device) -> bool:
        """Whether the device is in that book, or was entered ahead; nobody is asked."""
        return await self._books.ask(uid, None, replace(device, invite=None), silently=True) == "verified"

    async def refuse_hasty(self, owner: OwnerName | None, device: Device, endpoint: str) -> None:
        """Raises TooMany where the device's network is known to ask too often, unless the device itself is in."""
        seconds = self._throttle.overrun(endpoint, device.network)
        if seconds and not await self.knows(owner, device):
            raise TooMany(seconds)

    async def knows(self, owner: OwnerName | None, device: Device) -> bool:
        """Whether the device is in the book that it means; where it names nobody, in any. Nobody is asked."""
        if owner is None:
            return bool(await self._books.store.books_of(device.fp))
        return await self.is_in(await self._uid_of(owner), device)

    async def count(self, device: Device, endpoint: str) -> None:
        """Counts one that waits and asks nobody. Raises TooMany where its network does so too often."""
        await self._throttle.ask(endpoint, device.network)

    async def invited(self, uid: Uid, device: Device) -> bool:
        """Let a device in by its invite; the owner is not asked where that is of no use."""
        outcome = await self._books.ask(uid, None, device, silently=True)
        if outcome == "invited":
            self._background.start(self._tell_of_invited(uid, device.fp))
        return outcome in ("verified", "invited")

    async def _uid_of(self, owner: OwnerName) -> str:
        if isinstance(owner, Address):
            return await self._books.store.uid_of(owner) or NOBODY
        return owner

    def pairs(self, book: Book) -> dict[str, str]:
        """The pair codes of a book's requests, by request id."""
        return {rid: self._code(book, request) for rid, request in book.requests.items()}

    def request_of(self, book: Book, fp: Fingerprint, pair: str) -> str | None:
        """The id of the fingerprint's request that has this pair code; None where none is given. Raises NotFound."""
        if not pair:
            return None
        for request in book.requests.values():
            if request.fp == fp and self._code(book, request) == pair:
                return request.rid
        raise NotFound

    async def _uid_for(self, address: Address) -> str:
        """The uid of that address, new or known; NOBODY where it is not served, with as many steps and nothing kept."""
        if self._settings.serves(address):
            return await self._books.uid_for(address)
        await self._books.store.uid_of(address)
        return NOBODY

    async def login(self, address: Address, browser: str) -> None:
        """Mail the owner of that address a link to his book, and a code for the browser that asks, within the limits.

        What is done for some addresses only is done beside the answer, which takes as long for each.
        """
        await self._codes.expect(browser, address)
        if self._settings.serves(address):
            self._background.start(self._mail_login(address, browser))

    async def _mail_login(self, address: Address, browser: str) -> None:
        uid = await self._books.enroll(address)
        turn = await self._limits.take_login_mail(uid)
        stamp = await self._stamps.take(uid, address, turn) if turn else None
        if stamp:
            link = await self._sessions.issue_link(uid, address)
            code = await self._codes.issue(browser, address, link)
            self._mailer.post(stamp, "login", {"link": link.url, "code": code, "minutes": self.minutes})
            await self._books.note(uid, "mailed", detail="a link to log in")

    async def _mail_request(self, uid: str, device: Device, pair: str) -> None:
        turn = await self._limits.take_request_mail(uid)
        book = await self._books.read(uid) if turn else None
        stamp = await self._stamps.take(uid, Address(book.owner.address), turn) if book else None
        if stamp:
            link = await self._sessions.issue_link(uid, stamp.to)
            asked = datetime.now(UTC).strftime("%-d %B %Y, %H:%M UTC")
            members = {"link": link.url, "minutes": self.minutes, "device": device, "pair": pair, "asked": asked}
            self._mailer.post(stamp, "request", members)
            await self._books.note(uid, "mailed", detail="a device asks")

    async def _tell_of_invited(self, uid: str, fp: Fingerprint) -> None:
        book = await self._books.read(uid)
        if book and fp in book.peers:
            self._notices.device_approved(book, book.peers[fp].name)

    @property
    def minutes(self) -> int:
        """How long a link is good, as a mail says it."""
        return max(1, self._settings.link_ttl // 60)

    def _code(self, book: Book, request: Request) -> str:
        owner = Address(book.owner.address).key
        return pair_code(self._settings.secret_keys[0], owner, request.fp, request.asked_as)

    def _pair(self, owner: str, device: Device) -> str:
        return pair_code(self._settings.secret_keys[0], owner, device.fp, device.claim)
