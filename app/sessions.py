"""Links and browser sessions: a mailed link is redeemed once, and opens a session in that browser.

The store knows both only by the hash of their secret, so that a copy of the store opens nothing.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.addresses import Address
from app.book import Book, Happening
from app.books import Books
from app.digests import digest
from app.errors import LinkGone
from app.store import Store
from app.tokens import Tokens

FRESH_SECONDS = 900
"""How long after redeeming a link the acts on the whole account are open."""

_SIGN_OUT_SECONDS = 30 * 86400


@dataclass(frozen=True, slots=True)
class Link:
    """A link as it is mailed, and the digest by which the store knows it."""

    uid: str
    url: str
    digest: str


@dataclass(frozen=True, slots=True)
class Visit:
    """A browser's session and the book that it opens. `fresh`: a link was redeemed a short while ago.

    `since`: when this server's store began to hold books (Unix seconds).
    """

    book: Book
    activity: list[Happening]
    cookie: str
    fresh: bool
    since: int


@dataclass(frozen=True, slots=True)
class Login:
    """What a redeemed link gives to a browser: the session's cookie, and the one that it is known again by."""

    uid: str
    address: Address
    cookie: str
    browser: str
    new_browser: bool


class Sessions:
    """Issues and redeems links, and knows the sessions they opened. Times are seconds."""

    def __init__(
        self,
        store: Store,
        books: Books,
        *,
        secret_keys: Sequence[str],
        base_url: str,
        link_ttl: int,
        session_ttl: int,
        session_max: int,
    ) -> None:
        self._store = store
        self._books = books
        self._base_url = base_url
        self._link_ttl = link_ttl
        self._session_ttl = session_ttl
        self._session_max = session_max
        # The store ends a link to the second; its own date only has to hold against its signature.
        self._links = Tokens(secret_keys, "peerbook link", link_ttl)
        self._sign_outs = Tokens(secret_keys, "peerbook sign out", _SIGN_OUT_SECONDS)

    # Links

    async def issue_link(self, uid: str, address: Address) -> Link:
        """A link to a page that opens the user's book once, within `link_ttl`.

        Its address comes from BASE_URL alone, whatever a request says of its host.
        """
        book = await self._books.read(uid)
        secret = secrets.token_urlsafe(24)
        members = {"uid": uid, "address": address.typed, "generation": book.owner.generation if book else 1}
        await self._store.keep_link(digest(secret), members, self._link_ttl)
        return Link(uid, f"{self._base_url}/link/{self._links.sign(secret)}", digest(secret))

    async def peek_link(self, token: str) -> Address:
        """Whose book the link opens; it stays good. Raises LinkGone."""
        members = await self._store.peek_link(self._read_link(token))
        return Address((await self._live(members))["address"])

    async def redeem_link(self, token: str, browser: str | None, detail: str) -> Login:
        """A new session; of all who redeem a link, one gets it. Raises LinkGone.

        `browser` is the cookie by which the browser is known again, `detail` what the activity says of it.
        """
        return await self.redeem(self._read_link(token), browser, detail)

    async def redeem(self, link: str, browser: str | None, detail: str) -> Login:
        """The same for somebody who has shown in another way that the link, named by its digest, came to him."""
        members = await self._live(await self._store.take_link(link))
        uid, address = str(members["uid"]), Address(members["address"])
        browser = browser or secrets.token_urlsafe(24)
        outcome = await self._books.settle(uid, address, digest(browser), detail)
        if outcome == "unknown":
            raise LinkGone
        cookie = f"{uid}.{secrets.token_urlsafe(32)}"
        await self._store.keep_session(
            digest(cookie), uid, int(members["generation"]), seconds=self._session_ttl, most=self._session_max
        )
        return Login(uid, address, cookie, browser, outcome == "new browser")

    # Sessions

    async def visit(self, cookie: str | None, *, prolong: bool = True) -> Visit | None:
        """The session of a cookie, prolonged unless told otherwise, with its book; None where there is none."""
        uid = (cookie or "").partition(".")[0]
        if not cookie or not uid.isascii() or not uid.isalnum():
            return None
        seconds = self._session_ttl if prolong else None
        session, report, activity, since = await self._store.session_and_book(digest(cookie), uid, seconds)
        if session is None or report is None or session.generation != report.owner.generation:
            return None
        if session.age > self._session_max:
            await self.end(cookie)
            return None
        return Visit(Book.of(report), activity, cookie, fresh=session.age < FRESH_SECONDS, since=since)

    async def end(self, cookie: str) -> None:
        """Log out."""
        await self._store.end_session(digest(cookie), cookie.partition(".")[0])

    # Signing out everywhere, from a mail

    def sign_out_url(self, book: Book) -> str:
        """The address of a page that makes all links and sessions of the user void; good until somebody did."""
        return f"{self._base_url}/signout/{self._sign_outs.sign([book.uid, book.owner.generation])}"

    async def peek_sign_out(self, token: str) -> Address:
        """Whose sessions the token ends; it stays good. Raises LinkGone."""
        uid, generation = self._read_sign_out(token)
        book = await self._books.read(uid)
        if book is None or book.owner.generation != generation:
            raise LinkGone
        return Address(book.owner.address)

    async def redeem_sign_out(self, token: str) -> None:
        """End all sessions and links of the user. Raises LinkGone."""
        if not await self._books.sign_out(*self._read_sign_out(token)):
            raise LinkGone

    def _read_sign_out(self, token: str) -> tuple[str, int]:
        uid, generation = self._sign_outs.read(token)
        return str(uid), int(generation)

    def _read_link(self, token: str) -> str:
        return digest(str(self._links.read(token)))

    async def _live(self, members: dict[str, Any] | None) -> dict[str, Any]:
        """The members of a link that is not from before its user's last sign-out everywhere."""
        book = await self._books.read(members["uid"]) if members else None
        if members is None or book is None or int(members["generation"]) != book.owner.generation:
            raise LinkGone
        return members
