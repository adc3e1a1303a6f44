"""Claims: what a device may say of how it will prove itself."""

import base64
import hashlib
from typing import Any

import pytest

from app.claims import CERTIFICATE, NO_CLAIM, claim_of_secret, is_secret, parse_claim, proof_by, strength
from app.errors import BadInput

HASH = base64.urlsafe_b64encode(hashlib.sha256(b"a secret of a device").digest()).decode()


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        (None, "none"),
        ("none", "none"),
        ("certificate", "certificate"),
        (HASH, HASH.rstrip("=")),
        (HASH.rstrip("="), HASH.rstrip("=")),
    ],
)
def test_a_claim_is_none_certificate_or_the_hash_of_a_secret(text: object, claim: str) -> None:
    assert parse_claim(text) == claim


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        "Certificate",
        "certificate ",
        HASH[:-2],
        HASH + "=",
        HASH[:42] + "B",  # bits that no 32 bytes have
        HASH.replace(HASH[3], "+"),
        HASH.replace(HASH[3], "é"),
        "A" * 64,
        hashlib.sha256(b"hex is not base64url").hexdigest(),
        f"{HASH}\n",
        7,
        True,
        ["certificate"],
        {"secret": "x"},
    ],
)
def test_anything_else_is_no_claim(text: Any) -> None:
    with pytest.raises(BadInput):
        parse_claim(text)


def test_the_claim_of_a_secret_is_its_hash() -> None:
    assert claim_of_secret("a secret of a device") == HASH.rstrip("=")
    assert parse_claim(claim_of_secret("é\ud800")) == claim_of_secret("é\ud800")


@pytest.mark.parametrize(
    ("claim", "secret", "how", "strong"),
    [(NO_CLAIM, False, "none", 0), (HASH, True, "secret", 1), (CERTIFICATE, False, "certificate", 2)],
)
def test_a_certificate_is_more_than_a_secret_and_a_secret_more_than_nothing(
    claim: str, secret: bool, how: str, strong: int
) -> None:
    assert (is_secret(claim), proof_by(claim), strength(claim)) == (secret, how, strong)
