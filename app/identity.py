"""Identity: how a device proves that it is the peer that was approved, by its certificate's key or by a secret. Pure."""

import binascii
import hashlib
import hmac
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.x509 import load_der_x509_certificate

from app.claims import CERTIFICATE, claim_of_secret
from app.errors import BadInput, NotProved
from app.peers import Fingerprint

_CONTEXT = b"\x20" * 64 + b"peerbook-ws-v1\0"  # in the manner of TLS 1.3 (RFC 8446, section 4.4.3)
_LONGEST_CERTIFICATE = 8192
_LONGEST_SIGNATURE = 1024
_SHORTEST_SECRET, _LONGEST_SECRET = 16, 256


@dataclass(frozen=True, slots=True)
class SecretProof:
    """A device shows its secret."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificateProof:
    """A device shows its certificate (DER) and signs the challenge of its connection with the certificate's key."""

    certificate: bytes
    signature: bytes


Proof = SecretProof | CertificateProof


def parse_proof(message: Mapping[str, object]) -> Proof:
    """The proof that a message carries; raises BadInput."""
    secret, certificate, signature = (message.get(each) for each in ("secret", "certificate", "signature"))
    if secret is not None and certificate is None and signature is None:
        if isinstance(secret, str) and _SHORTEST_SECRET <= len(secret) <= _LONGEST_SECRET:
            return SecretProof(secret)
        raise BadInput("A secret is a text of 16 to 256 characters.")
    if secret is None and isinstance(certificate, str) and isinstance(signature, str):
        return CertificateProof(
            _parse_base64(certificate, _LONGEST_CERTIFICATE), _parse_base64(signature, _LONGEST_SIGNATURE)
        )
    raise BadInput("A proof is a secret, or a certificate with a signature.")


def challenge(origin: str, fp: Fingerprint, nonce: str) -> bytes:
    """What a certificate's key signs: good for one server, one fingerprint and one connection only."""
    return _CONTEXT + b"\0".join((origin.encode(), fp.encode(), nonce.encode()))


def check_proof(proof: Proof, claim: str, origin: str, fp: Fingerprint, nonce: str) -> str:
    """The claim that the proof holds for: a certificate's own, or `claim` where that is the secret's.

    Raises NotProved, which says the same whatever is wrong.
    """
    if isinstance(proof, SecretProof):
        if not hmac.compare_digest(claim, claim_of_secret(proof.secret)):
            raise NotProved
        return claim
    check_certificate(proof, origin, fp, nonce)
    return CERTIFICATE


def check_certificate(proof: CertificateProof, origin: str, fp: Fingerprint, nonce: str) -> None:
    """Whether the certificate has the fingerprint, and its key signed the challenge; raises NotProved.

    ECDSA P-256 with SHA-256 and P-384 with SHA-384 (signatures in DER), Ed25519, RSA of 2048 to 4096 bits with
    PKCS#1 v1.5 and SHA-256. Dates and issuer don't matter: the fingerprint is the identity (RFC 8122, section 5).
    """
    if hashlib.sha256(proof.certificate).hexdigest().upper() != fp:
        raise NotProved
    message, signature = challenge(origin, fp, nonce), proof.signature
    try:
        match load_der_x509_certificate(proof.certificate).public_key():
            case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()) as key:
                key.verify(signature, message, ec.ECDSA(SHA256()))
            case ec.EllipticCurvePublicKey(curve=ec.SECP384R1()) as key:
                key.verify(signature, message, ec.ECDSA(SHA384()))
            case ed25519.Ed25519PublicKey() as key:
                key.verify(signature, message)
            case rsa.RSAPublicKey() as key if 2048 <= key.key_size <= 4096:
                key.verify(signature, message, padding.PKCS1v15(), SHA256())
            case _:
                raise NotProved
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        raise NotProved from None


def _parse_base64(text: str, longest: int) -> bytes:
    """Standard or URL-safe base64 (RFC 4648), with or without padding."""
    try:
        data = b64decode(text.translate(_STANDARD) + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("This is not base64.") from None
    if len(data) > longest:
        raise BadInput("This proof is too large.")
    return data


_STANDARD = str.maketrans("-_", "+/")
