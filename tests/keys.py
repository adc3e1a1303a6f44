"""Real certificates and secrets, as devices keep them."""

import base64
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from app.claims import claim_of_secret
from app.identity import challenge
from app.peers import Fingerprint


@dataclass(frozen=True)
class Certificate:
    """A DTLS certificate with its key."""

    der: bytes
    key: Any

    @property
    def fp(self) -> Fingerprint:
        return Fingerprint(hashlib.sha256(self.der).hexdigest().upper())

    def sign(self, message: bytes) -> bytes:
        match self.key:
            case ec.EllipticCurvePrivateKey():
                return self.key.sign(message, ec.ECDSA(_hash_of(self.key)))
            case rsa.RSAPrivateKey():
                return self.key.sign(message, padding.PKCS1v15(), SHA256())
            case dsa.DSAPrivateKey():
                return self.key.sign(message, SHA256())
        signature: bytes = self.key.sign(message)
        return signature

    def proof(self, origin: str, nonce: str, fp: Fingerprint | None = None) -> dict[str, str]:
        """The members of a message that proves it."""
        return self.signed(self.sign(challenge(origin, fp or self.fp, nonce)))

    def signed(self, signature: bytes) -> dict[str, str]:
        return {"certificate": b64(self.der), "signature": b64(signature)}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _hash_of(key: ec.EllipticCurvePrivateKey) -> HashAlgorithm:
    return SHA384() if key.curve.key_size == 384 else SHA256()


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """Made once: large ones take a while."""
    return rsa.generate_private_key(65537, bits)


KEYS: dict[str, Callable[[], Any]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA 2048": lambda: rsa_key(2048),
    "RSA 4096": lambda: rsa_key(4096),
}
"""Every kind of key that is accepted."""

OTHER_KEYS: dict[str, Callable[[], Any]] = {
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "Ed448": ed448.Ed448PrivateKey.generate,
    "RSA 2047": lambda: rsa_key(2047),
    "RSA 4104": lambda: rsa_key(4104),
    "DSA": lambda: dsa.generate_private_key(2048),
}
"""Kinds of keys that are not."""


def new_certificate(kind: str = "P-256", *, days: int = 30) -> Certificate:
    """A self-signed certificate with a key of that kind, as WebRTC makes them; it has ended where `days` are negative."""
    key = (KEYS | OTHER_KEYS)[kind]()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "WebRTC")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1000))
        .not_valid_after(now + timedelta(days=days))
    )
    unhashed = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return Certificate(builder.sign(key, None if unhashed else SHA256()).public_bytes(Encoding.DER), key)


@dataclass(frozen=True)
class Secret:
    """A secret of a device that can't sign."""

    secret: str

    @property
    def claim(self) -> str:
        return claim_of_secret(self.secret)

    def proof(self) -> dict[str, str]:
        return {"secret": self.secret}


def new_secret() -> Secret:
    return Secret(secrets.token_urlsafe(24))
