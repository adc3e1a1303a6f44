"""Pair codes: the same for the device and on the page, and nothing to learn from them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.pairs import pair_code
from app.peers import Fingerprint

LAPTOP, TABLET = Fingerprint("A1" * 32), Fingerprint("B2" * 32)
OWNER = "you@example.org"


@given(st.text(), st.text(), st.text())
def test_a_pair_code_is_two_groups_of_three_digits(secret: str, owner: str, claim: str) -> None:
    assert re.fullmatch(r"[0-9]{3}-[0-9]{3}", pair_code(secret, owner, LAPTOP, claim), re.A)


def test_asking_again_shows_the_same_code() -> None:
    assert pair_code("key", OWNER, LAPTOP, "none") == pair_code("key", OWNER, LAPTOP, "none")


@pytest.mark.parametrize(
    "other",
    [
        ("other key", OWNER, LAPTOP, "none"),
        ("key", "me@example.org", LAPTOP, "none"),
        ("key", OWNER, TABLET, "none"),
        ("key", OWNER, LAPTOP, "certificate"),
        ("key", OWNER + LAPTOP, Fingerprint(""), "none"),
    ],
)
def test_key_owner_device_and_claim_each_change_the_code(other: tuple[str, str, Fingerprint, str]) -> None:
    assert pair_code(*other) != pair_code("key", OWNER, LAPTOP, "none")
