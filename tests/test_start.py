"""The start: what is missing or malformed is said in one sentence, and what was chosen is said in a few lines."""

import asyncio
import dataclasses
import re
import shlex
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.__main__ import main
from app.settings import Settings
from tests.process import SERVE, Ended, bare_environment, free_port, program, redis_server, run, scene_at, server
from tests.support import SECONDS, Mailbox, link_in

SECRET = "k" * 32
STORE = "redis://127.0.0.1:1/0"
ORIGIN = "https://book.example.org"

MISSING = [
    ({"REDIS_URL": STORE, "BASE_URL": ORIGIN}, "SECRET_KEY is missing: "),
    ({"REDIS_URL": STORE, "SECRET_KEY": SECRET}, "BASE_URL is missing: "),
    ({"REDIS_TLS_URL": "rediss://127.0.0.1:1", "BASE_URL": ORIGIN}, "SECRET_KEY is missing: "),
    ({"DYNO": "web.1"}, "REDIS_URL is missing: "),
    ({"TURN_URLS": "turn:turn.example.org"}, "TURN_SECRET is missing: "),
    ({"TURN_SECRET": SECRET}, "TURN_URLS is missing: "),
]

MALFORMED = {
    "PORT": "http",
    "WORKERS": "many",
    "BASE_URL": "book.example.org",
    "REDIS_URL": "redis://store.test:port",
    "REDIS_TLS_URL": "https://store.test",
    "REDIS_TLS_VERIFY": "no",
    "SECRET_KEY": "too short",
    "SMTP_URL": "smtp://mail.test:99999",
    "MAIL_FROM": "peerbook",
    "OWNERS": "example.org",
    "ALLOWED_ORIGINS": "app.example.org",
    "PROXIES_COUNT": "-1",
    "REQUIRE_PROOF": "yes",
    "MAX_MESSAGE": "64k",
    "MESSAGE_RATE": "fast",
    "MESSAGE_BURST": "0",
    "MAX_PEERS": "0",
    "MAX_REQUESTS": "many",
    "MAX_REQUESTS_NEAR": "-1",
    "REQUEST_TTL": "1 day",
    "WAIT_TIMEOUT": "0",
    "ASK_RATE": "ten",
    "MAIL_INTERVAL": "1.5",
    "MAIL_HOURLY": "-1",
    "MAIL_DAILY": "ten",
    "MAIL_TOTAL_HOURLY": "1e6",
    "LINK_TTL": "ten minutes",
    "SESSION_TTL": "1",
    "SESSION_MAX": "1",
    "ICE_SERVERS": "stun.example.org",
    "TURN_URLS": "turn.example.org",
    "TURN_SECRET": "too short",
    "TURN_TTL": "an hour",
    "DEMO": "please",
    "LOG_LEVEL": "loud",
    "MAX_SOCKETS": "0",
    "MAX_WAITING_NEAR": "-1",
    "LOG_FORMAT": "xml",
    "METRICS_TOKEN": "short",
}


def is_one_sentence(text: str) -> bool:
    """One line that a person can act on."""
    return re.fullmatch(r"[A-Z][^\n]+\.\n", text) is not None and "Errno" not in text


async def refused(environment: Mapping[str, str], *, code: int = 2, seconds: float = SECONDS) -> str:
    """The one sentence with which the program ends at its start."""
    end: Ended = await run(*SERVE, environment=bare_environment(**environment), seconds=seconds)
    assert (end.code, end.output) == (code, ""), end
    assert is_one_sentence(end.errors), end.errors
    return end.errors


def untouched(folder: Path) -> bool:
    """Whether nobody made that folder."""
    return not folder.exists()


# What is missing or malformed


@pytest.mark.parametrize(("environment", "sentence"), MISSING)
async def test_a_missing_setting_ends_the_start_with_one_sentence(environment: dict[str, str], sentence: str) -> None:
    assert (await refused(environment)).startswith(sentence)


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_setting_ends_the_start_with_one_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for field in dataclasses.fields(Settings):
        monkeypatch.delenv(field.name.upper(), raising=False)
    monkeypatch.setenv(name, MALFORMED[name])
    assert main() == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert is_one_sentence(said.err), said.err
    assert said.err.startswith(f"{name} ")


def test_no_setting_is_left_out_here() -> None:
    anything_goes = {"HOST", "DATA_DIR"}  # what they name is looked for at the start; see below, and test_embedded.py
    assert {field.name.upper() for field in dataclasses.fields(Settings)} - anything_goes == set(MALFORMED)


async def test_a_malformed_setting_shows_no_traceback_and_nothing_of_what_was_typed() -> None:
    assert "hunter2" not in await refused({"SECRET_KEY": "hunter2"})


# Where it cannot listen


async def test_a_taken_port_ends_the_start_with_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        sentence = await refused({"PORT": str(port), "DATA_DIR": str(folder)})
    assert sentence == f"Cannot listen on 127.0.0.1:{port}: Address already in use.\n"
    assert untouched(folder), "and no store was started"


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid", "not a host", "a..b"])
async def test_a_host_that_is_not_ours_ends_the_start_with_one_sentence(tmp_path: Path, host: str) -> None:
    sentence = await refused({"HOST": host, "PORT": "0", "DATA_DIR": str(tmp_path)})
    assert sentence.startswith(f"Cannot listen on {host}:0: ")


# Where the store is out of reach


def beside(redis_url: str) -> dict[str, str]:
    """Settings that are complete, beside that store."""
    return {"REDIS_URL": redis_url, "SECRET_KEY": SECRET, "BASE_URL": ORIGIN, "HOST": "127.0.0.1", "PORT": "0"}


async def test_a_store_that_nobody_serves_ends_the_start_with_one_sentence() -> None:
    sentence = await refused(beside(f"redis://127.0.0.1:{free_port()}/0"), code=1)
    assert sentence == "The store does not answer: check REDIS_URL.\n"


async def test_a_store_that_takes_the_call_and_says_nothing_does_not_hang_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        await refused(beside(f"redis://127.0.0.1:{silent.getsockname()[1]}/0"), code=1, seconds=20)


async def test_a_store_that_refuses_us_ends_the_start_with_one_sentence() -> None:
    async with redis_server() as url:
        await refused(beside(url.replace("sesame", "wrong")), code=1)
        await refused(beside(url.replace("redis:", "rediss:")), code=1, seconds=20)


async def test_a_store_whose_name_nobody_knows_ends_the_start_with_one_sentence() -> None:
    await refused(beside("redis://store.invalid/0"), code=1, seconds=20)


# What is said at the start


async def test_the_start_says_where_it_is_and_what_it_chose(tmp_path: Path) -> None:
    async with server({"PORT": "0", "DATA_DIR": str(tmp_path)}) as started:
        await started.line("python -m websockets")
        url, store, mails, *_ = started.lines
        assert re.fullmatch(r"peerbook is at http://localhost:[1-9]\d+", url)
        assert store == f"  store: built in, data in {tmp_path}"
        assert mails == "  mails: shown here"


async def test_beside_a_redis_the_start_names_it_and_the_mail_server_without_their_passwords() -> None:
    async with redis_server() as redis_url:
        settings = beside(redis_url) | {"SMTP_URL": "smtp://me:open-sesame@mail.test:587"}
        async with server(settings) as started:
            await started.line(r"python -m websockets 'wss://book\.example\.org/ws\?")
            assert started.lines[:3] == [f"peerbook is at {ORIGIN}", "  store: REDIS_URL", "  mails: mail.test"]
            assert "sesame" not in started.output


async def test_the_printed_one_liner_connects_a_first_device(tmp_path: Path) -> None:
    async with server({"PORT": "0", "DATA_DIR": str(tmp_path)}) as started:
        line = (await started.line(r"^  (\.venv/bin/python -m websockets .+)$"))[1]
        _, *arguments = shlex.split(line)
        async with program(sys.executable, *arguments) as client:
            pair = (await client.line(r'"code":401,.*"pair":"(\d{3}-\d{3})"'))[1]
        # Its mail is seen at once, though the terminal is a pipe here.
        await started.line(r"^--- mail to you@example\.org: A device asks to join your book$")
        await started.line(r"^  name: laptop$")
        await started.line(rf"^  code: {pair}$")
        await started.line(rf"^{started.url}/link/\S+$")


# What can be set beside the built-in store


async def test_port_origin_and_mail_server_can_be_set_beside_the_built_in_store(
    mailbox: Mailbox, tmp_path: Path
) -> None:
    port = free_port()
    settings = {
        "PORT": str(port),
        "BASE_URL": "http://book.test:81/",
        "SMTP_URL": mailbox.url,
        "DATA_DIR": str(tmp_path),
    }
    async with server(settings) as started, scene_at(f"http://127.0.0.1:{port}", mailbox) as scene:
        assert started.url == "http://book.test:81"
        await started.line(r"^  mails: 127\.0\.0\.1$")
        await scene.verify("A1" * 32, email="owner@example.org")
        mail = await mailbox.next_mail("owner@example.org")
        assert link_in(mail).startswith("http://book.test:81/link/")
        assert mail["From"] == "Peerbook <peerbook@book.test>"
        assert "--- mail" not in started.output


@pytest.mark.parametrize("origin", ["http://[::1]:8000", "http://my_host:8000", "http://192.0.2.7"])
async def test_mails_have_a_sender_whatever_the_origin(mailbox: Mailbox, tmp_path: Path, origin: str) -> None:
    port = free_port()
    settings = {"PORT": str(port), "BASE_URL": origin, "SMTP_URL": mailbox.url, "DATA_DIR": str(tmp_path)}
    async with server(settings), scene_at(f"http://127.0.0.1:{port}", mailbox) as scene:
        await scene.verify("A1" * 32, email="owner@example.org")
        assert (await mailbox.next_link("owner@example.org")).startswith(origin)


async def test_it_listens_on_the_loopback_interface_alone_unless_told_otherwise(tmp_path: Path) -> None:
    async with server({"PORT": "0", "DATA_DIR": str(tmp_path)}) as started:
        port = int(started.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.2", port)


async def test_ipv6_is_served_where_it_is_asked_for(mailbox: Mailbox, tmp_path: Path) -> None:
    settings = {"HOST": "::1", "PORT": "0", "SMTP_URL": mailbox.url, "DATA_DIR": str(tmp_path)}
    async with server(settings) as started:
        port = started.url.rpartition(":")[2]
        async with scene_at(f"http://[::1]:{port}", mailbox) as scene:
            assert (await scene.http.get("/livez")).status_code == 200
