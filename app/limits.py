"""Limits: how often a thing may happen. Kept in the store, so they hold over all processes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.settings import Settings
from app.store import Store, Window

_REQUEST_MAILS = 10  # a request mail to one owner waits this many times as long as a login mail
_WRONG_CODES = 10  # for one owner and day
_HOUR = 3600
_DAY = 86400
_SERVER = "server"  # no uid: whose turns those of the whole server are


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that somebody took, and can give back: whose, and in which windows."""

    owner: str
    windows: Sequence[Window]


class Limits:
    """The limits of this server. A turn is taken in all of its windows or, None then, in none."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._login_mails = _mail_windows("login", settings.mail_interval, settings)
        self._request_mails = _mail_windows("request", settings.mail_interval * _REQUEST_MAILS, settings)
        self._all_mails = _on([Window("mail:hour", settings.mail_total_hourly, _HOUR)])

    async def take_login_mail(self, uid: str) -> Turn | None:
        """The owner's turn for a login mail."""
        return await self._take(uid, self._login_mails)

    async def take_request_mail(self, uid: str) -> Turn | None:
        """The owner's turn for a request mail; strangers' asks never use up the login mails."""
        return await self._take(uid, self._request_mails)

    async def take_any_mail(self) -> Turn | None:
        """The server's turn for a mail of any kind."""
        return await self._take(_SERVER, self._all_mails)

    async def take_wrong_code(self, uid: str) -> Turn | None:
        """The owner's turn for a code that is wrong."""
        return await self._take(uid, [Window("code:day", _WRONG_CODES, _DAY)])

    async def give_back(self, turn: Turn) -> None:
        """What the turn was taken for did not happen."""
        if turn.windows:
            await self._store.give_turn_back(turn.owner, turn.windows)

    async def _take(self, owner: str, windows: Sequence[Window]) -> Turn | None:
        if windows and not await self._store.take_turn(owner, windows):
            return None
        return Turn(owner, windows)


def _mail_windows(kind: str, interval: int, settings: Settings) -> Sequence[Window]:
    return _on(
        [
            Window(f"{kind}:interval", 1, interval),
            Window(f"{kind}:hour", settings.mail_hourly, _HOUR),
            Window(f"{kind}:day", settings.mail_daily, _DAY),
        ]
    )


def _on(windows: Iterable[Window]) -> Sequence[Window]:
    """The windows that are not switched off."""
    return [window for window in windows if window.most and window.seconds]
