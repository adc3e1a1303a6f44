"""Fixtures: a real store, a real mail server, and the server itself on a real socket, all in the test's own loop."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from app.context import Context
from app.embedded import EmbeddedStore
from app.listeners import listen
from app.server import Running
from app.settings import Settings
from tests.parts import new_context
from tests.privacy import LOGGERS, Eavesdropper
from tests.support import Mailbox, Scene, SilentMailServer, open_mailbox

Start = Callable[..., Awaitable[Scene]]
OpenProcess = Callable[..., Awaitable[Context]]

# How long it takes to make an example says nothing on a busy machine.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("mutants", max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile(
    "long", max_examples=1000, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

SECRET = "a secret that only the tests know, 32+"


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """The loop that the server runs on."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Whatever could not be tried here is named at the end, in every run."""
    for reason in sorted({report.longrepr[2] for report in terminalreporter.stats.get("skipped", ())}):
        terminalreporter.write_line(f"NOT TRIED: {reason.removeprefix('Skipped: ')}", yellow=True)


@pytest.fixture(scope="session")
def _ears() -> Iterator[Eavesdropper]:
    ears = Eavesdropper()
    for name in LOGGERS:
        logging.getLogger(name).addHandler(ears)
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield ears
    for name in LOGGERS:
        logging.getLogger(name).removeHandler(ears)


@pytest.fixture(autouse=True)
def eavesdropper(_ears: Eavesdropper) -> Iterator[Eavesdropper]:
    """Reads the log of every test; one that tells of somebody fails."""
    _ears.leaks = []
    yield _ears
    assert _ears.leaks == []


@pytest.fixture(scope="session")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedStore(tmp_path_factory.mktemp("store")) as store:
        yield store.url


@pytest.fixture
async def redis(store_url: str) -> AsyncIterator[Redis]:
    """A client of the store, which is empty."""
    client = Redis.from_url(store_url, decode_responses=True)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with open_mailbox() as box:
        yield box


@pytest.fixture
async def silent() -> AsyncIterator[SilentMailServer]:
    """A mail server that takes calls and says nothing."""
    silent = SilentMailServer()
    async with await asyncio.start_server(silent.answer, "127.0.0.1", 0) as listener:
        silent.url = f"smtp://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield silent
        silent.release()


@pytest.fixture
async def start(store_url: str, redis: Redis, mailbox: Mailbox) -> AsyncIterator[Start]:
    """Starts a server with these settings; several of them share the store like processes do."""
    async with AsyncExitStack() as stack:

        async def start_one(**given: Any) -> Scene:
            from app.mailserver import parse_mail_server

            fixed: dict[str, Any] = {
                "host": "127.0.0.1",
                "port": 0,
                "mail_interval": 0,
                "ask_rate": 0,
                "message_rate": 0,
                "max_requests_near": 0,
                "max_waiting_near": 0,
                "mail_hourly": 0,
                "mail_daily": 0,
                "mail_total_hourly": 0,
                "secret_key": (SECRET,),
                "mail_from": "book@example.org",
            }
            draft = Settings(**fixed | {"smtp_url": parse_mail_server(mailbox.url)} | given)
            (listener,) = listen(draft)
            origin = given.get("base_url") or f"http://127.0.0.1:{listener.getsockname()[1]}"
            settings = Settings(**fixed | {"smtp_url": parse_mail_server(mailbox.url), "base_url": origin} | given)
            running = await Running.open(settings, store_url, listener)
            scene = Scene(f"http://127.0.0.1:{running.port}", mailbox)
            scene.running = running
            stack.push_async_callback(scene.stop)
            stack.push_async_callback(scene.close)
            return scene

        yield start_one


@pytest.fixture
async def scene(start: Start) -> Scene:
    """A server with the default settings."""
    return await start()


@pytest.fixture
async def open_process(store_url: str, redis: Redis) -> AsyncIterator[OpenProcess]:
    """Opens a process's rules without HTTP, with these settings; several of them share the store like processes do."""
    async with AsyncExitStack() as stack:

        async def open_one(**given: Any) -> Context:
            context = new_context(store_url, **given)
            await context.open()
            stack.push_async_callback(context.close)
            return context

        yield open_one


@pytest.fixture
async def process(open_process: OpenProcess) -> Context:
    """One process's rules, with the default settings."""
    return await open_process()
