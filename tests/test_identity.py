"""Identity: a proof holds for one key, one fingerprint, one server and one connection, or not at all."""

import base64
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384
from hypothesis import given
from hypothesis import strategies as st

from app.claims import CERTIFICATE, NO_CLAIM
from app.errors import BadInput, NotProved
from app.identity import CertificateProof, SecretProof, challenge, check_certificate, check_proof, parse_proof
from app.peers import Fingerprint
from tests.keys import KEYS, OTHER_KEYS, Certificate, b64, new_certificate, new_secret
from tests.parts import fingerprint

ORIGIN = "https://book.example.org"
NONCE = "pvAf-r_9G9jUFdYyWEtWCw"


@pytest.fixture(scope="module", params=KEYS)
def certificate(request: pytest.FixtureRequest) -> Certificate:
    return new_certificate(request.param)


def proof_of(certificate: Certificate, message: bytes | None = None) -> CertificateProof:
    return CertificateProof(
        certificate.der,
        certificate.sign(challenge(ORIGIN, certificate.fp, NONCE) if message is None else message),
    )


def refused(proof: CertificateProof, fp: Fingerprint, origin: str = ORIGIN, nonce: str = NONCE) -> tuple[int, str]:
    with pytest.raises(NotProved) as refusal:
        check_certificate(proof, origin, fp, nonce)
    return refusal.value.code, refusal.value.text


def test_what_is_signed_is_written_down() -> None:
    fp = Fingerprint("AB" * 32)
    assert challenge(ORIGIN, fp, NONCE) == (
        b" " * 64 + b"peerbook-ws-v1\x00https://book.example.org\x00" + b"AB" * 32 + b"\x00pvAf-r_9G9jUFdYyWEtWCw"
    )


def test_the_key_of_the_certificate_proves_the_device(certificate: Certificate) -> None:
    assert check_proof(proof_of(certificate), NO_CLAIM, ORIGIN, certificate.fp, NONCE) == CERTIFICATE


@pytest.mark.parametrize("days", [-900, 1])
def test_dates_do_not_matter_since_the_fingerprint_is_the_identity(days: int) -> None:
    ended = new_certificate(days=days)
    check_certificate(proof_of(ended), ORIGIN, ended.fp, NONCE)


def test_another_key_proves_nothing(certificate: Certificate) -> None:
    for kind in KEYS:
        other = new_certificate(kind)
        if other.key is not certificate.key:
            forged = other.sign(challenge(ORIGIN, certificate.fp, NONCE))
            refused(CertificateProof(certificate.der, forged), certificate.fp)


def test_a_signature_for_another_connection_server_or_fingerprint_proves_nothing(certificate: Certificate) -> None:
    proof, fp = proof_of(certificate), certificate.fp
    assert (
        len(
            {
                refused(proof, fp, nonce="another"),
                refused(proof, fp, nonce=""),
                refused(proof, fp, origin="https://other.example.org"),
                refused(proof, fp, origin="http://book.example.org"),
                refused(proof, fp, origin=ORIGIN + ":8443"),
                refused(proof, fingerprint()),
                refused(proof_of(certificate, challenge(ORIGIN, fingerprint(), NONCE)), fp),
                refused(proof_of(certificate, challenge(ORIGIN, fp, NONCE)[64:]), fp),
                refused(proof_of(certificate, NONCE.encode()), fp),
                refused(proof_of(certificate, b""), fp),
            }
        )
        == 1
    )  # and all say the same


def test_a_signature_moved_across_the_border_of_origin_and_nonce_proves_nothing(certificate: Certificate) -> None:
    proof = proof_of(certificate, challenge(ORIGIN + "\0", certificate.fp, NONCE))
    refused(proof, certificate.fp)


def test_every_flipped_bit_of_certificate_or_signature_proves_nothing() -> None:
    certificate = new_certificate()
    proof = proof_of(certificate)
    for at in range(len(proof.signature)):
        flipped = bytearray(proof.signature)
        flipped[at] ^= 1
        refused(CertificateProof(proof.certificate, bytes(flipped)), certificate.fp)
    for at in range(0, len(proof.certificate), 7):
        flipped = bytearray(proof.certificate)
        flipped[at] ^= 1
        refused(CertificateProof(bytes(flipped), proof.signature), certificate.fp)
        # Not even where the fingerprint is that of the damaged one: then the bytes are no certificate of this key.
        damaged = Fingerprint(hashlib.sha256(flipped).hexdigest().upper())
        refused(CertificateProof(bytes(flipped), proof.signature), damaged)


@pytest.mark.parametrize("kind", OTHER_KEYS)
def test_other_kinds_of_keys_are_not_accepted(kind: str) -> None:
    other = new_certificate(kind)
    refused(proof_of(other), other.fp)


def test_other_signatures_of_the_right_key_are_not_accepted() -> None:
    small, large, old = new_certificate("P-256"), new_certificate("P-384"), new_certificate("RSA 2048")
    for certificate, signature in (
        (small, small.key.sign(challenge(ORIGIN, small.fp, NONCE), ec.ECDSA(SHA384()))),
        (small, small.key.sign(challenge(ORIGIN, small.fp, NONCE), ec.ECDSA(SHA1()))),
        (small, raw_signature(small)),
        (large, large.key.sign(challenge(ORIGIN, large.fp, NONCE), ec.ECDSA(SHA256()))),
        (old, old.key.sign(challenge(ORIGIN, old.fp, NONCE), padding.PKCS1v15(), SHA1())),
        (old, old.key.sign(challenge(ORIGIN, old.fp, NONCE), pss(), SHA256())),
    ):
        refused(CertificateProof(certificate.der, signature), certificate.fp)


def raw_signature(certificate: Certificate) -> bytes:
    """The two numbers one after the other, as Web Crypto signs; ours come in DER."""
    r, s = decode_dss_signature(certificate.sign(challenge(ORIGIN, certificate.fp, NONCE)))
    return r.to_bytes(32) + s.to_bytes(32)


def pss() -> padding.PSS:
    return padding.PSS(padding.MGF1(SHA256()), padding.PSS.MAX_LENGTH)


@pytest.mark.parametrize("der", [b"", b"\x30", b"not a certificate", b"\x30\x82\xff\xff" + b"\0" * 100])
def test_bytes_that_are_no_certificate_prove_nothing(der: bytes) -> None:
    refused(CertificateProof(der, b"x"), Fingerprint(hashlib.sha256(der).hexdigest().upper()))


@given(st.binary(max_size=300), st.binary(max_size=80))
def test_any_bytes_are_refused_and_nothing_worse(der: bytes, signature: bytes) -> None:
    refused(CertificateProof(der, signature), Fingerprint(hashlib.sha256(der).hexdigest().upper()))


def test_a_secret_proves_the_claim_that_is_its_hash_and_no_other() -> None:
    secret, other, fp = new_secret(), new_secret(), fingerprint()
    assert check_proof(SecretProof(secret.secret), secret.claim, ORIGIN, fp, NONCE) == secret.claim
    for claim in (other.claim, NO_CLAIM, CERTIFICATE, "", secret.secret):
        with pytest.raises(NotProved):
            check_proof(SecretProof(secret.secret), claim, ORIGIN, fp, NONCE)


def test_a_known_hash_without_its_secret_proves_nothing() -> None:
    claim = new_secret().claim
    with pytest.raises(NotProved):
        check_proof(SecretProof(claim), claim, ORIGIN, fingerprint(), NONCE)


def test_a_secret_is_not_shown_where_a_proof_is_printed() -> None:
    secret = new_secret().secret
    assert secret not in repr(SecretProof(secret))


# Reading a proof


def test_a_proof_is_read_from_a_message() -> None:
    assert parse_proof({"command": "prove", "secret": "x" * 16}) == SecretProof("x" * 16)
    proof = CertificateProof(bytes(range(250, 256)) * 3, b"\xff\xfe")
    standard = {"certificate": b64(proof.certificate), "signature": b64(proof.signature)}
    url_safe = {key: text.replace("+", "-").replace("/", "_").rstrip("=") for key, text in standard.items()}
    assert standard != url_safe
    assert parse_proof(standard) == parse_proof(url_safe) == proof


BIG = base64.b64encode(b"x" * 8193).decode()


NEITHER = "A proof is a secret, or a certificate with a signature."
NO_SECRET = "A secret is a text of 16 to 256 characters."
NO_BASE64 = "This is not base64."
TOO_LARGE = "This proof is too large."


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({}, NEITHER),
        ({"secret": ""}, NO_SECRET),
        ({"secret": "x" * 15}, NO_SECRET),
        ({"secret": "x" * 257}, NO_SECRET),
        ({"secret": 7}, NO_SECRET),
        ({"secret": ["x" * 20]}, NO_SECRET),
        ({"secret": "x" * 20, "certificate": "AAAA", "signature": "AAAA"}, NEITHER),
        ({"secret": "x" * 20, "certificate": "AAAA"}, NEITHER),
        ({"secret": "x" * 20, "signature": "AAAA"}, NEITHER),
        ({"certificate": "AAAA"}, NEITHER),
        ({"signature": "AAAA"}, NEITHER),
        ({"certificate": "AAAA", "signature": 7}, NEITHER),
        ({"certificate": 7, "signature": "AAAA"}, NEITHER),
        ({"certificate": "AAAAA", "signature": "AAAA"}, NO_BASE64),
        ({"certificate": "AAAA", "signature": "AAAAA"}, NO_BASE64),
        ({"certificate": "AA\nAA", "signature": "AAAA"}, NO_BASE64),
        ({"certificate": "AA==AA==", "signature": "AAAA"}, NO_BASE64),
        ({"certificate": "é" * 8, "signature": "AAAA"}, NO_BASE64),
        ({"certificate": BIG, "signature": "AAAA"}, TOO_LARGE),
        ({"certificate": "AAAA", "signature": BIG}, TOO_LARGE),
    ],
)
def test_what_is_no_proof_is_bad_input_with_a_sentence(message: Mapping[str, Any], text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parse_proof(message)
    assert refusal.value.text == text


def test_the_largest_proofs_are_read() -> None:
    longest = {"certificate": b64(b"x" * 8192), "signature": b64(b"x" * 1024)}
    proof = parse_proof(longest)
    assert isinstance(proof, CertificateProof)
    assert (len(proof.certificate), len(proof.signature)) == (8192, 1024)
    assert parse_proof({"secret": "x" * 256}) == SecretProof("x" * 256)
    with pytest.raises(BadInput):
        parse_proof(longest | {"signature": b64(b"x" * 1025)})


values = st.none() | st.booleans() | st.integers() | st.text(max_size=40) | st.lists(st.text(max_size=3), max_size=2)


@given(st.fixed_dictionaries({}, optional={"secret": values, "certificate": values, "signature": values}))
def test_any_message_is_a_proof_or_refused_with_a_sentence(message: dict[str, Any]) -> None:
    with suppress(BadInput):
        assert isinstance(parse_proof(message), SecretProof | CertificateProof)
