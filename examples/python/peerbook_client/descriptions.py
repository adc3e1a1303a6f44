"""Session descriptions: what is taken from others, and what is sent. Pure."""

import base64
import binascii
import json
import re
from typing import Any

from aiortc import RTCSessionDescription

_LINE = re.compile(r"^a=fingerprint:sha-256 ((?:[0-9A-F]{2}:){31}[0-9A-F]{2})\r?$", re.I | re.M)


def is_honest(sdp: str, fp: str) -> bool:
    """Whether every fingerprint in it is `fp`, in SHA-256, and there is one (RFC 8122, section 5)."""
    found = [value.replace(":", "").upper() for value in _LINE.findall(sdp)]
    return bool(found) and set(found) == {fp} and len(found) == len(re.findall("fingerprint", sdp, re.I))


def described(value: Any) -> RTCSessionDescription | None:
    """A description: an object, or JSON of it, or base64 of that. None for anything else."""
    try:
        if isinstance(value, str):
            value = json.loads(value if value.startswith("{") else base64.b64decode(value))
        return RTCSessionDescription(sdp=value["sdp"], type=value["type"])
    except (ValueError, TypeError, KeyError, binascii.Error):
        return None


def sent(description: RTCSessionDescription) -> dict[str, str]:
    """A description as it is sent: aiortc lists three hashes of its certificate, browsers and our peers take SHA-256."""
    lines = description.sdp.splitlines(keepends=True)
    kept = (
        line for line in lines if not line.startswith("a=fingerprint:") or line.startswith("a=fingerprint:sha-256 ")
    )
    return {"type": description.type, "sdp": "".join(kept)}


def session_in(sdp: str) -> str | None:
    """The session that the line of the origin names (RFC 8866, section 5.2), for programs that send none beside it."""
    match = re.search(r"^o=\S+ (\S+)", sdp, re.M)
    return match[1] if match else None


def ufrag_in(sdp: str) -> str | None:
    """The ICE user fragment (RFC 8839, section 5.4): another one is an ICE restart."""
    match = re.search(r"^a=ice-ufrag:(\S+)", sdp, re.M)
    return match[1] if match else None
