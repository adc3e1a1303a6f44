"""Links and browser sessions: a mailed link is redeemed once, and opens a session in that browser.

The store knows both only by the hash of their secret, so that a copy of the store opens nothing.
"""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer

from app.addresses import Address
from app.book import Book, Happening
from app.books import Books
from app.errors import LinkGone
from app.store import Store

FRESH_SECONDS = 900
"""How long after redeeming a link the acts on the whole account are open."""

_SIGN_OUT_SECONDS = 30 * 86400
_GRACE = 60  # seconds by which the clocks of two processes may differ


@dataclass(frozen=True, slots=True)
class Visit:
    """A browser's session and the book that it opens. `fresh`: a link was redeemed a short while ago."""

    book: Book
    activity: list[Happening]
    cookie: str
    fresh: bool


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
        self._links = _signer(secret_keys, "peerbook link")
        self._sign_outs = _signer(secret_keys, "peerbook sign out")

    # Links

    async def issue_link(self, uid: str, address: Address) -> str:
        """The address of a page that opens the user's book once, within `link_ttl`.

        It comes from BASE_URL alone, whatever a request says of its host.
        """
        book = await self._books.read(uid)
        secret = secrets.token_urlsafe(24)
        members = {"uid": uid, "address": address.typed, "generation": book.owner.generation if book else 1}
        await self._store.keep_link(_digest(secret), members, self._link_ttl)
        return f"{self._base_url}/link/{self._links.dumps(secret)}"

    async def peek_link(self, token: str) -> Address:
        """Whose book the link opens; it stays good. Raises LinkGone."""
        members = await self._store.peek_link(self._link_digest(token))
        return Address((await self._live(members))["address"])

    async def redeem_link(self, token: str, browser: str | None, detail: str) -> Login:
        """A new session; of all who redeem a link, one gets it. Raises LinkGone.

        `browser` is the cookie by which the browser is known again, `detail` what the activity says of it.
        """
        members = await self._live(await self._store.take_link(self._link_digest(token)))
        uid, address = str(members["uid"]), Address(members["address"])
        browser = browser or secrets.token_urlsafe(24)
        outcome = await self._books.settle(uid, address, _digest(browser), detail)
        if outcome == "unknown":
            raise LinkGone
        cookie = f"{uid}.{secrets.token_urlsafe(32)}"
        session: dict[str, str | int] = {
            "uid": uid,
            "generation": int(members["generation"]),
            "began": int(time.time()),
        }
        await self._store.keep_session(_digest(cookie), session, seconds=self._session_ttl, most=self._session_max)
        return Login(uid, address, cookie, browser, outcome == "new browser")

    # Sessions

    async def visit(self, cookie: str | None, *, prolong: bool = True) -> Visit | None:
        """The session of a cookie, prolonged unless told otherwise, with its book; None where there is none."""
        uid = (cookie or "").partition(".")[0]
        if not cookie or not uid.isascii() or not uid.isalnum():
            return None
        seconds = self._session_ttl if prolong else None
        session, report, activity = await self._store.session_and_book(_digest(cookie), uid, seconds)
        if not session or report is None or int(session["generation"]) != report.owner.generation:
            return None
        age = time.time() - int(session["began"])
        if age > self._session_max:
            await self.end(cookie)
            return None
        return Visit(Book.of(report), activity, cookie, fresh=age < FRESH_SECONDS)

    async def end(self, cookie: str) -> None:
        """Log out."""
        await self._store.end_session(_digest(cookie), cookie.partition(".")[0])

    # Signing out everywhere, from a mail

    def sign_out_url(self, book: Book) -> str:
        """The address of a page that makes all links and sessions of the user void; good until somebody did."""
        return f"{self._base_url}/signout/{self._sign_outs.dumps([book.uid, book.owner.generation])}"

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
        try:
            uid, generation = self._sign_outs.loads(token, max_age=_SIGN_OUT_SECONDS)
        except (BadData, UnicodeEncodeError):
            raise LinkGone from None
        return str(uid), int(generation)

    def _link_digest(self, token: str) -> str:
        try:
            secret, signed = self._links.loads(token, return_timestamp=True)
        except (BadData, UnicodeEncodeError):
            raise LinkGone from None
        # The store ends the link to the second; the date only has to hold against its own signature.
        if not -_GRACE <= time.time() - signed.timestamp() <= self._link_ttl + _GRACE:
            raise LinkGone
        return _digest(str(secret))

    async def _live(self, members: dict[str, Any] | None) -> dict[str, Any]:
        """The members of a link that is not from before its user's last sign-out everywhere."""
        book = await self._books.read(members["uid"]) if members else None
        if members is None or book is None or int(members["generation"]) != book.owner.generation:
            raise LinkGone
        return members


def _signer(secret_keys: Sequence[str], purpose: str) -> URLSafeTimedSerializer:
    """Signs and dates tokens of one purpose. The last key signs, all are accepted; ours come newest first."""
    return URLSafeTimedSerializer(
        list(reversed(secret_keys)), salt=purpose, signer_kwargs={"digest_method": hashlib.sha256}
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()  # a header may hold any bytes
