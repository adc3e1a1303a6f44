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
from app.book import Book
from app.books import Books
from app.errors import LinkGone
from app.store import Store

_GRACE = 60  # seconds by which the clocks of two processes may differ


@dataclass(frozen=True, slots=True)
class Visit:
    """A browser's session and the book that it opens."""

    book: Book
    cookie: str


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
        # itsdangerous signs with the last key and accepts all; ours come newest first.
        self._tokens = URLSafeTimedSerializer(
            list(reversed(secret_keys)), salt="peerbook link", signer_kwargs={"digest_method": hashlib.sha256}
        )

    async def issue_link(self, uid: str, address: Address) -> str:
        """A token that opens the user's book once, within `link_ttl`."""
        book = await self._books.read(uid)
        secret = secrets.token_urlsafe(24)
        members = {"uid": uid, "address": address.typed, "generation": book.owner.generation if book else 1}
        await self._store.keep_link(_digest(secret), members, self._link_ttl)
        return str(self._tokens.dumps(secret))

    def url(self, token: str) -> str:
        """The address of a link's page. It comes from BASE_URL alone, whatever a request says of its host."""
        return f"{self._base_url}/link/{token}"

    async def peek_link(self, token: str) -> Address:
        """Whose book the link opens; it stays good. Raises LinkGone."""
        members = await self._store.peek_link(self._link_digest(token))
        return Address((await self._live(members))["address"])

    async def redeem_link(self, token: str) -> str:
        """The cookie of a new session; of all who redeem a link, one gets it. Raises LinkGone."""
        members = await self._live(await self._store.take_link(self._link_digest(token)))
        uid, generation = members["uid"], members["generation"]
        if not await self._store.settle(uid, Address(members["address"])):
            raise LinkGone
        cookie = f"{uid}.{secrets.token_urlsafe(32)}"
        session = {"uid": uid, "generation": int(generation), "began": int(time.time())}
        await self._store.keep_session(_digest(cookie), session, self._session_ttl)
        return cookie

    async def visit(self, cookie: str | None) -> Visit | None:
        """The session of a cookie, prolonged, with its book; None where there is none."""
        uid = (cookie or "").partition(".")[0]
        if not cookie or not uid.isalnum():
            return None
        session, report = await self._store.session_and_book(_digest(cookie), uid, self._session_ttl)
        if not session or report is None or int(session["generation"]) != report.owner.generation:
            return None
        if time.time() - int(session["began"]) > self._session_max:
            await self.end(cookie)
            return None
        return Visit(Book.of(report), cookie)

    async def end(self, cookie: str) -> None:
        """Log out."""
        await self._store.end_session(_digest(cookie))

    def _link_digest(self, token: str) -> str:
        try:
            secret, signed = self._tokens.loads(token, return_timestamp=True)
        except BadData:
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


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
