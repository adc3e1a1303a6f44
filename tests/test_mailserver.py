"""SMTP_URL: what it says, and that a password never goes out in the clear."""

import pytest

from app.mailserver import MailServer, parse_mail_server


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail.test", MailServer("mail.test", 587, False, None, None, None)),
        ("smtp://mail.test:25?starttls=0", MailServer("mail.test", 25, False, False, None, None)),
        ("smtp://mail.test?starttls=1", MailServer("mail.test", 587, False, True, None, None)),
        ("smtp://me:word@mail.test", MailServer("mail.test", 587, False, True, "me", "word")),
        ("smtp://me:word@mail.test?starttls=0", MailServer("mail.test", 587, False, False, "me", "word")),
        ("smtps://me:word@mail.test", MailServer("mail.test", 465, True, False, "me", "word")),
        ("smtps://mail.test:2465", MailServer("mail.test", 2465, True, False, None, None)),
        ("smtp://[::1]:25", MailServer("::1", 25, False, None, None, None)),
    ],
)
def test_an_smtp_url_says_where_and_how(url: str, server: MailServer) -> None:
    assert parse_mail_server(url) == server


def test_user_and_password_are_unescaped() -> None:
    server = parse_mail_server("smtp://me%40mail.test:p%3Aw%2F%25@mail.test")
    assert (server.user, server.password) == ("me@mail.test", "p:w/%")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail.test",
        "http://mail.test",
        "smtp://",
        "smtp://mail.test:port",
        "smtp://mail.test:70000",
        "smtp://[::1",
        "smtp://mail.test?starttls=yes",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_mail_server(url)
