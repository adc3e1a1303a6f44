"""Settings: frozen, and the only reader of the environment. What is missing or malformed stops the start in one sentence."""

import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis.connection import ConnectionPool

from app.addresses import Address, parse_address
from app.errors import BadInput
from app.mailserver import MailServer, parse_mail_server
from app.platforms import told_by_platform

# RFC 7065, section 3.1
_TURN_URL = re.compile(r"turns?:(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?(?:\?transport=(?:udp|tcp))?")
_HOST = re.compile(r"[a-z0-9._:-]+")  # as browsers write it: an international name in its ASCII form


class SettingsError(Exception):
    """The settings don't fit; the message is one sentence for the person who starts the server."""


class Unfinished(SettingsError):
    """All that is missing is the server's own address, which a platform tells only after the first deploy."""

    def __init__(self, sentence: str, port: int) -> None:
        super().__init__(sentence)
        self.port = port


def _setting(read: Callable[[str], Any], default: Any, shown: str, help: str) -> Any:
    """One setting: how its text is read, its default, and how the default and the meaning are shown to people."""
    return dataclasses.field(default=default, metadata={"read": read, "shown": shown, "help": help})


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(f"is a whole number from {least} to {most}")
        return int(text)

    return read


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("is 0 or 1")
    return text == "1"


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"is one of {', '.join(words)}")
        return text

    return read


def _origin(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if (
        not host
        or not _HOST.fullmatch(host)
        or parts.scheme not in ("http", "https")
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise ValueError("is an origin like https://book.example.org, without a path")
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}" + (f":{port}" if port and port != default else "")


def _origins(text: str) -> tuple[str, ...]:
    if text == "*":
        return ()
    try:
        return tuple(_origin(each) for each in text.replace(",", " ").split() or [text])
    except ValueError:
        raise ValueError("is * or a list of origins like https://app.example.org, without paths") from None


def _redis(text: str) -> str:
    try:
        ConnectionPool.from_url(text).make_connection()  # reads all of it, and does not connect yet
    except (ValueError, TypeError):
        raise ValueError("is like redis://:password@host:6379/0 or rediss://…") from None
    return text


def _secrets(text: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(","))
    if any(len(key) < 32 for key in keys):
        raise ValueError("needs at least 32 characters, and so does each of several keys between commas")
    return keys


def _token(text: str) -> str:
    if len(text) < 16 or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("needs at least 16 characters, and no blank")
    return text


def _sender(text: str) -> str:
    try:
        parse_address(text.rpartition("<")[2].rstrip(">") if text.endswith(">") else text)
    except BadInput:
        raise ValueError("is a mail address, or like Peerbook <book@example.org>") from None
    if not text.isprintable():
        raise ValueError("is one line")
    return text


def _owners(text: str) -> tuple[str, ...]:
    owners = tuple(owner.lower() for owner in text.replace(",", " ").split() or [text])
    for owner in owners:
        try:
            parse_address(f"x{owner}" if owner.startswith("@") else owner)
        except BadInput:
            raise ValueError("is a list of mail addresses and @domains") from None
    return owners


def _ice_servers(text: str) -> tuple[dict[str, Any], ...]:
    try:
        servers = json.loads(text)
        fits = isinstance(servers, list) and all(
            isinstance(server, dict)
            and set(server) == {"urls"}
            and all(isinstance(url, str) for url in server["urls"])
            and isinstance(server["urls"], list)
            for server in servers
        )
    except (ValueError, TypeError):
        fits = False
    if not fits:
        raise ValueError('is a JSON list like [{"urls": ["stun:stun.example.org"]}]')
    return tuple(servers)


def _turn_urls(text: str) -> tuple[str, ...]:
    urls = tuple(text.replace(",", " ").split())
    if not urls or not all(_TURN_URL.fullmatch(url) for url in urls):
        raise ValueError("is a list like turn:turn.example.org, turns:turn.example.org?transport=tcp")
    return urls


def _long_secret(text: str) -> str:
    if len(text) < 16:
        raise ValueError("needs at least 16 characters")
    return text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. Unset and empty are the same; 0 switches an interval or a number of mails off."""

    host: str = _setting(
        str, "127.0.0.1", "127.0.0.1; 0.0.0.0 on a platform, and beside a REDIS_URL with a PORT", "where to listen"
    )
    port: int = _setting(_whole(0, 65535), 8000, "8000", "where to listen; 0 takes a free port")
    workers: int = _setting(
        _whole(1, 64), 1, "1", "processes that share the port, for several cores; each takes 7 connections to the store"
    )
    base_url: str = _setting(
        _origin,
        "",
        "what the platform says; http://localhost:PORT with the built-in store",
        "the origin that users open; links in mails come from it alone",
    )
    redis_url: str = _setting(_redis, "", "a built-in store in DATA_DIR", "the store: Redis 7 or Valkey")
    redis_tls_url: str = _setting(_redis, "", "–", "the same over TLS; comes before REDIS_URL")
    redis_tls_verify: str = _setting(
        _one_of("full", "ca", "none"), "full", "full", "check the store's certificate: full, ca (any host name) or none"
    )
    data_dir: Path = _setting(Path, Path("data"), "./data", "built-in store and generated secret")
    secret_key: tuple[str, ...] = _setting(
        _secrets,
        (),
        "generated beside the built-in store",
        "signs links, at least 32 characters; several between commas, newest first",
    )
    smtp_url: MailServer | None = _setting(
        parse_mail_server,
        None,
        "mails are shown on the terminal",
        "`smtp://user:password@host:587`, `smtps://host:465`, `?starttls=0` for a local server",
    )
    mail_from: str = _setting(_sender, "", "peerbook@ and the host of BASE_URL", "the sender of mails")
    owners: tuple[str, ...] = _setting(_owners, (), "anyone", "addresses and @domains that may have a book")
    allowed_origins: tuple[str, ...] = _setting(
        _origins,
        (),
        "`*`",
        "the origins whose pages may ask `/verify`, `/turn`, `/iceservers` and `/ws`, beside our own",
    )
    proxies_count: int = _setting(
        _whole(0, 10), 0, "0; on a platform its own", "how many proxies in front are trusted to name the client's IP"
    )
    require_proof: bool = _setting(_switch, False, "0", "1: all devices must prove themselves")
    max_message: int = _setting(_whole(1024, 1 << 24), 65536, "65536", "bytes of a message")
    message_rate: int = _setting(_whole(0, 10_000), 30, "30", "messages a second of one socket")
    message_burst: int = _setting(_whole(1, 100_000), 120, "120", "messages at once of one socket")
    max_sockets: int = _setting(
        _whole(4, 1_000_000), 8000, "8000", "sockets of one process; a quarter of them may wait for an owner"
    )
    max_waiting_near: int = _setting(_whole(0, 1_000_000), 5, "5", "of those that wait, from one IP (IPv6: /64)")
    max_peers: int = _setting(_whole(1, 10_000), 50, "50", "devices of a book")
    max_requests: int = _setting(
        _whole(1, 100), 5, "5", "open requests of a book; one more replaces the oldest that nobody waits for"
    )
    max_requests_near: int = _setting(
        _whole(0, 100), 2, "2", "of them from one network: the first three parts of an IPv4 address, or 48 bits of IPv6"
    )
    request_ttl: int = _setting(_whole(60, 30 * 86400), 86400, "86400", "seconds that a request stays open")
    wait_timeout: int = _setting(_whole(1, 86400), 900, "900", "seconds that a socket may wait for its owner")
    ask_rate: int = _setting(
        _whole(0, 100_000),
        10,
        "10",
        "asks a minute of one IP (IPv6: /64), at each of /verify, /login and a waiting /ws",
    )
    mail_interval: int = _setting(
        _whole(0, 86400), 60, "60", "seconds between login mails to one address; request mails take ten times as long"
    )
    mail_hourly: int = _setting(
        _whole(0, 10_000), 5, "5", "login mails to one address within an hour, and as many request mails"
    )
    mail_daily: int = _setting(
        _whole(0, 10_000), 10, "10", "login mails to one address within a day, and as many request mails"
    )
    mail_total_hourly: int = _setting(
        _whole(0, 1_000_000), 500, "500", "mails of any kind to anybody within an hour; no more go out until it ends"
    )
    link_ttl: int = _setting(_whole(1, 86400), 600, "600", "seconds that a mailed link is good")
    session_ttl: int = _setting(_whole(60, 30 * 86400), 43200, "43200", "seconds until an unused browser session ends")
    session_max: int = _setting(_whole(60, 365 * 86400), 604800, "604800", "seconds until any browser session ends")
    ice_servers: tuple[dict[str, Any], ...] = _setting(
        _ice_servers, (), "`[]`", "JSON list of STUN servers that peers are told of"
    )
    turn_urls: tuple[str, ...] = _setting(
        _turn_urls, (), "–", "TURN servers between commas, of which peers that are in are told, with credentials"
    )
    turn_secret: str = _setting(
        _long_secret, "", "–", "the secret that coturn has as `static-auth-secret`; beside TURN_URLS it must be set"
    )
    turn_ttl: int = _setting(_whole(60, 7 * 86400), 3600, "3600", "seconds that TURN credentials are good")
    demo: bool = _setting(_switch, False, "0", "1: the page /demo, which walks a newcomer through; `make demo` sets it")
    log_level: str = _setting(
        _one_of("debug", "info", "warning", "error"), "info", "info", "debug, info, warning or error"
    )
    log_format: str = _setting(
        _one_of("logfmt", "json"), "logfmt", "logfmt", "how a line of the log is written: logfmt or json"
    )
    metrics_token: str = _setting(
        _token,
        "",
        "–",
        "what a Prometheus brings to read `/metrics`, at least 16 characters; there are no metrics without one",
    )

    @property
    def embedded(self) -> bool:
        """Whether this process brings its own store."""
        return not self.store_url

    @property
    def store_url(self) -> str:
        """The address of the store, empty for the built-in one."""
        return self.redis_tls_url or self.redis_url

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The keys, newest first."""
        return self.secret_key

    @property
    def secure(self) -> bool:
        """Whether browsers reach this server over https."""
        return self.base_url.startswith("https:")

    def listening_on(self, port: int) -> "Settings":
        """The same, with the free port that was taken where PORT is 0."""
        return dataclasses.replace(self, port=port, base_url=re.sub(r":0$", f":{port}", self.base_url))

    def admits(self, origin: str) -> bool:
        """Whether pages of that origin, as browsers write it (RFC 6454, section 6.2), may ask what programs ask."""
        return not self.allowed_origins or origin in (self.base_url, *self.allowed_origins)

    def serves(self, address: Address) -> bool:
        """Whether that address may have a book here."""
        return not self.owners or address.key in self.owners or f"@{address.domain}" in self.owners


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings that the environment holds; raises SettingsError."""
    given: dict[str, Any] = {}
    told = told_by_platform(environ)
    for each in dataclasses.fields(Settings):
        name = each.name.upper()
        text = environ.get(name, "").strip() or told.get(name, "")
        if text:
            try:
                given[each.name] = each.metadata["read"](text)
            except ValueError as error:
                raise SettingsError(f"{name} {error}.") from None
    return _complete(given, dyno="DYNO" in environ)


def _complete(given: dict[str, Any], *, dyno: bool) -> Settings:
    embedded = not (given.get("redis_url") or given.get("redis_tls_url"))
    if embedded and dyno:
        raise SettingsError("REDIS_URL is missing: a dyno forgets its disk every day, so add a Redis to it.")
    if not embedded and "secret_key" not in given:
        raise SettingsError(
            "SECRET_KEY is missing: beside a REDIS_URL it must be set, to at least 32 random characters."
        )
    if dyno and "base_url" not in given:
        port = given.get("port", 8000)
        raise Unfinished("BASE_URL is missing: set it to the address under which this page was opened.", port)
    if not embedded and "base_url" not in given:
        raise SettingsError("BASE_URL is missing: beside a REDIS_URL it must be set, to the origin that users open.")
    if ("turn_urls" in given) != ("turn_secret" in given):
        missing = "TURN_SECRET" if "turn_urls" in given else "TURN_URLS"
        raise SettingsError(f"{missing} is missing: TURN_URLS and TURN_SECRET go together.")
    if "port" in given and not embedded:
        given.setdefault("host", "0.0.0.0")
    given.setdefault("base_url", f"http://localhost:{given.get('port', 8000)}")
    given.setdefault("mail_from", f"Peerbook <{_default_sender(given['base_url'])}>")
    return Settings(**given)


def _default_sender(base_url: str) -> str:
    sender = f"peerbook@{urlsplit(base_url).hostname}"
    try:
        return parse_address(sender).typed
    except BadInput:  # the host is an IPv6 address, or has an underscore
        return "peerbook@localhost"
