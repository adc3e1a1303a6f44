"""Platforms: what a host and its mail add-on set by themselves is enough, and what a person sets comes first."""

import json
from typing import Any

import pytest

from app.settings import Settings, SettingsError, Unfinished, read_settings
from tests.process import ROOT

STORE = {"REDIS_URL": "redis://store.test", "SECRET_KEY": "k" * 32, "PORT": "5000"}

PLATFORMS = {
    "Heroku": (
        {"DYNO": "web.1", "HEROKU_APP_DEFAULT_DOMAIN_NAME": "book-12.herokuapp.com"},
        "book-12.herokuapp.com",
        1,
    ),
    "Render": ({"RENDER": "true", "RENDER_EXTERNAL_URL": "https://book.onrender.com"}, "book.onrender.com", 1),
    "Railway": ({"RAILWAY_ENVIRONMENT_ID": "x", "RAILWAY_PUBLIC_DOMAIN": "b.up.railway.app"}, "b.up.railway.app", 1),
    "Fly": ({"FLY_APP_NAME": "book"}, "book.fly.dev", 2),
}

MAIL = {
    "Mailgun": (
        {
            "MAILGUN_SMTP_SERVER": "smtp.mailgun.org",
            "MAILGUN_SMTP_PORT": "587",
            "MAILGUN_SMTP_LOGIN": "postmaster@mg.example.org",
            "MAILGUN_SMTP_PASSWORD": "p/s:w@rd",
            "MAILGUN_DOMAIN": "mg.example.org",
        },
        ("smtp.mailgun.org", 587, False, True, "postmaster@mg.example.org", "p/s:w@rd"),
        "Peerbook <peerbook@mg.example.org>",
    ),
    "Mailer To Go": (
        {
            "MAILERTOGO_SMTP_HOST": "smtp.mailertogo.net",
            "MAILERTOGO_SMTP_PORT": "465",
            "MAILERTOGO_SMTP_USER": "user",
            "MAILERTOGO_SMTP_PASSWORD": "password",
            "MAILERTOGO_DOMAIN": "example.org",
        },
        ("smtp.mailertogo.net", 465, True, False, "user", "password"),
        "Peerbook <peerbook@example.org>",
    ),
    "Postmark": (
        {"POSTMARK_API_TOKEN": "token"},
        ("smtp.postmarkapp.com", 587, False, True, "token", "token"),
        "Peerbook <peerbook@book.fly.dev>",
    ),
    "SendGrid": (
        {"SENDGRID_API_KEY": "key"},
        ("smtp.sendgrid.net", 587, False, True, "apikey", "key"),
        "Peerbook <peerbook@book.fly.dev>",
    ),
    "plain": (
        {"SMTP_HOST": "mail.example.org", "SMTP_USER": "user", "SMTP_PASSWORD": "password"},
        ("mail.example.org", 587, False, True, "user", "password"),
        "Peerbook <peerbook@book.fly.dev>",
    ),
}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_platform_tells_the_servers_own_address(platform: str) -> None:
    environ, host, proxies = PLATFORMS[platform]
    settings = read_settings(STORE | environ)
    assert (settings.base_url, settings.host, settings.proxies_count) == (f"https://{host}", "0.0.0.0", proxies)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_a_person_sets_comes_before_what_the_platform_says(platform: str) -> None:
    said = {"BASE_URL": "https://book.example.org", "HOST": "127.0.0.1", "PROXIES_COUNT": "0"}
    settings = read_settings(STORE | PLATFORMS[platform][0] | said)
    assert (settings.base_url, settings.host, settings.proxies_count) == ("https://book.example.org", "127.0.0.1", 0)


@pytest.mark.parametrize("add_on", MAIL)
def test_a_mail_add_on_needs_no_further_setting(add_on: str) -> None:
    environ, server, sender = MAIL[add_on]
    settings = read_settings(STORE | PLATFORMS["Fly"][0] | environ)
    assert settings.smtp_url
    found = settings.smtp_url
    assert (found.host, found.port, found.tls, found.starttls, found.user, found.password) == server
    assert settings.mail_from == sender


@pytest.mark.parametrize("add_on", MAIL)
def test_a_mail_server_that_a_person_names_comes_before_an_add_on(add_on: str) -> None:
    settings = read_settings(STORE | PLATFORMS["Fly"][0] | MAIL[add_on][0] | {"SMTP_URL": "smtp://mine.example.org"})
    assert settings.smtp_url
    assert settings.smtp_url.host == "mine.example.org"


def test_half_an_add_on_is_none() -> None:
    assert read_settings({"MAILGUN_SMTP_LOGIN": "user", "SMTP_PASSWORD": "password"}).smtp_url is None


def test_the_number_of_workers_that_a_buildpack_sets_is_not_ours() -> None:
    assert read_settings(STORE | PLATFORMS["Heroku"][0] | {"WEB_CONCURRENCY": "2"}).workers == 1


def test_a_dyno_without_an_address_of_its_own_says_so_and_nothing_else_is_wrong() -> None:
    with pytest.raises(Unfinished, match="BASE_URL is missing") as missing:
        read_settings(STORE | {"DYNO": "web.1"})
    assert missing.value.port == 5000
    with pytest.raises(SettingsError) as other:
        read_settings(STORE | {"DYNO": "web.1", "SECRET_KEY": ""})
    assert not isinstance(other.value, Unfinished)


# The files that platforms read


def read_manifest() -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((ROOT / "app.json").read_text())
    return manifest


def test_the_button_asks_for_settings_that_there_are() -> None:
    names = {name.upper() for name in Settings.__dataclass_fields__}
    assert set(read_manifest()["env"]) <= names


def test_what_the_button_generates_and_presets_is_a_server_that_starts() -> None:
    env = {name: given["value"] for name, given in read_manifest()["env"].items() if "value" in given}
    assert read_manifest()["env"]["SECRET_KEY"]["generator"] == "secret"
    store = {"REDIS_URL": "redis://store.test", "REDIS_TLS_URL": "rediss://store.test", "SECRET_KEY": "k" * 64}
    settings = read_settings(PLATFORMS["Heroku"][0] | store | env | {"PORT": "5000"})
    assert (settings.store_url, settings.redis_tls_verify) == ("rediss://store.test", "none")


def test_platforms_check_that_the_process_lives_and_not_its_store() -> None:
    (check,) = read_manifest()["healthchecks"]["web"]
    assert check["path"] == "/livez"


def test_there_is_one_file_of_dependencies_at_the_root() -> None:
    known = {"requirements.txt", "uv.lock", "poetry.lock", "Pipfile", "Pipfile.lock", "setup.py", "environment.yml"}
    assert known & {path.name for path in ROOT.iterdir()} == {"requirements.txt"}
