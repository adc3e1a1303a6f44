"""What must never stand in a log, and how it is found there."""

import logging
import re

from app.logs import Lines

LOGGERS = ("peerbook", "sanic", "redis", "asyncio", "aiosmtplib", "py.warnings")
"""Whatever the server writes goes through one of these; `websockets` and `httpx` are the tests' own clients."""

_SECRETS = {
    "a mail address": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "an IPv4 address": r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.(?:\d{1,3}|x)\b",
    "an IPv6 address": r"\b[0-9a-f]{1,4}:(?::|(?:[0-9a-f]{0,4}:){2})[0-9a-f:]*",
    "a whole fingerprint": r"\b[0-9A-Fa-f]{64}\b|(?:[0-9A-Fa-f]{2}:){15}",
    "a session or cookie": r"\b[0-9a-f]{32}\.[\w-]{20,}",
    "a signed token": r"[\w-]{16,}\.[\w-]{6}\.[\w-]{20,}",
    "the path of a link": r"/(?:link|signout|stop)/[\w-]",
    "SDP": r"v=0\b|a=fingerprint|a=candidate|candidate:\d",
    "a message": r'\{"|\{\'',
    "a traceback": r"Traceback|^\s+File \"",
    "a pair code": r"\b\d{3}-\d{3}\b",
    "an invite": r"\b[0-9A-HJKMNP-TV-Z]{5}-[0-9A-HJKMNP-TV-Z]{5}\b",
}
_PATTERNS = {what: re.compile(pattern, re.M) for what, pattern in _SECRETS.items()}


def found_in(text: str) -> list[str]:
    """What a text tells that it must not."""
    return [what for what, pattern in _PATTERNS.items() if pattern.search(text)]


class Eavesdropper(logging.Handler):
    """Reads every line that is logged."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(Lines())
        self.leaks: list[str] = []
        self.lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        line = self.format(record)
        self.leaks += [f"{what} in: {line}" for what in found_in(line)]
