"""Session descriptions: an offer or answer may name no other certificate than its sender's. Pure.

A receiver connects to whoever holds the certificate that the description names (RFC 8122, section 5), so this keeps one
peer of a book from speaking as another. Applications wrap descriptions as they like: SDP, JSON that holds it, base64 of
either, and these in one another. All of it is read here at least as freely as a receiver might: no blank, letter case,
line end, escape, stray character or repeated key hides a fingerprint.
"""

import hashlib
import json
import re
from binascii import a2b_base64
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

from app.errors import ForgedDescription
from app.peers import Fingerprint

# Beside SHA-256, what Chromium takes. It believes the last line that it reads; other browsers, any that fits.
_OTHER_HASHES = ("sha-1", "sha-224", "sha-384", "sha-512")
_OTHERS = tuple(name.encode() for name in _OTHER_HASHES)

_FINGERPRINT = re.compile(rb"=fingerprint:([^\x00-\x1f\\\"]*)")
_MEDIA = (b"m=audio", b"m=video", b"m=application")
_LOWER = bytes(range(256)).lower()
_BLANKS = b" \t" + bytes(range(128, 256))

_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_NOT_BASE64 = re.sub(rb"[A-Za-z0-9+/]", b"", bytes(range(256)))
_NOT_URL_SAFE = re.sub(rb"[A-Za-z0-9+/_-]", b"", bytes(range(256)))
_BEGINS_LIKE_JSON = re.compile(rb"[\s\x80-\xff]*+[\[{\"]")
# Characters of UTF-8, the last of which may be cut; or JSON, whatever follows; or what UTF-16 and UTF-32 begin with.
_UTF_8 = rb"(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})*+"
_BEGINNING = re.compile(
    rb"%b(?:[\xc2-\xf4][\x80-\xbf]{0,2})?|\s*+[\[{\"].*|.{0,3}\0.*|(?:\xff\xfe|\xfe\xff).*" % _UTF_8, re.S
)
_BEGINNING_LETTERS = 32

# What is shorter, in bytes, is no description with which a receiver would connect.
_SHORTEST = 200

# The bytes that are read of a message and of the texts within it, each of which costs some more beside its own; of a
# message beyond 64 KiB, four times its size. So the longest takes about 1 ms, and usual ones are never refused.
_EFFORT = 4 * 65536
_EFFORT_PER_TEXT = 1500

_json = json.JSONDecoder()


def check_description(frame: bytes, fp: Fingerprint, certificate: bytes | None) -> None:
    """Check the JSON text of a message with an offer or answer; raises ForgedDescription.

    Each fingerprint in it (RFC 8122, section 5) must be `fp` in SHA-256, or another hash of `certificate`, the DER that
    the sender proved. A description with media has at least the SHA-256. Values that can't be read pass.
    """
    honest = _honest_values(fp, certificate)
    effort = max(_EFFORT, 4 * len(frame)) - len(frame)
    texts = [frame]
    while texts:
        text = texts.pop()
        _check_text(text, honest)
        for inner in chain(_strings_in(text), _decoded(text)):
            effort -= len(inner) + _EFFORT_PER_TEXT
            if effort < 0:
                raise ForgedDescription("This is wrapped too often to be read.")
            texts.append(inner)


@lru_cache(maxsize=256)  # a device describes itself several times in a row
def _honest_values(fp: Fingerprint, certificate: bytes | None) -> tuple[bytes, ...]:
    """What may follow `a=fingerprint:`, in lower case and without blanks; the SHA-256 is the first."""
    hashes = {"sha-256": bytes.fromhex(fp)}
    if certificate is not None:
        hashes |= {name: hashlib.new(name.replace("-", ""), certificate).digest() for name in _OTHER_HASHES}
    return tuple(f"{name}{digest.hex(':')}".encode() for name, digest in hashes.items())


def _check_text(text: bytes, honest: tuple[bytes, ...]) -> None:
    """Check each fingerprint that stands in the text, and that a description with media has one."""
    if b":" not in text:  # as in base64
        return
    lines = text.translate(_LOWER, _BLANKS)
    values = set(_FINGERPRINT.findall(lines))
    forged = values.difference(honest)
    if len(honest) == 1 and any(value.startswith(_OTHERS) for value in forged):
        raise ForgedDescription("Name your certificate in SHA-256 only, or prove it first.")
    if forged:
        raise ForgedDescription
    if honest[0] not in values and _describes_media(lines):
        raise ForgedDescription("This description does not name its certificate in SHA-256.")


def _describes_media(lines: bytes) -> bool:
    """Whether a session description (RFC 8866, section 5) has a media section that is not rejected by its port 0."""
    if not lines.startswith((b"v=0\r", b"v=0\n")) and b'"v=0\\' not in lines:
        return False
    return any(kind in lines and kind in lines.replace(kind + b"0", b"") for kind in _MEDIA)


def _strings_in(text: bytes) -> Iterator[bytes]:
    """The long strings of a JSON text (RFC 8259, section 7), each unescaped, whatever stands around them."""
    if not _BEGINS_LIKE_JSON.match(text):
        return
    # A quote that is left begins a string or ends one. Of those that end one, some are missing: after a backslash.
    quotes = text.replace(b'\\"', b"__")
    start = quotes.find(b'"')
    while 0 <= start < len(text) - _SHORTEST:
        end = quotes.rfind(b'"', start + 1, start + _SHORTEST)
        if end < 0:
            end = quotes.find(b'"', start + _SHORTEST)
            string, length = _read_string(text[start : end + 1] if end >= 0 else text[start:])
            yield string
            end = start + length - 1
        start = end


def _read_string(text: bytes) -> tuple[bytes, int]:
    """The string with which a JSON text begins, unescaped, and the length that it takes there.

    It is left as it is where JSON allows none like it. Only its ASCII is kept right.
    """
    try:
        string, length = _json.raw_decode(text.decode("latin-1"))
    except ValueError:
        return text[1:-1], len(text)
    return str(string).encode("latin-1", "replace"), length


def _decoded(text: bytes) -> Iterator[bytes]:
    """The text as base64 (RFC 4648, sections 4 and 5). Like many a decoder, it passes over what is none."""
    if len(text) >= _SHORTEST:
        yield from _from_base64(text, _URL_SAFE, _NOT_URL_SAFE)
        if b"-" in text or b"_" in text:  # which the decoders of section 4 pass over
            yield from _from_base64(text, None, _NOT_BASE64)


def _from_base64(text: bytes, alphabet: bytes | None, strange: bytes) -> Iterator[bytes]:
    """What the text stands for, in UTF-8; nothing where that begins like no text."""
    letters = b""
    for part in (text[: 2 * _BEGINNING_LETTERS], text):  # most texts need not be read whole
        letters = part.translate(alphabet, strange)
        beginning = letters[:_BEGINNING_LETTERS]
        if len(beginning) == _BEGINNING_LETTERS and not _BEGINNING.fullmatch(a2b_base64(beginning)):
            return
    data = a2b_base64(letters + b"AAA"[: -len(letters) % 4])
    encoding = json.detect_encoding(data)
    yield data if encoding.startswith("utf-8") else data.decode(encoding, "replace").encode()
