"""A mail server: where mails are handed over, as SMTP_URL says it."""

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class MailServer:
    """An SMTP server (RFC 5321). `tls`: from the first byte; `starttls` (RFC 3207): True insists, None takes an offer."""

    host: str
    port: int
    tls: bool
    starttls: bool | None
    user: str | None
    password: str | None


def parse_mail_server(url: str) -> MailServer:
    """`smtp://user:password@host:port`, `smtps://…`; raises ValueError.

    A password never goes out in the clear: with a user, `smtp://` insists on STARTTLS, unless `?starttls=0` says that
    the server is local and has none.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    asked = parse_qs(parts.query).get("starttls", [""])[-1] if host else ""
    if not host or parts.scheme not in ("smtp", "smtps") or asked not in ("", "0", "1"):
        raise ValueError("is not like smtp://user:password@host:587, smtps://host:465 or smtp://host?starttls=0")
    tls = parts.scheme == "smtps"
    user = unquote(parts.username) if parts.username else None
    insist = asked == "1" or (not asked and user is not None)
    starttls = False if tls or asked == "0" else insist or None
    password = unquote(parts.password) if parts.password else None
    return MailServer(host, port or (465 if tls else 587), tls, starttls, user, password)
