"""The doctor names each fault of a set-up that is broken, and finds nothing at one that is not."""

import asyncio
import json
import re
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from aiosmtpd.smtp import AuthResult
from redis.asyncio import Redis

from app.addresses import parse_address
from app.doctor import examine
from app.settings import read_settings
from app.store import SCHEMA
from tests.process import (
    SERVE,
    Ended,
    bare_environment,
    free_port,
    program,
    run,
    server,
)
from tests.support import Mailbox, open_mailbox, text_of

Look = Callable[..., Awaitable["Said"]]

SECRET = "k" * 32
COMMAND_SECONDS = 50.0


@dataclass(frozen=True)
class Said:
    """What the doctor said: its exit code, and of each thing the level and the text."""

    code: int
    findings: dict[str, tuple[str, str]]

    @property
    def faults(self) -> dict[str, str]:
        return {what: text for what, (level, text) in self.findings.items() if level == "fail"}

    def fault(self) -> tuple[str, str]:
        """The one fault that was found."""
        assert self.code == 1
        ((what, text),) = self.faults.items()
        return what, text


async def doctor(settings: Mapping[str, str], *arguments: str, **more: str) -> Said:
    """Run the doctor as a person would."""
    end: Ended = await run(
        *SERVE, "doctor", *arguments, environment=bare_environment(**dict(settings) | more), seconds=COMMAND_SECONDS
    )
    assert end.errors == ""
    assert "Traceback" not in end.output
    assert SECRET not in end.output
    assert "sesame" not in end.output
    rows = [re.fullmatch(r"(ok|note|fail) +(\S(?:\S| (?! ))*) +(\S.*)", line) for line in end.output.splitlines()]
    assert all(rows), end.output
    return Said(end.code, {row[2]: (row[1], row[3]) for row in rows if row})


async def examined(settings: Mapping[str, str], *arguments: str, **more: str) -> Said:
    """What the doctor finds, without a program around it: starting one takes longer than looking."""
    read = read_settings(dict(settings) | more)
    send_to = parse_address(arguments[1]) if "--send-to" in arguments else None
    release = "--release" in arguments
    found = [each async for each in examine(read, read.store_url, release=release, send_to=send_to)]
    return Said(
        int(any(each.level == "fail" for each in found)), {each.what: (each.level, each.text) for each in found}
    )


@asynccontextmanager
async def relay(
    port: int, *, there: Callable[[bytes], bytes] = bytes, back: Callable[[bytes], bytes] = bytes, late: float = 0
) -> AsyncIterator[int]:
    """Something in between that changes what it passes on, and is so many seconds late; its port."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[bytes], bytes]
    ) -> None:
        try:
            while data := await reader.read(65536):
                await asyncio.sleep(late)
                writer.write(change(data))
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, far_writer))
        tasks.update(
            (asyncio.create_task(pump(reader, far_writer, there)), asyncio.create_task(pump(far_reader, writer, back)))
        )

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


@asynccontextmanager
async def store(*options: str) -> AsyncIterator[int]:
    """A redis-server with these options; its port."""
    port = free_port()
    command = ("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", *options)
    with tempfile.TemporaryDirectory() as folder:
        async with program(*command, folder=Path(folder)) as started:
            await started.line("Ready to accept connections")
            yield port


@dataclass(frozen=True)
class SetUp:
    """A server that runs as it should, and its settings."""

    settings: dict[str, str]
    redis_port: int
    mail: Mailbox
    port: int


@pytest.fixture(scope="module")
async def sound() -> AsyncIterator[SetUp]:
    """A whole set-up without a fault: a store with a password and persistence, a mail server, one server."""
    async with AsyncExitStack() as stack:
        redis_port = await stack.enter_async_context(store("--requirepass", "sesame", "--save", "60 1000"))
        mail = await stack.enter_async_context(open_mailbox())
        port = free_port()
        settings = {
            "REDIS_URL": f"redis://:sesame@127.0.0.1:{redis_port}/0",
            "SECRET_KEY": SECRET,
            "BASE_URL": f"http://127.0.0.1:{port}",
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "SMTP_URL": mail.url,
        }
        await stack.enter_async_context(server(settings))
        yield SetUp(settings, redis_port, mail, port)


# Where nothing is broken


async def test_a_sound_set_up_has_no_fault(sound: SetUp) -> None:
    said = await doctor(sound.settings)
    assert said.code == 0
    assert {level for what, (level, _) in said.findings.items() if what != "round trip"} == {"ok"}, (
        "it takes what it takes"
    )
    assert list(said.findings) == [
        "settings", "store", "store version", "eviction", "memory", "persistence", "connections", "round trip", "clock",
        "data", "mail", "BASE_URL", "proxies",
    ]  # fmt: skip


async def test_the_built_in_store_is_in_the_hands_of_the_server_that_runs(tmp_path: Path) -> None:
    settings = {"PORT": str(free_port()), "DATA_DIR": str(tmp_path)}
    async with server(settings) as started:
        said = await doctor(settings)
        assert said.code == 0, said
        assert said.findings["store"][1].startswith("built in, and in the hands of the server that runs")
        assert said.findings["BASE_URL"] == ("ok", f"{started.url} leads to this server.")


async def test_a_release_looks_at_settings_and_store_alone(sound: SetUp) -> None:
    said = await doctor(
        sound.settings, "--release", BASE_URL="http://nowhere.invalid", SMTP_URL="smtp://nowhere.invalid"
    )
    assert said.code == 0
    assert not {"mail", "BASE_URL", "proxies"} & set(said.findings)


async def test_programs_get_json(sound: SetUp) -> None:
    environment = bare_environment(**sound.settings | {"SMTP_URL": "smtp://127.0.0.1:1"})
    end = await run(*SERVE, "doctor", "--json", environment=environment, seconds=COMMAND_SECONDS)
    said = json.loads(end.output)
    assert (end.code, end.errors, said["ok"]) == (1, "", False)
    assert {"level": "ok", "what": "settings", "text": "complete."} in said["findings"]
    assert [finding["what"] for finding in said["findings"] if finding["level"] == "fail"] == ["mail"]


async def test_it_sends_one_mail_if_it_is_asked_to(sound: SetUp) -> None:
    said = await doctor(sound.settings, "--send-to", "you@example.org")
    assert (said.code, said.findings["mail sent"][0]) == (0, "ok")
    assert sound.mail.addressees() == {"you@example.org"}
    mail = await sound.mail.next_mail("you@example.org")
    assert text_of(mail) == "If you read this, mails of your peerbook arrive.\n"
    end = await run(*SERVE, "doctor", "--send-to", "nobody", environment=bare_environment())
    assert end.code == 2
    assert "This is not a mail address." in end.errors


async def test_a_mail_that_is_refused_is_a_fault(sound: SetUp) -> None:
    sound.mail.refuse = "550 we know nobody of that name"
    try:
        what, text = (await examined(sound.settings, "--send-to", "you@example.org")).fault()
    finally:
        sound.mail.refuse = ""
    assert what == "mail sent"
    assert "does not take it for that address" in text


# Broken set-ups: settings


async def test_a_missing_secret_is_named(sound: SetUp) -> None:
    what, text = (await doctor(sound.settings, SECRET_KEY="")).fault()
    assert what == "settings"
    assert text.startswith("SECRET_KEY is missing: ")


# Broken set-ups: the store


async def broken_store(sound: SetUp, look: Look = examined, **settings: str) -> tuple[str, str]:
    """The fault that the doctor finds before a release."""
    return (await look(sound.settings, "--release", **settings)).fault()


async def test_a_store_that_nobody_serves_is_named(sound: SetUp) -> None:
    what, text = await broken_store(sound, doctor, REDIS_URL=f"redis://127.0.0.1:{free_port()}")
    assert (what, text) == ("store", "nobody listens there: start it, or check the host and port of REDIS_URL.")


async def test_a_host_that_nobody_knows_is_named(sound: SetUp) -> None:
    what, text = await broken_store(sound, REDIS_URL="redis://store.invalid")
    assert (what, text) == ("store", "nobody knows its host: check REDIS_URL.")


@pytest.mark.parametrize("password", [":wrong@", ""])
async def test_a_wrong_or_missing_password_is_named(sound: SetUp, password: str) -> None:
    what, text = await broken_store(sound, REDIS_URL=f"redis://{password}127.0.0.1:{sound.redis_port}")
    assert what == "store"
    assert text.startswith("it refuses our user or password")


async def test_a_certificate_that_does_not_verify_is_named_and_what_helps_does(sound: SetUp, tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("localhost", "127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    options = ("--tls-port", str(port := free_port()), "--tls-auth-clients", "no")
    files = ("--tls-cert-file", str(tmp_path / "cert"), "--tls-key-file", str(tmp_path / "key"))
    async with store(*options, *files) as plain_port:
        url = f"rediss://127.0.0.1:{port}"
        unverified, unchecked, unencrypted, encrypted = await asyncio.gather(
            broken_store(sound, doctor, REDIS_TLS_URL=url),
            doctor(sound.settings, "--release", REDIS_TLS_URL=url, REDIS_TLS_VERIFY="none"),
            broken_store(sound, doctor, REDIS_TLS_URL=f"rediss://127.0.0.1:{plain_port}"),
            broken_store(sound, doctor, REDIS_URL=f"redis://127.0.0.1:{port}"),
        )
        assert "REDIS_TLS_VERIFY=none" in unverified[1]
        assert (unchecked.code, unchecked.findings["store TLS"][0]) == (0, "ok")
        assert "does not speak TLS there" in unencrypted[1]
        assert "use rediss://" in encrypted[1]
        assert {unverified[0], unencrypted[0], encrypted[0]} == {"store"}


async def test_a_store_that_is_too_old_is_named(sound: SetUp) -> None:
    def lie(answer: bytes) -> bytes:
        return re.sub(rb"redis_version:7\.0\.15", b"redis_version:6.2.14", answer)

    async with relay(sound.redis_port, back=lie) as port:
        what, text = await broken_store(sound, doctor, REDIS_URL=f"redis://:sesame@127.0.0.1:{port}")
    assert what == "store version"
    assert "too old: choose Redis 7 or Valkey" in text


async def test_a_store_that_throws_books_away_is_named(sound: SetUp) -> None:
    async with store("--maxmemory", "25mb", "--maxmemory-policy", "allkeys-lru") as port:
        what, text = await broken_store(sound, doctor, REDIS_URL=f"redis://127.0.0.1:{port}")
    assert what == "eviction"
    assert text.startswith("allkeys-lru throws books away")


async def test_a_store_that_throws_away_only_what_ends_anyway_will_do(sound: SetUp) -> None:
    async with store("--maxmemory", "25mb", "--maxmemory-policy", "volatile-lru") as port:
        said = await examined(sound.settings, "--release", REDIS_URL=f"redis://127.0.0.1:{port}")
    assert (said.code, said.findings["eviction"]) == (0, ("ok", "volatile-lru."))
    assert said.findings["persistence"][0] == "note", "it works, and what it holds does not last"


async def test_a_store_that_is_nearly_full_is_named(sound: SetUp) -> None:
    async with store("--maxmemory", "25mb") as port, Redis.from_url(f"redis://127.0.0.1:{port}") as redis:
        while (await redis.info())["used_memory"] < 0.92 * 25 * 1024 * 1024:
            await redis.rpush("somebody else's", *[b"x" * 50_000] * 5)
        what, text = await broken_store(sound, REDIS_URL=f"redis://127.0.0.1:{port}")
    assert what == "memory"
    assert "of 26.2 MB used" in text


async def test_too_few_connections_are_named(sound: SetUp) -> None:
    async with store("--maxclients", "7") as port:
        url = f"redis://127.0.0.1:{port}"
        said = await examined(sound.settings, REDIS_URL=url)
        assert set(said.faults) == {"connections", "BASE_URL"}, "and nobody serves with this store"
        assert said.faults["connections"].startswith("6 of 7 left, and a restart needs 7")
        said = await examined(sound.settings, "--release", REDIS_URL=url)
        assert (said.code, said.findings["connections"][0]) == (0, "note"), "no reason to stay with the old version"
        async with AsyncExitStack() as stack:
            for _ in range(7):
                client = await stack.enter_async_context(Redis.from_url(url))
                await client.ping()
            what, text = await broken_store(sound, REDIS_URL=url)
            assert (what, "it takes no more " in text) == ("store", True)


async def test_a_store_far_away_is_noted(sound: SetUp) -> None:
    async with relay(sound.redis_port, late=0.03) as port:  # there and back
        said = await examined(sound.settings, "--release", REDIS_URL=f"redis://:sesame@127.0.0.1:{port}")
    level, text = said.findings["round trip"]
    assert (said.code, level) == (0, "note")
    assert "put server and store into one region" in text


async def test_a_clock_that_is_wrong_is_named(sound: SetUp) -> None:
    def lie(answer: bytes) -> bytes:
        return re.sub(rb"(\*2\r\n\$10\r\n)(\d{10})(\r\n)", lambda at: at[1] + b"%d" % (int(at[2]) - 90) + at[3], answer)

    async with relay(sound.redis_port, back=lie) as port:
        what, text = await broken_store(sound, REDIS_URL=f"redis://:sesame@127.0.0.1:{port}")
    assert what == "clock"
    assert re.match(r"this machine is (89|9\d) s ahead of the store", text)


async def test_data_of_a_newer_program_are_named(sound: SetUp) -> None:
    async with store() as port, Redis.from_url(f"redis://127.0.0.1:{port}") as redis:
        await redis.set("schema", SCHEMA + 1)
        what, text = await broken_store(sound, doctor, REDIS_URL=f"redis://127.0.0.1:{port}")
    assert what == "data"
    assert text.startswith("The store holds data of a newer peerbook")


async def test_an_older_store_is_migrated_by_a_release_and_by_nothing_else(sound: SetUp) -> None:
    async with store() as port, Redis.from_url(f"redis://127.0.0.1:{port}") as redis:
        url = f"redis://127.0.0.1:{port}"
        await redis.set("schema", 0)
        said = await examined(sound.settings, REDIS_URL=url)
        assert said.findings["data"] == ("note", f"schema 0; the next start brings it to {SCHEMA}.")
        assert await redis.get("schema") == b"0"
        said = await doctor(sound.settings, "--release", REDIS_URL=url)
        assert said.findings["data"] == ("ok", f"migrated from schema 0 to {SCHEMA}.")
        assert await redis.get("schema") == b"%d" % SCHEMA


async def test_a_release_that_fails_migrates_nothing(sound: SetUp) -> None:
    async with store("--maxmemory-policy", "allkeys-lru") as port, Redis.from_url(f"redis://127.0.0.1:{port}") as redis:
        await redis.set("schema", 0)
        assert (await broken_store(sound, REDIS_URL=f"redis://127.0.0.1:{port}"))[0] == "eviction"
        assert await redis.get("schema") == b"0"


# Broken set-ups: mail


async def test_a_mail_server_that_is_not_there_is_named(sound: SetUp) -> None:
    what, text = (await doctor(sound.settings, SMTP_URL=f"smtp://127.0.0.1:{free_port()}")).fault()
    assert what == "mail"
    assert text.startswith("nobody takes mails at 127.0.0.1:")


async def test_a_mail_server_without_encryption_for_the_password_is_named(sound: SetUp) -> None:
    where = f"127.0.0.1:{sound.mail.port}"
    urls = (f"smtp://me:sesame@{where}", f"smtps://{where}")
    starttls, tls = await asyncio.gather(*(doctor(sound.settings, SMTP_URL=url) for url in urls))
    assert starttls.fault() == (
        "mail",
        f"{where} has no STARTTLS: use smtps://, another port, or ?starttls=0 if it is on this machine.",
    )
    assert tls.fault() == (
        "mail",
        f"{where} does not speak TLS from the first byte: use smtp:// in SMTP_URL, or port 465.",
    )


async def test_a_mail_server_that_refuses_the_password_or_its_certificate_is_named(
    sound: SetUp, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def accept(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data.password == b"open", handled=False)

    options: dict[str, Any] = {"tls_context": context, "authenticator": accept, "auth_required": True}
    async with open_mailbox(**options) as box:
        trust = {"SSL_CERT_FILE": str(tmp_path / "authority.pem")}
        url = f"smtp://me:open@127.0.0.1:{box.port}"
        refused, taken, distrusted = await asyncio.gather(
            doctor(sound.settings, SMTP_URL=url.replace("open", "sesame"), **trust),
            doctor(sound.settings, SMTP_URL=url, **trust),
            doctor(sound.settings, SMTP_URL=url),
        )
    assert refused.fault()[0] == "mail login"
    assert refused.findings["mail"][1].endswith("answers, encrypted.")
    assert (taken.code, taken.findings["mail login"]) == (0, ("ok", "taken."))
    what, text = distrusted.fault()
    assert (what, "does not verify" in text) == ("mail", True)


# Broken set-ups: the way from the outside


async def broken_web(sound: SetUp, look: Look = examined, **settings: str) -> tuple[str, str]:
    return (await look(sound.settings, **settings)).fault()


async def test_an_origin_where_nobody_answers_is_named(sound: SetUp) -> None:
    origin = f"http://127.0.0.1:{free_port()}"
    assert await broken_web(sound, doctor, BASE_URL=origin) == (
        "BASE_URL",
        f"nobody answers at {origin}: start the server, or check BASE_URL and the proxy before it.",
    )


async def test_another_server_at_the_origin_is_named(sound: SetUp) -> None:
    what, text = await broken_web(sound, doctor, SECRET_KEY="o" * 32)
    assert (what, "another SECRET_KEY" in text) == ("BASE_URL", True)


async def test_a_server_with_another_store_is_named(sound: SetUp) -> None:
    what, text = await broken_web(sound, REDIS_URL=f"redis://:sesame@127.0.0.1:{sound.redis_port}/1")
    assert (what, "has another store" in text) == ("BASE_URL", True)


async def test_an_origin_that_the_server_takes_for_another_is_named(sound: SetUp) -> None:
    what, text = await broken_web(sound, BASE_URL=f"http://localhost:{sound.port}")
    assert (what, "set both alike" in text) == ("BASE_URL", True)


async def test_a_redirect_to_the_right_origin_is_named(sound: SetUp) -> None:
    def redirect(answer: bytes) -> bytes:
        return b"HTTP/1.1 301 Moved\r\nLocation: https://book.example.org/x\r\nContent-Length: 0\r\n\r\n"

    async with relay(sound.port, back=redirect) as port:
        what, text = await broken_web(sound, BASE_URL=f"http://127.0.0.1:{port}")
    assert (what, "redirects to https://book.example.org" in text) == ("BASE_URL", True)


async def test_proxies_that_are_not_counted_are_named(sound: SetUp) -> None:
    def forward(request: bytes) -> bytes:
        return re.sub(rb"(X-Forwarded-For: [^\r]+)", rb"\1, 203.0.113.7, 10.1.2.3", request)

    async def look(trusted: str) -> Said:
        port = free_port()
        async with relay(port, there=forward) as outside:
            more = {"BASE_URL": f"http://127.0.0.1:{outside}", "PORT": str(port), "PROXIES_COUNT": trusted}
            async with server(sound.settings | more):
                return await doctor(sound.settings | more)

    too_few, right, too_many = await asyncio.gather(look("1"), look("2"), look("3"))
    assert (right.code, right.findings["proxies"]) == (0, ("ok", "2 before the server, 2 trusted."))
    for said in (too_few, too_many):
        what, text = said.fault()
        assert (what, "set PROXIES_COUNT=2" in text) == ("proxies", True)


# What the running server tells


async def test_only_who_has_the_key_is_told_anything(sound: SetUp) -> None:
    async with httpx.AsyncClient(base_url=sound.settings["BASE_URL"]) as http:
        for token in ("x", "eyJhIjoxfQ.abc.def"):
            answer = await http.get(f"/doctor/{token}")
            assert (answer.status_code, answer.json()["text"]) == (404, "There is nothing here.")
            assert answer.json() == (await http.get("/nothing")).json()
