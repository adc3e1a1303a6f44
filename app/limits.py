"""Limits: how often a thing may happen. Kept in the store, so they hold over all processes."""

import hashlib
import hmac
import time

from app.errors import TooMany
from app.store import Store

_MINUTE = 60
_MOST_OVERRUN = 10_000  # networks that this process remembers as asking too often

_REQUEST_MAILS = 10  # a request mail to one owner waits this many times as long as a login mail


class Limits:
    """The limits of this server."""

    def __init__(self, store: Store, *, secret: str, ask_rate: int, mail_interval: int) -> None:
        self._store = store
        self._secret = secret.encode()
        self._ask_rate = ask_rate
        self._mail_interval = mail_interval
        self._overrun: dict[tuple[str, str], float] = {}

    async def ask(self, endpoint: str, network: str) -> None:
        """Counts one ask of that network at `endpoint`; raises TooMany where it asked too often this minute."""
        if not self._ask_rate:
            return
        if seconds := self.overrun(endpoint, network):
            raise TooMany(seconds)
        who = hmac.digest(self._secret, network.encode(), hashlib.sha256).hex()[:16]  # the store knows no addresses
        count, seconds = await self._store.count(f"ask:{endpoint}:{who}", _MINUTE)
        if count > self._ask_rate:
            if len(self._overrun) >= _MOST_OVERRUN:
                self._overrun.clear()
            self._overrun[endpoint, network] = time.monotonic() + seconds
            raise TooMany(seconds)

    def overrun(self, endpoint: str, network: str) -> int:
        """For how many seconds more that network is known here to have asked too often, 0 where it is not."""
        until = self._overrun.get((endpoint, network))
        if until is None:
            return 0
        left = until - time.monotonic()
        if left <= 0:
            del self._overrun[endpoint, network]
            return 0
        return int(left) + 1

    async def may_mail_login(self, uid: str) -> bool:
        """Takes the owner's turn for a login mail, if it is free."""
        return await self._first_in(f"mail:login:{uid}", self._mail_interval)

    async def may_mail_request(self, uid: str) -> bool:
        """Takes the owner's turn for a request mail; strangers' asks never use up the login mails."""
        return await self._first_in(f"mail:request:{uid}", self._mail_interval * _REQUEST_MAILS)

    async def _first_in(self, what: str, seconds: int) -> bool:
        return seconds == 0 or await self._store.first_in(what, seconds)
