"""A deploy as on a small dyno: the Procfile's own command, a store over TLS with 20 connections, 512 MB, one router."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trustme
from redis.asyncio import Redis

from bench.load import LoadPeer, Relay, connect_all
from bench.scaling import new_books, pairs_in, peers_of
from tests.process import Program, bare_environment, free_port, program, scene_at
from tests.support import Mailbox
from tests.test_journey import let_in, signal

BOOKS = 100
CLIENT_IP = "203.0.113.7"
MEMORY = 512 * 1024  # KiB

pytestmark = pytest.mark.timeout(120)


class Router:
    """What stands before a dyno: it says who called, closes each connection after its answer, and can switch dynos."""

    def __init__(self) -> None:
        self.port = 0
        self.dyno = 0
        self._pipes: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            head = re.sub(rb"\r\nconnection: keep-alive", b"\r\nConnection: close", head, flags=re.I)
            head = head[:-2] + b"X-Forwarded-For: " + CLIENT_IP.encode() + b"\r\nX-Forwarded-Proto: https\r\n\r\n"
            inner, outer = await asyncio.open_connection("127.0.0.1", self.dyno)
        except (OSError, asyncio.IncompleteReadError):
            return writer.close()
        outer.write(head)
        await asyncio.gather(self._pipe(reader, outer), self._pipe(inner, writer), return_exceptions=True)

    @staticmethod
    async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@pytest.fixture
async def router() -> AsyncIterator[Router]:
    router = Router()
    async with await asyncio.start_server(router.take, "127.0.0.1", 0, backlog=1024) as listener:
        router.port = listener.sockets[0].getsockname()[1]
        yield router


@asynccontextmanager
async def redis_over_tls(folder: Path) -> AsyncIterator[str]:
    """A Redis as add-ons have it: TLS alone, with a certificate that nobody knows, a password, and few connections."""
    trustme.CA().issue_cert("redis.invalid").private_key_and_cert_chain_pem.write_to_path(folder / "redis.pem")
    port, binary = free_port(), shutil.which("redis-server")
    assert binary, "apt install redis-server"
    tls = f"--tls-port {port} --port 0 --tls-auth-clients no --tls-cert-file redis.pem --tls-key-file redis.pem"
    command = f"{binary} {tls} --tls-ca-cert-file redis.pem --maxclients 20 --requirepass sesame --bind 127.0.0.1"
    async with program(*command.split(), "--save", "", folder=folder) as store:
        await store.line("Ready to accept connections")
        yield f"rediss://:sesame@127.0.0.1:{port}"


@asynccontextmanager
async def dyno(**settings: str) -> AsyncIterator[tuple[Program, int]]:
    """A dyno: what the Procfile says, within its memory; and its port."""
    port = free_port()
    environment = bare_environment(
        **settings, PORT=str(port), DYNO="web.1", WEB_CONCURRENCY="2", HOST="127.0.0.1", PYTHONUNBUFFERED="1"
    )
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    start = f"ulimit -d {MEMORY}; exec {sys.executable} -m honcho start --no-colour web"
    async with program("sh", "-c", start, environment=environment) as started:
        await started.line("peerbook is at")
        yield started, port


@asynccontextmanager
async def connections_of(url: str) -> AsyncIterator[list[int]]:
    """How many connections others have to the store, asked for again and again."""
    counts: list[int] = []
    over = asyncio.Event()  # the store's client may swallow a cancellation

    async def count() -> None:
        async with Redis.from_url(
            url, decode_responses=True, ssl_cert_reqs="none", single_connection_client=True
        ) as redis:
            while not over.is_set():
                counts.append((await redis.info("clients"))["connected_clients"] - 1)
                await asyncio.sleep(0.02)

    sampling = asyncio.create_task(count())
    try:
        yield counts
    finally:
        over.set()
        await sampling


def server_below(started: Program) -> int:
    """The server's own process."""
    from tests.process import descendants

    (pid,) = [
        pid for pid, command in descendants(started.pid).items() if "-m app" in command and "sh -c" not in command
    ]
    return pid


def peak_memory(pid: int) -> int:
    """The most that a process ever had in memory, in KiB."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1])


async def come_back(peer: LoadPeer, url: str) -> None:
    """What a client does whose server restarts."""
    await peer.closed()
    await peer.connect(url)


async def test_on_a_small_dyno_a_rolling_restart_under_500_peers_loses_nobody(
    tmp_path: Path, mailbox: Mailbox, router: Router
) -> None:
    async with AsyncExitStack() as stack:
        store_url = await stack.enter_async_context(redis_over_tls(tmp_path))
        settings = {
            "REDIS_URL": store_url,
            "REDIS_TLS_VERIFY": "none",
            "SECRET_KEY": "k" * 64,
            "BASE_URL": router.url,
            "SMTP_URL": mailbox.url,
            "ASK_RATE": "0",  # all of them call from one address
            "MAIL_INTERVAL": "0",
            "MESSAGE_RATE": "0",
        }
        old, router.dyno = await stack.enter_async_context(dyno(**settings))
        scene = await stack.enter_async_context(scene_at(router.url, mailbox))
        owner = scene.owner()
        laptop, phone = await let_in(scene, owner, "laptop", "lab"), await let_in(scene, owner, "phone", "lab")
        await signal(laptop, phone)
        assert re.search(r"203\.0\.113\.x", await owner.page()), "the router says who called"

        redis = await stack.enter_async_context(
            Redis.from_url(store_url, decode_responses=True, ssl_cert_reqs="none", max_connections=1)
        )
        books = await new_books(f"{store_url}?ssl_cert_reqs=none", BOOKS)
        peers = peers_of(books)
        await connect_all(peers, router.url)
        counts = await stack.enter_async_context(connections_of(store_url))
        back = [asyncio.create_task(come_back(peer, router.url)) for peer in peers]

        new, router.dyno = await stack.enter_async_context(dyno(**settings))
        memory = [peak_memory(server_below(each)) for each in (old, new)]
        await old.stop()
        assert "event=stopped" in old.output
        await asyncio.gather(*back)

        (process,) = [str(key).partition(":")[2] for key in await redis.keys("process:*")]
        online = [await redis.hgetall(f"online:{{{book[0].uid}}}") for book in books]
        assert [set(each) for each in online] == [{peer.fp for peer in book} for book in books]
        assert {place.split()[0] for each in online for place in each.values()} == {process}
        await Relay(pairs_in(books), 2_000, burst=4, at_once=20).run()
        assert max(counts) - 1 <= 14, "one of them is ours"
        assert max(*memory, peak_memory(server_below(new))) < MEMORY
        for peer in peers:
            peer.close()


async def test_a_dyno_that_does_not_know_its_address_says_what_to_set() -> None:
    port = free_port()
    environment = bare_environment(REDIS_URL="redis://127.0.0.1:1", SECRET_KEY="k" * 64, DYNO="web.1", PORT=str(port))
    async with program(sys.executable, "-m", "app", environment=environment) as started:
        await started.line("BASE_URL is missing")

        async def ask(path: str, host: str) -> tuple[bytes, bytes]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            answer = await reader.read()
            writer.close()
            return answer.split(b"\r\n", 1)[0], answer

        status, page = await ask("/", "book-12.herokuapp.com")
        assert b" 503 " in status
        assert b"heroku config:set BASE_URL=https://book-12.herokuapp.com\n" in page
        assert b" 200 " in (await ask("/livez", "x"))[0]
        assert b"<script>" not in (await ask("/", "<script>alert(1)</script>"))[1]
        assert await started.stop() == 0
