"""Claims: by what a device says it will prove itself, when it asks. Approval binds the peer to its claim. Pure.

A fingerprint is public, it stands in every session description, so a connection that only names one proves nothing.
A claim is `none`, `certificate` (the key of the DTLS certificate), or base64url(SHA-256(secret)) of a secret that the
device keeps.
"""

import hashlib
import re
from base64 import urlsafe_b64encode

from app.errors import BadInput

NO_CLAIM = "none"
"""The claim of a device that will not prove itself: whoever names its fingerprint is taken for it."""

CERTIFICATE = "certificate"
"""The claim of a device that proves itself by the key of its DTLS certificate."""

_SECRET_HASH = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]=?")  # 32 bytes end in one of these sixteen


def parse_claim(text: object) -> str:
    """A claim, `none` where there is no text; raises BadInput for what is none."""
    if text is None or text == NO_CLAIM:
        return NO_CLAIM
    if text == CERTIFICATE:
        return CERTIFICATE
    if isinstance(text, str) and _SECRET_HASH.fullmatch(text):
        return text.rstrip("=")
    raise BadInput("A proof is certificate, or the SHA-256 of a secret in base64url.")


def claim_of_secret(secret: str) -> str:
    """The claim of a device that keeps this secret."""
    return urlsafe_b64encode(hashlib.sha256(secret.encode(errors="surrogatepass")).digest()).decode().rstrip("=")


def is_secret(claim: str) -> bool:
    """Whether the claim is the hash of a secret."""
    return claim not in (NO_CLAIM, CERTIFICATE)


def strength(claim: str) -> int:
    """Claims go up, from none over a secret to the certificate, and never down; the scripts compute the same."""
    return {NO_CLAIM: 0, CERTIFICATE: 2}.get(claim, 1)


def proof_by(claim: str) -> str:
    """What a claim is proved by, in a word: `none`, `secret` or `certificate`."""
    return "secret" if is_secret(claim) else claim
