"""The pair code: what a waiting device shows and the page shows beside its request, so that a person can compare."""

import hashlib
import hmac

from app.peers import Fingerprint


def pair_code(secret: str, owner: str, fp: Fingerprint, claim: str) -> str:
    """Three digits, a hyphen, three digits.

    `owner` is the address in lower case, or the uid where no address is known. The code is a keyed hash, so
    it is the same whether or not anything was stored, and tells a stranger nothing.
    """
    text = "\0".join((owner, fp, claim)).encode()
    number = int.from_bytes(hmac.digest(b"pair\0" + secret.encode(), text, hashlib.sha256)[:8]) % 1_000_000
    return f"{number // 1000:03d}-{number % 1000:03d}"
