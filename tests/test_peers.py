"""Fingerprints, names and kinds: every form that is accepted, and every one that is not."""

import contextlib
import hashlib
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import BadInput
from app.peers import (
    Device,
    Fingerprint,
    Peer,
    State,
    clean_kind,
    clean_name,
    fold_name,
    parse_fingerprint,
    parse_kind,
    parse_name,
    request_id,
)

PLAIN = hashlib.sha256(b"certificate").hexdigest().upper()
COLONS = ":".join(PLAIN[i : i + 2] for i in range(0, 64, 2))

anything = st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.text() | st.lists(st.text())
all_text = st.text(st.characters())  # lone surrogates included


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.lower(),
        COLONS,
        COLONS.lower(),
        f"sha-256 {COLONS}",
        f"SHA-256 {COLONS.lower()}",
        f"sha-256+{COLONS}",
        f"sha-256 {PLAIN}",
    ],
)
def test_every_form_of_a_fingerprint_means_the_same(text: str) -> None:
    assert parse_fingerprint(text) == PLAIN


@pytest.mark.parametrize(
    "text",
    [
        None,
        64,
        PLAIN.encode(),
        [PLAIN],
        "",
        PLAIN[:-1],
        PLAIN + "A",
        PLAIN + "\n",
        " " + PLAIN,
        "G" + PLAIN[1:],
        COLONS[:-1],
        COLONS + ":",
        COLONS.replace(":", "-"),
        COLONS[:-3] + COLONS[-2:],
        "sha-1 " + PLAIN,
        "sha-256" + PLAIN,
        "sha-256  " + PLAIN,
        "\u017fha-256 " + PLAIN,
        "\uff21" + PLAIN[1:],
        "\u0661" + PLAIN[1:],
    ],
)
def test_anything_else_is_no_fingerprint(text: object) -> None:
    with pytest.raises(BadInput):
        parse_fingerprint(text)


@given(anything)
@settings(deadline=None)
def test_no_input_breaks_the_parsers(text: object) -> None:
    for parse in (parse_fingerprint, parse_name, parse_kind):
        with contextlib.suppress(BadInput):
            assert isinstance(parse(text), str)


@given(st.binary(min_size=32, max_size=32))
def test_a_fingerprint_is_stored_in_one_form(digest: bytes) -> None:
    fp = parse_fingerprint(digest.hex(":"))
    assert fp == digest.hex().upper()
    assert parse_fingerprint(fp) == fp


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("laptop", "laptop"),
        ("  my \t laptop\n", "my laptop"),
        ("cafe\u0301", "caf\u00e9"),
        ("a\u202eb\u200bc\u0000d\u2066e", "abcde"),
        ("a\U000e0041b\ue000", "ab\ue000"),
        ("手机", "手机"),
        ("x" * 64, "x" * 64),
        ("e\u0301" * 64, "\u00e9" * 64),
        ("lap\ud800top", "laptop"),
        ("laptop\ufe0f\u180b", "laptop"),
    ],
)
def test_a_name_is_kept_as_people_see_it(typed: str, name: str) -> None:
    assert parse_name(typed) == name


@pytest.mark.parametrize(
    "typed", [None, 1, b"laptop", "", " ", "\u200b\u200d", "\u2800", "\u3164", "\ufe0f", "\ud800", "x" * 65, "\u2003"]
)
def test_a_name_that_nobody_could_read_is_refused(typed: object) -> None:
    with pytest.raises(BadInput):
        parse_name(typed)


@given(all_text)
@settings(deadline=None)
def test_a_cleaned_name_is_a_good_name(text: str) -> None:
    name = clean_name(text)
    assert parse_name(name) == name
    assert unicodedata.is_normalized("NFC", name)


@given(all_text)
def test_a_name_shows_nothing_but_what_can_be_seen(text: str) -> None:
    assert not {unicodedata.category(char) for char in clean_name(text)} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize("text", [None, "", "\u202e", " \t "])
def test_a_client_without_a_name_is_called_peer(text: str | None) -> None:
    assert clean_name(text) == clean_kind(text) == "peer"


def test_a_cleaned_name_is_cut_without_a_blank_at_its_end() -> None:
    assert clean_name("x" * 63 + " y") == "x" * 63


@pytest.mark.parametrize("kind", ["lab", "web-exec", "a.b_c-1", "x" * 32])
def test_a_kind_is_a_short_word(kind: str) -> None:
    assert parse_kind(kind) == clean_kind(kind) == kind


@pytest.mark.parametrize("kind", [None, 1, "", "Lab", "a b", "x" * 33, "lab\n", "\u00e9"])
def test_other_kinds_are_refused(kind: object) -> None:
    with pytest.raises(BadInput):
        parse_kind(kind)


@given(all_text)
def test_a_cleaned_kind_is_a_good_kind(text: str) -> None:
    assert parse_kind(clean_kind(text)) == clean_kind(text)


def test_a_cleaned_kind_is_the_nearest_good_one() -> None:
    assert clean_kind("Web Exec!" + "x" * 40) == "webexec" + "x" * 25


def test_names_that_look_the_same_fold_to_one() -> None:
    assert fold_name("Laptop") == fold_name("LAPTOP") == fold_name("laptop")
    assert fold_name("stra\u00dfe") == fold_name("STRASSE")
    assert fold_name("laptop") != fold_name("laptop 2")


@pytest.mark.parametrize(
    ("state", "verified", "listed"),
    [("verified", True, True), ("added", False, False), ("revoked", False, True)],
)
def test_who_is_in_and_who_is_seen(state: State, verified: bool, listed: bool) -> None:
    peer = Peer(Fingerprint(PLAIN), "laptop", "lab", state)
    assert (peer.verified, peer.listed) == (verified, listed)


def test_there_is_one_request_per_fingerprint_and_claim() -> None:
    fp = Fingerprint(PLAIN)
    assert Device(fp, "none", "laptop", "lab", "here").rid == Device(fp, "none", "phone", "app", "there").rid
    assert request_id(fp, "none") != request_id(fp, "certificate")
    assert request_id(fp, "none") != request_id(Fingerprint("A" * 64), "none")
