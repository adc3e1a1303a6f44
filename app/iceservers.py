"""ICE servers: which STUN and TURN servers a peer is told of, and its short-lived credentials for TURN. Pure."""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class IceServers:
    """`static` need no credentials. Those of `turn_urls` take the ones that are made with `turn_secret`.

    All in the shape of RTCConfiguration.iceServers (W3C WebRTC, section 4.2.1).
    """

    static: tuple[dict[str, Any], ...]
    turn_urls: tuple[str, ...] = ()
    turn_secret: str = ""
    turn_ttl: int = 0

    def public(self) -> list[dict[str, Any]]:
        """What anybody may know."""
        return list(self.static)

    def of_user(self, uid: str, now: float) -> list[dict[str, Any]]:
        """What a peer that is in is told at `now` (Unix seconds): TURN too, good for `turn_ttl` seconds."""
        if not self.turn_urls:
            return self.public()
        username, credential = turn_credentials(self.turn_secret, uid, int(now) + self.turn_ttl)
        turn = {"urls": list(self.turn_urls), "username": username, "credential": credential}
        return [*self.static, turn]


def turn_credentials(secret: str, name: str, until: int) -> tuple[str, str]:
    """User name and password that a TURN server with this secret takes until that time (Unix seconds).

    coturn's `use-auth-secret` (draft-uberti-behave-turn-rest-00, section 2.2), which is HMAC-SHA1.
    """
    username = f"{until}:{name}"
    digest = hmac.digest(secret.encode(), username.encode(), hashlib.sha1)
    return username, base64.b64encode(digest).decode()
