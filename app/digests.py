"""Digests: what the store keeps in the place of a secret or an address. Pure."""

import hashlib
import hmac


def digest(text: str) -> str:
    """SHA-256 in hex; of a long random secret it tells nothing."""
    return hashlib.sha256(_bytes(text)).hexdigest()


def keyed_digest(key: str, purpose: str, *parts: str) -> str:
    """HMAC-SHA-256 (RFC 2104) in hex, for what could be guessed from a plain digest. Parts hold no zero byte."""
    return hmac.digest(f"{purpose}\0{key}".encode(), _bytes("\0".join(parts)), hashlib.sha256).hex()


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # a header or a form may hold any bytes
