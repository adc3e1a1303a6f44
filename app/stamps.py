"""Stamps: no mail goes out without one. There is none for an address that stopped mails, nor beyond the server's share."""

import logging
from dataclasses import dataclass

from app.addresses import Address
from app.limits import Limits, Turn
from app.stops import Stops

log = logging.getLogger("peerbook.mail")


@dataclass(frozen=True, slots=True)
class Stamp:
    """One mail may go to this address. `stop`: the link in it that stops all further ones."""

    to: Address
    stop: str


class Stamps:
    """Gives out stamps, and logs when there are none left and when there are again."""

    def __init__(self, stops: Stops, limits: Limits) -> None:
        self._stops = stops
        self._limits = limits
        self._flowing = True

    async def take(self, uid: str, to: Address, turn: Turn | None = None) -> Stamp | None:
        """A stamp, if there is one. Where the server's share is used up, the owner keeps the turn that he took."""
        if await self._stops.hold_back(to):
            log.info("event=mail_stopped")
            return None
        if not await self._mails_flow():
            if turn:
                await self._limits.give_back(turn)
            return None
        return Stamp(to, self._stops.url(uid, to))

    async def _mails_flow(self) -> bool:
        flowing = await self._limits.take_any_mail() is not None
        if flowing != self._flowing:
            self._flowing = flowing
            log.warning("event=mails_flow_again" if flowing else "event=mails_held_back reason=mail_total_hourly")
        return flowing
