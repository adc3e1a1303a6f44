"""A peer, a request to become one, and the fingerprint, name and kind that describe them."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from sys import intern
from typing import Literal, NewType, get_args

from app.claims import NO_CLAIM
from app.errors import BadInput

Fingerprint = NewType("Fingerprint", str)
"""SHA-256 of a DTLS certificate (RFC 8122, section 5) in canonical form: 64 upper-case hex digits."""

State = Literal["verified", "added", "revoked"]

Result = Literal["direct", "relay", "failed"]
RESULTS: tuple[str, ...] = get_args(Result)
"""How a connection between two peers can go: straight, through a TURN server, or not at all."""

DEFAULT_NAME = DEFAULT_KIND = "peer"

_FINGERPRINT = re.compile(r"(?:sha-256[ +])?((?:[0-9A-F]{2}:){31}[0-9A-F]{2}|[0-9A-F]{64})", re.I | re.A)
_KIND = re.compile(r"[a-z0-9._-]{1,32}")
_LONGEST_NAME = 64
_LONGEST_KIND = 32
# Letters and marks by their category that show nothing of their own: fillers, the braille blank, the joiner CGJ,
# variation selectors. With them, two names that differ would look the same.
_BLANK_LETTERS = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a peer's latest connection to another peer went: when (Unix seconds), and how long it took to open."""

    target: Fingerprint
    result: Result
    milliseconds: int
    at: int


@dataclass(frozen=True, slots=True)
class Peer:
    """A device of a book. Times are Unix seconds, 0 when it never happened.

    `proved`: it has proved its claim on a connection that named this book's owner.
    """

    fp: Fingerprint
    name: str
    kind: str
    state: State
    claim: str = NO_CLAIM
    created_on: int = 0
    verified_on: int = 0
    last_seen: int = 0
    proved: bool = False
    outcome: Outcome | None = None

    @property
    def verified(self) -> bool:
        """Whether the owner let it in."""
        return self.state == "verified"

    @property
    def listed(self) -> bool:
        """Whether other peers see it: a device that was entered ahead shows once it was seen."""
        return self.state != "added"


@dataclass(frozen=True, slots=True)
class Request:
    """A device that asked to enter a book and was not answered yet.

    `asked_as` is the claim that it asked with, which its pair code is made of; its certificate may have raised `claim`.
    """

    rid: str
    fp: Fingerprint
    claim: str
    asked_as: str
    name: str
    kind: str
    place: str
    asked_on: int


@dataclass(frozen=True, slots=True)
class Device:
    """What a device says of itself when it asks, the coarse place it asks from, and the digest of its invite.

    `network` names where it asks from for the limits, never to be shown or kept.
    """

    fp: Fingerprint
    claim: str
    name: str
    kind: str
    place: str
    invite: str | None = None
    network: str = ""

    @property
    def rid(self) -> str:
        """Names its request within a book."""
        return request_id(self.fp, self.claim)


def request_id(fp: Fingerprint, claim: str) -> str:
    """Names the one request that a book can hold for this fingerprint and claim; the scripts compute the same."""
    return hashlib.sha1(f"{fp} {claim}".encode(), usedforsecurity=False).hexdigest()[:24]


def parse_fingerprint(text: object) -> Fingerprint:
    """The canonical form of `AABB…`, `AA:BB:…` or `sha-256 AA:BB:…` in any case; raises BadInput for others."""
    match = _FINGERPRINT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise BadInput("This is not the SHA-256 fingerprint of a certificate.")
    return as_fingerprint(match[1].replace(":", "").upper())


def as_fingerprint(canonical: str) -> Fingerprint:
    """One that is known to be in canonical form. Each is in many places, so memory holds it once."""
    return Fingerprint(intern(canonical))


def parse_name(text: object) -> str:
    """A device's name, 1 to 64 characters in NFC without what can't be seen; raises BadInput for others."""
    if not isinstance(text, str):
        raise BadInput("A name is a text.")
    name = _visible(text)
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise BadInput("A name has 1 to 64 characters.")
    return name


def parse_kind(text: object) -> str:
    """A device's kind, 1 to 32 of `a-z 0-9 . _ -`; raises BadInput for others."""
    if not isinstance(text, str) or not _KIND.fullmatch(text):
        raise BadInput("A kind has 1 to 32 characters of a-z, 0-9, dot, underscore and hyphen.")
    return text


def clean_name(text: str | None) -> str:
    """The nearest good name, for clients that never read a refusal."""
    return _visible(text or "")[:_LONGEST_NAME].strip() or DEFAULT_NAME


def clean_kind(text: str | None) -> str:
    """The nearest good kind, for clients that never read a refusal."""
    return re.sub(r"[^a-z0-9._-]", "", (text or "").lower())[:_LONGEST_KIND] or DEFAULT_KIND


def fold_name(name: str) -> str:
    """The form in which two names are the same for a person: Laptop and laptop are one."""
    return unicodedata.normalize("NFC", name.casefold())


def _visible(text: str) -> str:
    """The text in NFC with blanks folded, and without control, bidi, zero-width and unpaired characters."""
    shown = (" " if char.isspace() else char for char in text if _shows(char))
    return unicodedata.normalize("NFC", " ".join("".join(shown).split()))


def _shows(char: str) -> bool:
    if char in _BLANK_LETTERS or "\U000e0000" <= char <= "\U000e0fff":
        return False
    return char in "\t\n\r" or unicodedata.category(char) not in {"Cc", "Cf", "Cs"}
