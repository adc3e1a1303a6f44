"""Throttle: how often one network may ask. Counted in the store over all processes, and remembered here."""

import hashlib
import hmac
import time

from app.errors import TooMany
from app.store import Store

_MINUTE = 60
_MOST_OVERRUN = 10_000  # networks that this process remembers as asking too often


class Throttle:
    """Takes `rate` asks a minute of one network at each endpoint; a rate of 0 takes all."""

    def __init__(self, store: Store, secret: str, rate: int) -> None:
        self._store = store
        self._secret = secret.encode()
        self._rate = rate
        self._overrun: dict[tuple[str, str], float] = {}

    async def ask(self, endpoint: str, network: str) -> None:
        """Counts one ask of that network at `endpoint`; raises TooMany where it asked too often this minute."""
        if not self._rate:
            return
        if seconds := self.overrun(endpoint, network):
            raise TooMany(seconds)
        who = hmac.digest(self._secret, network.encode(), hashlib.sha256).hex()[:16]  # the store knows no addresses
        count, seconds = await self._store.count(f"ask:{endpoint}:{who}", _MINUTE)
        if count > self._rate:
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
