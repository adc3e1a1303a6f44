"""The fingerprint check: an honest description passes in every wrapping, a forged one in none."""

import base64
import contextlib
import hashlib
import json
import random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.descriptions import check_description
from app.errors import ForgedDescription
from app.messages import encode
from app.peers import Fingerprint
from tests.descriptions import (
    CHROMIUM,
    COVERS,
    FORGERIES,
    FP,
    HONEST,
    SESSION,
    THIEF,
    WRAPPINGS,
    Wrap,
    attribute,
    colons,
    line_of,
    sdp,
)

CERTIFICATE = b"the DER of a certificate"
HASHES = ("sha-1", "sha-224", "sha-256", "sha-384", "sha-512")

honest_ones = pytest.mark.parametrize("description", HONEST.values(), ids=HONEST)
ALL = WRAPPINGS | COVERS
wrappings = pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)


def check(value: Any, certificate: bytes | None = None, fp: str = FP) -> None:
    """Check a message with that offer, as it would be sent on."""
    frame = encode({"source_fp": fp, "source_name": "laptop", "offer": value})
    check_description(frame, Fingerprint(fp), certificate)


def refused(value: Any, certificate: bytes | None = None, fp: str = FP) -> str:
    """Why it is refused."""
    with pytest.raises(ForgedDescription) as refusal:
        check(value, certificate, fp)
    assert refusal.value.code == 403
    return refusal.value.text


def digits(name: str, certificate: bytes = CERTIFICATE) -> str:
    return hashlib.new(name.replace("-", ""), certificate).hexdigest().upper()


OWN = digits("sha-256")


def with_hashes(*lines: str) -> str:
    """A description of the one with the certificate, that names it in these ways."""
    return CHROMIUM.replace(attribute(), "\r\n".join(lines))


# Honest descriptions


@wrappings
@honest_ones
def test_an_honest_description_passes_in_every_wrapping(description: str, wrap: Wrap) -> None:
    check(wrap(description))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        1e300,
        "",
        "x",
        "v=0\r\n",
        "a=fingerprint",
        "my fingerprint: 12:34",
        "?v=0&stream=audio",
        {},
        [],
        {"type": "rollback", "sdp": ""},
        {"type": "rollback", "sdp": None},
        {"fingerprint": "sha-512 AA:BB"},
        {"a=fingerprint": "sha-512 AA:BB"},
        json.dumps({"fingerprint": f"sha-256 {colons(THIEF)}"}),
        "=" * 1000,
        '"' * 1000,
        "\\" * 1000,
        "{" * 1000,
        " " * 1000,
        '{"' + "\\q" * 500 + '"}',
        base64.b64encode(b"no description, though a long one. " * 20).decode(),
    ],
    ids=repr,
)
def test_what_is_no_description_passes(value: Any) -> None:
    check(value)


@pytest.mark.parametrize("size", [300, 5000, 40000])
def test_an_encrypted_blob_passes(size: int) -> None:
    blob = random.Random(size).randbytes(size)
    check(base64.b64encode(blob).decode())
    check(base64.urlsafe_b64encode(blob).decode().rstrip("="))
    check(blob.decode("latin-1"))


def test_the_longest_message_passes_in_the_usual_wrapping() -> None:
    long = CHROMIUM + sdp(*("a=candidate:241930482 1 udp 2113937151 192.0.2.2 48403 typ host",) * 700)
    value = WRAPPINGS["base64"]({"type": "offer", "sdp": long})
    assert 55_000 < len(value) < 65_536
    check(value)


def test_a_name_that_looks_like_a_description_is_somebodys_name() -> None:
    frame = encode({"source_fp": FP, "source_name": "v=0 m=audio 9", "offer": "x"})
    check_description(frame, Fingerprint(FP), None)


# Forged ones


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize("wrap", ALL.values(), ids=ALL)
def test_a_forged_description_is_refused_in_every_wrapping(forgery: Any, wrap: Wrap) -> None:
    refused(wrap(forgery(CHROMIUM)))


@honest_ones
def test_a_description_of_somebody_else_is_refused(description: str) -> None:
    if "fingerprint" in description.lower():
        refused(description, fp=THIEF)
    else:
        check(description, fp=THIEF)


@pytest.mark.parametrize("kind", ["audio", "video", "application"])
@pytest.mark.parametrize("session", [SESSION, ("v=0",)])
def test_media_without_a_fingerprint_is_refused_however_short(kind: str, session: tuple[str, ...]) -> None:
    bare = sdp(*session, f"m={kind} 9 UDP/TLS/RTP/SAVPF 0")
    for value in (bare, {"sdp": bare}, json.dumps({"sdp": bare})):
        assert "SHA-256" in refused(value)
    check(bare.replace(" 9 ", " 0 "))


def test_each_line_of_a_list_is_read() -> None:
    check({"lines": CHROMIUM.splitlines()})
    refused({"lines": CHROMIUM.replace(attribute(), attribute(THIEF)).splitlines()})


def test_every_member_is_read_wherever_it_stands() -> None:
    forged = CHROMIUM.replace(attribute(), attribute(THIEF))
    for members in ({"offer": "x", "sdp": forged}, {"answer": {"type": "answer"}, "more": [[forged]]}, {forged: 1}):
        with pytest.raises(ForgedDescription):
            check_description(encode({"source_fp": FP} | members), Fingerprint(FP), None)


@pytest.mark.parametrize("escape", [lambda text: json.dumps(text), lambda text: WRAPPINGS["JSON, escaped"](text)[7:-1]])
def test_no_key_hides_behind_an_equal_one(escape: Any) -> None:
    honest, forged = escape(CHROMIUM), escape(CHROMIUM.replace(attribute(), attribute(THIEF)))
    check(f'{{"sdp":{honest},"sdp":{honest}}}')
    refused(f'{{"sdp":{forged},"sdp":{honest}}}')
    refused(f'{{"sdp":{honest},"sdp":{forged}}}')
    refused(f'{{"sdp":{honest},"\\u0073dp":{forged}}}')


def test_strings_that_end_in_a_backslash_hide_none() -> None:
    forged = WRAPPINGS["JSON, escaped"](CHROMIUM.replace(attribute(), attribute(THIEF)))[8:-2]
    for before in ("\\\\", "a" * 300 + "\\\\", '\\"\\\\', "\\\\\\\\"):
        refused(f'{{"a":"{before}","sdp":"{forged}"}}')
        refused(f'{{"a":"{before}","sdp":"{forged}{before}"}}')
        refused(f'["{before}","{before}",  "{forged}"]')


def test_what_is_wrapped_over_and_over_is_refused() -> None:
    value: Any = CHROMIUM + "a=x" * 500
    for _ in range(12):
        value = WRAPPINGS["base64"](value)
    assert len(value) < 65_536
    assert "too often" in refused(value)


# Other hashes


@pytest.mark.parametrize("name", HASHES)
def test_a_hash_of_the_proved_certificate_passes_beside_the_sha_256(name: str) -> None:
    check(with_hashes(attribute(OWN), attribute(digits(name), name)), CERTIFICATE, OWN)
    check(with_hashes(attribute(digits(name).lower(), name.upper()), attribute(OWN)), CERTIFICATE, OWN)


@pytest.mark.parametrize("name", HASHES)
def test_a_hash_of_another_certificate_is_refused(name: str) -> None:
    other = attribute(digits(name, b"another certificate"), name)
    refused(with_hashes(attribute(OWN), other), CERTIFICATE, OWN)
    refused(with_hashes(other, attribute(OWN)), CERTIFICATE, OWN)


@pytest.mark.parametrize("name", sorted({*HASHES} - {"sha-256"}))
def test_without_a_proved_certificate_only_the_sha_256_passes(name: str) -> None:
    assert "prove it first" in refused(with_hashes(attribute(OWN), attribute(digits(name), name)), None, OWN)


@pytest.mark.parametrize("name", sorted({*HASHES} - {"sha-256"}))
def test_a_description_without_the_sha_256_is_refused(name: str) -> None:
    assert "SHA-256" in refused(with_hashes(attribute(digits(name), name)), CERTIFICATE, OWN)


@pytest.mark.parametrize("name", ["md5", "md2", "sha3-256", "shake_128"])
def test_a_hash_that_no_browser_takes_is_refused_even_of_the_proved_certificate(name: str) -> None:
    refused(with_hashes(attribute(OWN), attribute(hashlib.md5(CERTIFICATE).hexdigest(), name)), CERTIFICATE, OWN)


# Anything


words = st.sampled_from(
    [
        "=fingerprint:",
        "sha-256",
        "sha-512 ",
        line_of(CHROMIUM),
        "v=0",
        "m=audio 9",
        '"',
        "\\",
        "\\u0061",
        "\n",
        "{",
        "[",
    ]
)
texts = st.one_of(st.text(), st.lists(words, max_size=60).map("".join), st.binary(max_size=600).map(base64.b64encode))
leaves = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), texts)
values = st.recursive(
    leaves.map(lambda leaf: leaf.decode() if isinstance(leaf, bytes) else leaf),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
)
# A bare JSON string around base64 in lines may be base64 in itself, with an n in each line: in doubt it is refused.
nestings = st.lists(st.sampled_from(sorted({*WRAPPINGS} - {"JSON, a string"})), max_size=4)
covered_nestings = st.lists(st.sampled_from(sorted(ALL)), max_size=4)


def nest(value: Any, nesting: list[str]) -> Any:
    for name in nesting:
        value = ALL[name](value)
    assume(len(encode({"offer": value})) <= 65_536)
    return value


@settings(deadline=None)
@given(values.filter(lambda value: not _has_surrogates(value)), covered_nestings, st.sampled_from([None, CERTIFICATE]))
def test_no_value_does_worse_than_being_refused(value: Any, nesting: list[str], certificate: bytes | None) -> None:
    with contextlib.suppress(ForgedDescription):
        check(nest(value, nesting), certificate)


def _has_surrogates(value: Any) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in str(value))


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_no_bytes_do_worse_than_being_refused(frame: bytes) -> None:
    with contextlib.suppress(ForgedDescription):
        check_description(frame, Fingerprint(FP), None)


@settings(deadline=None)
@given(
    nestings, st.integers(0, 63), st.sampled_from([name for name in HONEST if "fingerprint" in HONEST[name].lower()])
)
def test_one_digit_makes_the_difference_in_every_nesting(nesting: list[str], place: int, name: str) -> None:
    check(nest(HONEST[name], nesting))
    other = f"{FP[:place]}{'0' if FP[place] != '0' else '1'}{FP[place + 1 :]}"
    refused(nest(HONEST[name], nesting), fp=other)


@settings(deadline=None)
@given(covered_nestings, st.sampled_from(sorted(FORGERIES)))
def test_a_forged_description_is_refused_in_every_nesting(nesting: list[str], forgery: str) -> None:
    refused(nest(FORGERIES[forgery](CHROMIUM), nesting))


@pytest.mark.parametrize("text", [b"[" * 65536, b'{"a":' * 13000, b'"' * 65536, b"\\" * 65536, b'"\\' * 32768, b""])
def test_depth_and_odd_quotes_are_read_to_their_end(text: bytes) -> None:
    check_description(text, Fingerprint(FP), None)
