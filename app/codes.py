"""Codes: six digits in a login mail, for the browser that asked. A code redeems the very link that stands beside it.

What a browser is told depends on nothing but what it did itself: nobody learns whether a mail went out.
"""

import hmac
import re
import secrets
from collections.abc import Sequence

from app.addresses import Address
from app.digests import digest, keyed_digest
from app.errors import CodeGone, LinkGone, WrongCode
from app.limits import Limits
from app.sessions import Link, Login, Sessions
from app.store import Store

_TRIES = 5
_ASKER = re.compile(r"[A-Za-z0-9_-]{32}")
_BLANKS = re.compile(r"[\s-]")


def asker(cookie: str | None) -> str:
    """The secret by which a browser that asks is known: the one it has, or a fresh one."""
    return cookie if cookie and _ASKER.fullmatch(cookie) else secrets.token_urlsafe(24)


class Codes:
    """Issues and redeems codes. `seconds`: how long one is good."""

    def __init__(
        self, store: Store, sessions: Sessions, limits: Limits, *, secret_keys: Sequence[str], seconds: int
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._limits = limits
        self._secret_keys = secret_keys
        self.seconds = seconds

    async def expect(self, browser: str, address: Address) -> None:
        """A browser asks for a mail to that address, and may type a code from now on, whether or not there is one.

        A code that it has for the same address stays good until there is another; one for any other address does not.
        """
        await self._store.expect_code(digest(browser), self._name(address), self.seconds)

    async def issue(self, browser: str, address: Address, link: Link) -> str:
        """The code to mail beside the link, `ddd ddd`, to the browser that asked."""
        number, asking = f"{secrets.randbelow(1_000_000):06d}", digest(browser)
        fits = _fit(self._secret_keys[0], asking, number)
        code = {"address": self._name(address), "uid": link.uid, "link": link.digest, "code": fits}
        await self._store.keep_code(asking, code, self.seconds)
        return f"{number[:3]} {number[3:]}"

    async def redeem(self, browser: str | None, typed: str, known: str | None, detail: str) -> Login:
        """What the link beside the code gives, as `Sessions.redeem_link` says it; blanks and hyphens don't matter.

        Raises WrongCode, for a right one too where the code or its owner's day has seen too many wrong ones; and
        CodeGone after five tries, when the code or its link was used, and for a browser that did not ask.
        """
        asking = digest(browser or "")
        outcome, kept = await self._store.try_code(asking, _TRIES)
        if outcome == "gone":
            raise CodeGone
        if outcome == "wrong" or "code" not in kept:
            raise WrongCode
        turn = await self._limits.take_wrong_code(kept["uid"])
        if turn is None or not self._fits(asking, typed, kept["code"]):
            raise WrongCode
        await self._limits.give_back(turn)
        try:
            return await self._sessions.redeem(kept["link"], known, detail)
        except LinkGone:
            raise CodeGone from None

    def _name(self, address: Address) -> str:
        return keyed_digest(self._secret_keys[0], "peerbook asked for", address.key)

    def _fits(self, asking: str, typed: str, kept: str) -> bool:
        number = _BLANKS.sub("", typed)
        return any(hmac.compare_digest(_fit(key, asking, number), kept) for key in self._secret_keys)


def _fit(key: str, asking: str, number: str) -> str:
    return keyed_digest(key, "peerbook code", asking, number)
