"""Settings: what is missing or malformed stops the start in one sentence, and nothing else reads the environment."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from app.addresses import Address
from app.mailserver import MailServer
from app.settings import Settings, SettingsError, read_settings

KEY, OLD_KEY = "k" * 32, "o" * 32
HOSTED = {"REDIS_URL": "redis://store.test", "SECRET_KEY": KEY, "BASE_URL": "https://book.example.org"}


def test_nothing_has_to_be_set() -> None:
    settings = read_settings({})
    assert settings == Settings(base_url="http://localhost:8000", mail_from="Peerbook <peerbook@localhost>")
    assert settings.embedded
    assert not settings.secure
    assert settings.host == "127.0.0.1"


def test_unset_and_empty_are_the_same() -> None:
    assert read_settings({field.name.upper(): " " for field in dataclasses.fields(Settings)}) == read_settings({})


def test_nobody_can_change_settings_later() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read_settings({}).port = 1  # type: ignore[misc]


def test_the_origin_follows_the_port() -> None:
    assert read_settings({"PORT": "9000"}).base_url == "http://localhost:9000"
    assert read_settings({"PORT": "9000", "BASE_URL": "http://me.test"}).base_url == "http://me.test"


def test_beside_a_hosted_store_it_listens_everywhere() -> None:
    settings = read_settings(HOSTED | {"PORT": "80"})
    assert (settings.host, settings.port, settings.proxies_count) == ("0.0.0.0", 80, 0)
    assert (settings.embedded, settings.secure, settings.store_url) == (False, True, "redis://store.test")
    assert read_settings(HOSTED | {"PORT": "80", "HOST": "10.0.0.1"}).host == "10.0.0.1"
    assert read_settings({"PORT": "80"}).host == "127.0.0.1"


def test_on_a_dyno_one_proxy_is_trusted() -> None:
    dyno = HOSTED | {"DYNO": "web.1", "PORT": "80"}
    assert read_settings(dyno).proxies_count == 1
    assert read_settings(dyno | {"PROXIES_COUNT": "0"}).proxies_count == 0
    assert read_settings(dyno).host == "0.0.0.0"


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"DYNO": "web.1", "PORT": "80"}, "REDIS_URL is missing"),
        ({"REDIS_URL": "redis://store.test", "BASE_URL": "https://book.example.org"}, "SECRET_KEY is missing"),
        ({"REDIS_TLS_URL": "rediss://store.test", "BASE_URL": "https://book.example.org"}, "SECRET_KEY is missing"),
        ({"REDIS_URL": "redis://store.test", "SECRET_KEY": KEY}, "BASE_URL is missing"),
    ],
)
def test_what_is_missing_is_named(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        read_settings(environ)


def test_the_store_over_tls_comes_first() -> None:
    assert read_settings(HOSTED | {"REDIS_TLS_URL": "rediss://tls.test"}).store_url == "rediss://tls.test"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("HOST", "::1", "::1"),
        ("PORT", "0", 0),
        ("PORT", " 65535 ", 65535),
        ("BASE_URL", "https://book.example.org/", "https://book.example.org"),
        ("BASE_URL", "HTTPS://Book.Example.org:443", "https://book.example.org"),
        ("BASE_URL", "http://book.example.org:80", "http://book.example.org"),
        ("BASE_URL", "https://book.example.org:80", "https://book.example.org:80"),
        ("BASE_URL", "http://[::1]:8000", "http://[::1]:8000"),
        ("REDIS_TLS_VERIFY", "ca", "ca"),
        ("DATA_DIR", "/srv/book", Path("/srv/book")),
        ("SECRET_KEY", f"{KEY}, {OLD_KEY}", (KEY, OLD_KEY)),
        ("SMTP_URL", "smtps://mail.test", MailServer("mail.test", 465, True, False, None, None)),
        ("MAIL_FROM", "book@example.org", "book@example.org"),
        ("MAIL_FROM", "My Book <book@example.org>", "My Book <book@example.org>"),
        ("OWNERS", "You@example.org, @Example.net\n@example.com", ("you@example.org", "@example.net", "@example.com")),
        ("ALLOWED_ORIGINS", "*", ()),
        ("ALLOWED_ORIGINS", "https://App.example.org:443/", ("https://app.example.org",)),
        (
            "ALLOWED_ORIGINS",
            "https://a.test, http://localhost:3000\nhttps://xn--nxasmq6b.test,http://[::1]:80",
            ("https://a.test", "http://localhost:3000", "https://xn--nxasmq6b.test", "http://[::1]"),
        ),
        ("PROXIES_COUNT", "2", 2),
        ("MAX_PEERS", "1", 1),
        ("MAIL_INTERVAL", "0", 0),
        ("ICE_SERVERS", '[{"urls": ["stun:stun.example.org"]}]', ({"urls": ["stun:stun.example.org"]},)),
        ("ICE_SERVERS", "[]", ()),
        ("LOG_LEVEL", "debug", "debug"),
    ],
)
def test_a_setting_is_read(name: str, text: str, value: Any) -> None:
    assert getattr(read_settings({name: text}), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "80a"),
        ("PORT", "\u0661"),
        ("PORT", "9" * 5000),
        ("BASE_URL", "book.example.org"),
        ("BASE_URL", "ftp://book.example.org"),
        ("BASE_URL", "https://"),
        ("BASE_URL", "https://book.example.org/path"),
        ("BASE_URL", "https://book.example.org?a=b"),
        ("BASE_URL", "https://book.example.org#a"),
        ("BASE_URL", "https://me@book.example.org"),
        ("BASE_URL", "https://:word@book.example.org"),
        ("BASE_URL", "https://book.exämple.org"),
        ("BASE_URL", "https://book example.org"),
        ("BASE_URL", "https://book.example.org:port"),
        ("BASE_URL", "https://[::1"),
        ("REDIS_URL", "store.test:6379"),
        ("REDIS_URL", "http://store.test"),
        ("REDIS_TLS_VERIFY", "no"),
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", f"{KEY},short"),
        ("SMTP_URL", "mail.test"),
        ("MAIL_FROM", "book"),
        ("MAIL_FROM", "My Book <book>"),
        ("MAIL_FROM", "My\nBook <book@example.org>"),
        ("OWNERS", "you"),
        ("OWNERS", "@"),
        ("OWNERS", ","),
        ("ALLOWED_ORIGINS", "app.example.org"),
        ("ALLOWED_ORIGINS", "null"),
        ("ALLOWED_ORIGINS", "*, https://app.example.org"),
        ("ALLOWED_ORIGINS", "https://*.example.org"),
        ("ALLOWED_ORIGINS", "https://app.example.org https://app.example.org/path"),
        ("ALLOWED_ORIGINS", "https://app.example.org;https://other.example.org"),
        ("ALLOWED_ORIGINS", ","),
        ("MAX_PEERS", "0"),
        ("LINK_TTL", "0"),
        ("ICE_SERVERS", "stun:stun.example.org"),
        ("ICE_SERVERS", '{"urls": ["stun:stun.example.org"]}'),
        ("ICE_SERVERS", '["stun:stun.example.org"]'),
        ("ICE_SERVERS", '[{"urls": "stun:stun.example.org"}]'),
        ("ICE_SERVERS", '[{"urls": 5}]'),
        ("ICE_SERVERS", '[{"urls": [5]}]'),
        ("ICE_SERVERS", '[{"urls": ["turn:turn.example.org"], "credential": "word"}]'),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_malformed_setting_is_named_in_one_sentence(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as error:
        read_settings(HOSTED | {name: text})
    sentence = str(error.value)
    assert sentence.startswith(f"{name} ")
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_a_secret_never_stands_in_what_is_said_of_it() -> None:
    with pytest.raises(SettingsError) as error:
        read_settings({"SECRET_KEY": "hunter2"})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("allowed", "origin", "admitted"),
    [
        ("*", "https://app.example.org", True),
        ("*", "null", True),
        ("https://app.example.org", "https://app.example.org", True),
        ("https://app.example.org", "https://book.example.org", True),
        ("https://app.example.org", "http://app.example.org", False),
        ("https://app.example.org", "https://app.example.org:8443", False),
        ("https://app.example.org", "https://app.example.org.evil.test", False),
        ("https://app.example.org", "https://sub.app.example.org", False),
        ("https://app.example.org", "null", False),
        ("https://app.example.org", "", False),
    ],
)
def test_an_origin_is_allowed_whole_and_our_own_always(allowed: str, origin: str, admitted: bool) -> None:
    assert read_settings(HOSTED | {"ALLOWED_ORIGINS": allowed}).admits(origin) is admitted


def test_anybody_may_have_a_book_unless_owners_are_named() -> None:
    assert read_settings({}).serves(Address("you@example.org"))


@pytest.mark.parametrize(
    ("typed", "served"),
    [
        ("You@Example.org", True),
        ("me@example.org", False),
        ("anybody@Example.net", True),
        ("anybody@sub.example.net", False),
        ("example.net@example.com", False),
    ],
)
def test_owners_are_addresses_and_domains(typed: str, served: bool) -> None:
    assert read_settings({"OWNERS": "you@example.org @example.net"}).serves(Address(typed)) is served
