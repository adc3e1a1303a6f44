"""Session descriptions for the tests: honest ones as peers in the field write them, forged ones, and ways to wrap them."""

import base64
import json
from collections.abc import Callable
from typing import Any

FP = "A1B2" * 16
"""The sender's fingerprint."""

THIEF = "E7" * 32
"""The fingerprint of a certificate that is not the sender's."""

Forge = Callable[[str], str]
Wrap = Callable[[Any], Any]


def colons(digits: str) -> str:
    """A hash as SDP shows it."""
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


def attribute(digits: str = FP, name: str = "sha-256") -> str:
    """The line that names a certificate (RFC 8122, section 5)."""
    return f"a=fingerprint:{name} {colons(digits)}"


def sdp(*lines: str) -> str:
    return "".join(f"{line}\r\n" for line in lines)


SESSION = ("v=0", "o=- 6044957388576759517 3 IN IP4 127.0.0.1", "s=-", "t=0 0")
CHANNEL = ("m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0")
ICE = ("a=ice-ufrag:+weo", "a=ice-pwd:GQdjxiQQ+KOSVJEiz3wRIKFq", "a=ice-options:trickle")
SCTP = ("a=setup:actpass", "a=mid:0", "a=sctp-port:5000", "a=max-message-size:262144")
AUDIO = ("m=audio 9 UDP/TLS/RTP/SAVPF 111 63", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0")
VIDEO = ("m=video 9 UDP/TLS/RTP/SAVPF 96 97", "c=IN IP4 0.0.0.0")

CHROMIUM = sdp(
    *SESSION, "a=group:BUNDLE 0", "a=extmap-allow-mixed", "a=msid-semantic: WMS", *CHANNEL, *ICE, attribute(), *SCTP
)
EMPTY = sdp(*SESSION, "a=extmap-allow-mixed", "a=msid-semantic: WMS")
REJECTED = sdp(*SESSION, "m=audio 0 UDP/TLS/RTP/SAVPF 111", "a=inactive", "m=application 0 UDP/DTLS/SCTP x", "a=mid:1")

HONEST = {
    "Chromium, a data channel": CHROMIUM,
    "Chromium, audio and video": sdp(
        *SESSION, *AUDIO, *ICE, attribute(), "a=mid:0", *VIDEO, *ICE, attribute(), "a=mid:1"
    ),
    "Chromium, nothing yet": EMPTY,
    "all sections rejected": REJECTED,
    "one section rejected": CHROMIUM + sdp("m=video 0 UDP/TLS/RTP/SAVPF 96", "a=inactive", "a=mid:1"),
    "Firefox": sdp(
        *("v=0", "o=mozilla...THIS_IS_SDPARTA-99.0 5763 0 IN IP4 0.0.0.0", "s=-", "t=0 0", attribute()),
        *("a=group:BUNDLE 0", "a=ice-options:trickle", "a=msid-semantic:WMS *", *CHANNEL, "a=sendrecv", *ICE, *SCTP),
    ),
    "Pion": sdp(*SESSION, "a=msid-semantic:WMS*", attribute(), "a=group:BUNDLE 0", *CHANNEL, *SCTP, "a=sendrecv", *ICE),
    "session and media": CHROMIUM.replace("t=0 0\r\n", f"t=0 0\r\n{attribute()}\r\n"),
    "line feeds": CHROMIUM.replace("\r\n", "\n"),
    "lower case": CHROMIUM.replace(attribute(), f"a=fingerprint:sha-256 {colons(FP).lower()}"),
    "upper case": CHROMIUM.replace("sha-256", "SHA-256"),
    "no end of line": CHROMIUM.replace(f"{attribute()}\r\n", "") + attribute(),
    "rollback": "",
}


def _in_place(line: str) -> Forge:
    """Puts a line in the place of the sender's."""
    return lambda honest: honest.replace(line_of(honest), line)


def _after(line: str, end: str = "\r\n") -> Forge:
    """Puts a line behind the sender's."""
    return lambda honest: honest.replace(line_of(honest), line_of(honest) + end + line)


def _before(line: str) -> Forge:
    """Puts a line before the sender's."""
    return lambda honest: honest.replace(line_of(honest), f"{line}\r\n{line_of(honest)}")


def _in_session(line: str) -> Forge:
    """Puts a line into the session, and takes the sender's out of the media."""
    return lambda honest: honest.replace(f"{line_of(honest)}\r\n", "").replace("t=0 0\r\n", f"t=0 0\r\n{line}\r\n")


def _second_section(line: str) -> Forge:
    """Adds a media section that names another certificate."""

    def forge(honest: str) -> str:
        section = honest[honest.index("m=") :]
        return honest + section.replace("a=mid:0", "a=mid:1").replace(line_of(honest), line)

    return forge


def line_of(honest: str) -> str:
    """The line of a description that names its certificate in SHA-256."""
    return next(line for line in honest.splitlines() if line.startswith("a=fingerprint:sha-256 "))


_EVIL = attribute(THIEF)
_DIGITS = colons(THIEF)

FORGERIES: dict[str, Forge] = {
    "another": _in_place(_EVIL),
    "another behind": _after(_EVIL),
    "another before": _before(_EVIL),
    "another in the session": _in_session(_EVIL),
    "another in the session beside": lambda honest: honest.replace("t=0 0\r\n", f"t=0 0\r\n{_EVIL}\r\n"),
    "another in a second section": _second_section(_EVIL),
    "another at the end": lambda honest: f"{honest}{_EVIL}\r\n",
    "another at the end, no end of line": lambda honest: honest + _EVIL,
    "another after a blank line": lambda honest: f"{honest}\r\n{_EVIL}\r\n",
    "in a rejected section": lambda honest: _in_place(_EVIL)(honest).replace("m=application 9", "m=application 0"),
    "lower case digits": _in_place(_EVIL.replace(_DIGITS, _DIGITS.lower())),
    "SHA in capitals": _in_place(_EVIL.replace("sha", "SHA")),
    "Sha behind": _after(_EVIL.replace("sha", "Sha")),
    "attribute in capitals": _after(_EVIL.replace("fingerprint", "Fingerprint")),
    "line in capitals": _after(_EVIL.upper()),
    "two blanks": _in_place(_EVIL.replace(" ", "  ")),
    "tab": _in_place(_EVIL.replace(" ", "\t")),
    "tab behind": _after(_EVIL.replace(" ", "\t")),
    "no-break space": _after(_EVIL.replace(" ", "\u00a0")),
    "blank at the end": _in_place(f"{_EVIL} "),
    "blank before the colon": _after(_EVIL.replace(":sha", " :sha")),
    "blank after the colon": _after(_EVIL.replace(":sha", ": sha")),
    "blank after the equals sign": _after(_EVIL.replace("a=", "a= ")),
    "blank before the line": _after(f" {_EVIL}"),
    "no colons": _in_place(f"a=fingerprint:sha-256 {THIEF}"),
    "no colons, behind": _after(f"a=fingerprint:sha-256 {THIEF}"),
    "after a carriage return": _after(_EVIL, "\r"),
    "after a line feed": _after(_EVIL, "\n"),
    "carriage returns alone": lambda honest: _in_place(_EVIL)(honest).replace("\r\n", "\r"),
    "line feeds alone": lambda honest: _in_place(_EVIL)(honest).replace("\r\n", "\n"),
    "after a NUL": _after(_EVIL, "\0"),
    "after a line separator": _after(_EVIL, "\u2028"),
    "after a paragraph separator": _after(_EVIL, "\u2029"),
    "after a vertical tab": _after(_EVIL, "\v"),
    "after a form feed": _after(_EVIL, "\f"),
    "after a next line": _after(_EVIL, "\x85"),
    "after a file separator": _after(_EVIL, "\x1c"),
    "within the session's name": lambda honest: _in_session(f"s=-\u2028{_EVIL}")(honest),
    "NUL behind": _in_place(f"{_EVIL}\0"),
    "NUL after the hash": _after(_EVIL.replace(" ", "\0 ")),
    "a mark before all": lambda honest: "\ufeff" + _in_place(_EVIL)(honest),
    "a line before all": lambda honest: "\u00e9=1\r\n" + _in_place(_EVIL)(honest),
    "truncated": _in_place(_EVIL[:-3]),
    "longer": _in_place(f"{_EVIL}:00"),
    "folded": _in_place(f"{_EVIL[:60]}\r\n {_EVIL[60:]}"),
    "the sender's, longer": lambda honest: _in_place(f"{line_of(honest)}:00")(honest),
    "the sender's, truncated": lambda honest: _in_place(line_of(honest)[:-1])(honest),
    "two on a line": lambda honest: _in_place(f"{line_of(honest)} {_DIGITS}")(honest),
    "two with a comma": lambda honest: _in_place(f"{line_of(honest)},{_DIGITS}")(honest),
    "no blank": _after(_EVIL.replace(" ", "")),
    "no hash": _after(f"a=fingerprint:{_DIGITS}"),
    "nothing": _after("a=fingerprint:"),
    "sha256": _after(_EVIL.replace("sha-256", "sha256")),
    "sha-2566": _after(_EVIL.replace("sha-256", "sha-2566")),
    "MD5": _after(attribute("E0" * 16, "md5")),
    "unknown": _after(attribute("E0" * 16, "whirl")),
    "SHA-1": _in_place(attribute("E1" * 20, "sha-1")),
    "SHA-1 behind": _after(attribute("E1" * 20, "sha-1")),
    "SHA-224 behind": _after(attribute("E2" * 28, "sha-224")),
    "SHA-384 behind": _after(attribute("E3" * 48, "sha-384")),
    "SHA-512": _in_place(attribute("E5" * 64, "sha-512")),
    "SHA-512 behind": _after(attribute("E5" * 64, "sha-512")),
    "SHA-512 before": _before(attribute("E5" * 64, "sha-512")),
    "none at all": lambda honest: honest.replace(f"{line_of(honest)}\r\n", ""),
}
"""Descriptions that Chromium, aiortc or some other receiver might take for another sender's, made from an honest one."""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _base64(value: Any) -> str:
    return base64.b64encode(_text(value).encode()).decode()


def _with(strange: str, every: int) -> Wrap:
    """Base64 in which something else stands every few letters, as lenient decoders allow."""

    def wrap(value: Any) -> str:
        letters = _base64(value)
        return strange.join(letters[i : i + every] for i in range(0, len(letters), every))

    return wrap


def _all_escaped(value: Any) -> str:
    """A JSON text without a letter in it."""
    units = _text(value).encode("utf-16-be").hex()
    return '{"sdp":"' + "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)) + '"}'


WRAPPINGS: dict[str, Wrap] = {
    "as it is": lambda value: value,
    "object": lambda value: {"type": "offer", "sdp": value},
    "deep": lambda value: {"a": [1, None, [{"b": {"c": [True, value]}}]]},
    "JSON": lambda value: json.dumps({"type": "offer", "sdp": value}),
    "JSON, indented": lambda value: json.dumps({"type": "offer", "sdp": value}, indent=4),
    "JSON, a string": json.dumps,
    "JSON, escaped": _all_escaped,
    "base64": _base64,
    "base64, url-safe": lambda value: _base64(value).replace("+", "-").replace("/", "_"),
    "base64, not padded": lambda value: _base64(value).rstrip("="),
    "base64, in lines": lambda value: base64.encodebytes(_text(value).encode()).decode(),
    "base64, in lines of CRLF": _with("\r\n", 64),
    "base64 of UTF-16": lambda value: base64.b64encode(_text(value).encode("utf-16")).decode(),
    "base64 of UTF-8 with a mark": lambda value: base64.b64encode(_text(value).encode("utf-8-sig")).decode(),
}
"""How applications wrap a description."""

COVERS: dict[str, Wrap] = {
    "JSON, far apart": lambda value: json.dumps({"type": "offer", "sdp": value}, indent=300),
    "JSON, half a character before": lambda value: '{"\\ud800":"\\\\","sdp":' + _all_escaped(value)[7:],
    "JSON, a backslash behind": lambda value: _all_escaped(value)[:-2] + '\\\\"}',
    "JSON, something behind": lambda value: _all_escaped(value) + '"\\',
    "base64, with blanks": _with(" \t", 3),
    "base64, with dots": _with(".", 50),
    "base64, with quotes": _with('"\\', 50),
    "base64, with hyphens": _with("-", 50),
    "base64, with underscores": _with("_", 3),
    "base64, with controls": _with("\0\x01", 50),
    "base64, with letters of others": _with("é漢", 50),
    "base64, padded twice": lambda value: _base64(value) + "====",
    "base64 of UTF-32": lambda value: base64.b64encode(_text(value).encode("utf-32-le")).decode(),
}
"""How somebody might wrap one that is to be overlooked: some parser or decoder reads each of them."""
