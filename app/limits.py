"""Limits: how often a thing may happen. Kept in the store, so they hold over all processes."""

from app.store import Store

_REQUEST_MAILS = 10  # a request mail to one owner waits this many times as long as a login mail


class Limits:
    """The limits of this server."""

    def __init__(self, store: Store, mail_interval: int) -> None:
        self._store = store
        self._mail_interval = mail_interval

    async def may_mail_login(self, uid: str) -> bool:
        """Takes the owner's turn for a login mail, if it is free."""
        return await self._first_in(f"mail:login:{uid}", self._mail_interval)

    async def may_mail_request(self, uid: str) -> bool:
        """Takes the owner's turn for a request mail; strangers' asks never use up the login mails."""
        return await self._first_in(f"mail:request:{uid}", self._mail_interval * _REQUEST_MAILS)

    async def _first_in(self, what: str, seconds: int) -> bool:
        return seconds == 0 or await self._store.first_in(what, seconds)
