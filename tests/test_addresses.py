"""Addresses and owners: one mail address matched whole, and how a device names its owner."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.addresses import Address, parse_address
from app.errors import BadInput
from app.owners import NOBODY, parse_uid, read_owner


@pytest.mark.parametrize(
    "text",
    [
        "a@b",
        "you@example.org",
        "You.Me+peer=book@Example.ORG",
        "o'neil_{x}~@a-b.example",
        "x@" + "a" * 63 + ".org",
        "x" * 245 + "@abc.org.",
    ],
)
def test_an_address_is_mailed_as_typed_and_compared_in_lower_case(text: str) -> None:
    text = text.rstrip(".")
    address = parse_address(text)
    assert address.typed == text
    assert address.key == text.lower()
    assert address.domain == text.lower().split("@")[1]


@pytest.mark.parametrize(
    "text",
    [
        None,
        1,
        b"you@example.org",
        ["you@example.org"],
        "",
        "you",
        "@example.org",
        "you@",
        "you@example.org\n",
        " you@example.org",
        "you@example.org, me@example.org",
        "you@example.org;me@example.org",
        "You <you@example.org>",
        "you@@example.org",
        "a@b@example.org",
        ".you@example.org",
        "you.@example.org",
        "y..u@example.org",
        "you@.org",
        "you@example..org",
        "you@-example.org",
        "you@example-.org",
        "you@" + "a" * 64 + ".org",
        "you@exam ple.org",
        "y\u00f6u@example.org",
        "you@ex\u00e4mple.org",
        "you\r\nBcc: me@example.org",
        '"you"@example.org',
        '"you me"@example.org',
        "you(me)@example.org",
        "you@example.org (me)",
        "us: you@example.org, me@example.org;",
        "you:@example.org",
        "@example.net:you@example.org",
        "<you@example.org>",
        "you@example.org>",
        "you\\@example.org",
        "you@example.org\x00",
        "you\u2028@example.org",
        "you\u00a0@example.org",
        "you\uff20example.org",
        "=?utf-8?q?you=2C_me=40example=2Enet=3E?=@example.org",
        "=?utf-8?q?you=0D=0ABcc=3A_me=40example=2Enet?=@example.org",
        "=?utf-8?b?eW91LG1l?=@example.org",
        "you.=?us-ascii?q?me?=@example.org",
        "you@[127.0.0.1]",
        "x" * 247 + "@abc.org",
    ],
)
def test_anything_but_exactly_one_address_is_refused(text: object) -> None:
    with pytest.raises(BadInput):
        parse_address(text)


@given(st.text(st.characters()) | st.from_regex(r"[^@\s]{1,9}@[^@\s]{1,9}", fullmatch=True))
@settings(deadline=None)
def test_no_text_breaks_the_parser_or_smuggles_a_second_address(text: str) -> None:
    try:
        address = parse_address(text)
    except BadInput:
        return
    assert address.typed == text
    assert text.count("@") == 1
    assert not set(text) & set(" ,;<>\r\n\t")


def test_a_masked_address_is_known_to_its_owner_only() -> None:
    assert Address("alice@example.org").masked == "a…@example.org"
    assert Address("a@example.org").masked == "a…@example.org"


@pytest.mark.parametrize("text", ["0123456789abcdef" * 2, "A1", "x" * 64])
def test_a_uid_is_letters_and_digits(text: str) -> None:
    assert parse_uid(text) == text


@pytest.mark.parametrize("text", [None, 7, "", "a b", "a{b}", "a:b", "\u00e9", "\u0661", "x" * 65, "a\n"])
def test_other_uids_are_refused(text: object) -> None:
    with pytest.raises(BadInput):
        parse_uid(text)


def test_a_uid_wins_over_an_address() -> None:
    assert read_owner("abc123", "you@example.org") == "abc123"


def test_a_malformed_uid_is_nobodys_and_never_falls_back_to_the_address() -> None:
    assert read_owner("no uid at all", "you@example.org") == NOBODY


@pytest.mark.parametrize("email", ["you+peer@example.org", "you peer@example.org", " you+peer@example.org "])
def test_a_blank_inside_an_address_is_a_plus_that_a_client_did_not_escape(email: str) -> None:
    assert read_owner(None, email) == Address("you+peer@example.org")


@pytest.mark.parametrize("email", [None, "", "  ", "you", "you@example.org, me@example.org"])
def test_a_bad_address_in_a_query_counts_as_none(email: str | None) -> None:
    assert read_owner(None, email) is None
    assert read_owner("", email) is None


@given(st.text(st.characters()), st.text(st.characters()))
def test_no_query_breaks_the_reading_of_an_owner(uid: str, email: str) -> None:
    owner = read_owner(uid, email)
    assert owner is None or isinstance(owner, str | Address)
