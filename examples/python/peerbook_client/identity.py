"""Identity: a certificate and its key, kept in one file that only its owner reads. The fingerprint is who we are."""

import base64
import hashlib
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiortc import RTCCertificate
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

_CONTEXT = b"\x20" * 64 + b"peerbook-ws-v1\0"
_LIFETIME = timedelta(days=36500)  # no peer looks at the dates, the fingerprint is what counts (RFC 8122, section 5)


@dataclass(frozen=True)
class Identity:
    """A DTLS certificate with its key (ECDSA P-256)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def fp(self) -> str:
        """The fingerprint, in the canonical form of the protocol: 64 upper-case hex digits."""
        return hashlib.sha256(self.der).hexdigest().upper()

    @property
    def der(self) -> bytes:
        """The certificate as it travels."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def rtc(self) -> RTCCertificate:
        """The same for aiortc."""
        return RTCCertificate(self.key, self.certificate)

    def proof(self, origin: str, nonce: str) -> dict[str, str]:
        """The members of `prove` and `rekey` that prove this certificate on one connection (protocol, section 5)."""
        challenge = _CONTEXT + b"\0".join(part.encode() for part in (origin, self.fp, nonce))
        signature = self.key.sign(challenge, ec.ECDSA(SHA256()))
        return {"certificate": _base64(self.der), "signature": _base64(signature)}


def new_identity() -> Identity:
    """An identity that nobody knows yet."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, secrets.token_hex(8))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _LIFETIME)
        .sign(key, SHA256())
    )
    return Identity(certificate, key)


def load_identity(path: Path) -> Identity:
    """The identity in that file, which is made where there is none.

    Raises PermissionError where others may read it, ValueError where it holds something else.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        identity = new_identity()
        save_identity(path, identity)
        return identity
    if mode & 0o077:
        raise PermissionError(f"{path} holds a private key and is open to others: chmod 600 it, or begin with another.")
    return _read(path)


def save_identity(path: Path, identity: Identity) -> None:
    """Write it whole or not at all, for our own eyes only (0600)."""
    key = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key + identity.certificate.public_bytes(Encoding.PEM))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _read(path: Path) -> Identity:
    text = path.read_bytes()
    key = load_pem_private_key(text, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} holds no ECDSA key.")
    return Identity(x509.load_pem_x509_certificate(text), key)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
