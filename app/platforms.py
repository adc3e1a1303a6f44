"""Platforms: what a host or its mail add-on tells a program by variables of its own, read as our settings. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

_PROXIES = {"DYNO": "1", "RENDER": "1", "RAILWAY_ENVIRONMENT_ID": "1", "FLY_APP_NAME": "2"}
"""What Heroku and Dokku, Render, Railway and Fly set, with the entries that each adds to X-Forwarded-For: Fly names
itself there too."""

_ORIGINS = (
    ("HEROKU_APP_DEFAULT_DOMAIN_NAME", "https://{}"),
    ("RENDER_EXTERNAL_URL", "{}"),
    ("RAILWAY_PUBLIC_DOMAIN", "https://{}"),
    ("FLY_APP_NAME", "https://{}.fly.dev"),
)


@dataclass(frozen=True, slots=True)
class _MailAddOn:
    """The names of its variables, each with what stands where the add-on sets none."""

    password: str
    user: str = ""
    host: str = ""
    port: str = ""
    domain: str = ""
    default_user: str = ""
    default_host: str = ""


_MAIL_ADD_ONS = (
    _MailAddOn("SMTP_PASSWORD", "SMTP_USER", "SMTP_HOST", "SMTP_PORT"),
    _MailAddOn("SMTP_PASSWORD", "SMTP_USERNAME", "SMTP_SERVER", "SMTP_PORT"),
    _MailAddOn(
        "MAILGUN_SMTP_PASSWORD", "MAILGUN_SMTP_LOGIN", "MAILGUN_SMTP_SERVER", "MAILGUN_SMTP_PORT", "MAILGUN_DOMAIN"
    ),
    _MailAddOn(
        *("MAILERTOGO_SMTP_PASSWORD", "MAILERTOGO_SMTP_USER", "MAILERTOGO_SMTP_HOST", "MAILERTOGO_SMTP_PORT"),
        "MAILERTOGO_DOMAIN",
    ),
    _MailAddOn("POSTMARK_API_TOKEN", "POSTMARK_API_TOKEN", "POSTMARK_SMTP_SERVER", default_host="smtp.postmarkapp.com"),
    _MailAddOn("SENDGRID_API_KEY", default_user="apikey", default_host="smtp.sendgrid.net"),
    _MailAddOn("SENDGRID_PASSWORD", "SENDGRID_USERNAME", default_host="smtp.sendgrid.net"),
)


def told_by_platform(variables: Mapping[str, str]) -> dict[str, str]:
    """The settings that the platform's own variables amount to. Those that somebody set come before them."""
    told: dict[str, str] = {}
    for name, proxies in _PROXIES.items():
        if variables.get(name):
            told |= {"HOST": "0.0.0.0", "PROXIES_COUNT": proxies}
    for name, shape in _ORIGINS:
        if variables.get(name):
            told.setdefault("BASE_URL", shape.format(variables[name]))
    for add_on in _MAIL_ADD_ONS:
        url = _smtp_url(add_on, variables)
        if url:
            told.setdefault("SMTP_URL", url)
            domain = variables.get(add_on.domain)
            if domain:
                told.setdefault("MAIL_FROM", f"Peerbook <peerbook@{domain}>")
    return told


def _smtp_url(add_on: _MailAddOn, variables: Mapping[str, str]) -> str | None:
    user = variables.get(add_on.user) or add_on.default_user
    password, host = variables.get(add_on.password), variables.get(add_on.host) or add_on.default_host
    if not (user and password and host):
        return None
    port = variables.get(add_on.port) or "587"
    scheme = "smtps" if port == "465" else "smtp"
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}"
