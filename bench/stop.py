"""How long a stop takes, whoever does not make way: `python -m bench.stop`, with servers and stores of its own."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from statistics import median

import uvloop
from redis.asyncio import Redis

from bench.pages import Wire as Page
from bench.pages import show
from tests.crowds import crowd, dial
from tests.process import free_port, redis_server, scene_at, server
from tests.support import Mailbox, Scene, SilentMailServer, new_fingerprint, open_mailbox

RUNS = 3
SOCKETS = 2000
PAGES = 200
TARGET = "<= 5 s"
_LONGEST = 10.0

Guests = Callable[[Scene], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def nobody(scene: Scene) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def silent_sockets(scene: Scene) -> AsyncIterator[None]:
    """They answer nothing, not even the close."""
    async with crowd(scene.url, SOCKETS) as wires:
        yield
        assert {wire.close_code for wire in wires} == {1001}
        told = sorted(wire.heard_at for wire in wires)
        print(f"  the first and the last of {SOCKETS} sockets were told to go {told[-1] - told[0]:.2f} s apart")


@asynccontextmanager
async def open_pages(scene: Scene) -> AsyncIterator[None]:
    owner = scene.owner()
    await owner.log_in()
    pages = [await Page(scene.url, owner.http.cookies["session"]).open() for _ in range(PAGES)]
    for page in pages:
        await page.follow()
    yield
    for page in pages:
        page.close()


@asynccontextmanager
async def a_stuck_reader(scene: Scene) -> AsyncIterator[None]:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    while (await laptop.ask({"target": phone.fp, "offer": "x" * 60000}))["code"] == 200:
        pass
    yield


@asynccontextmanager
async def half_requests(scene: Scene) -> AsyncIterator[None]:
    """Some have said half a request, and as many nothing at all."""
    wires = [await dial(scene.url) for _ in range(200)]
    for wire in wires[::2]:
        wire.transport.write(b"GET /peers HT")
    yield
    for wire in wires:
        wire.transport.abort()


@asynccontextmanager
async def a_mail(scene: Scene) -> AsyncIterator[None]:
    await scene.verify(new_fingerprint(), email="owner@example.org")
    yield


@asynccontextmanager
async def a_stuck_store(scene: Scene, store_url: str) -> AsyncIterator[None]:
    async with crowd(scene.url, 100):
        async with Redis.from_url(store_url) as client:
            store = (await client.info("server"))["process_id"]
        os.kill(store, signal.SIGSTOP)
        yield
        os.kill(store, signal.SIGCONT)


async def stop(mailbox: Mailbox, store_url: str, guests: Guests, settings: dict[str, str]) -> float:
    """The seconds from SIGTERM to the end, with these guests."""
    port = str(free_port())
    fixed = {
        "HOST": "127.0.0.1",
        "PORT": port,
        "BASE_URL": f"http://127.0.0.1:{port}",
        "REDIS_URL": store_url,
        "SECRET_KEY": "k" * 32,
        "SMTP_URL": mailbox.url,
        "LOG_LEVEL": "warning",
    }
    async with server(fixed | settings) as running, scene_at(running.url, mailbox) as scene, guests(scene):
        began = time.perf_counter()
        assert await running.stop(_LONGEST) == 0
        return time.perf_counter() - began


async def main() -> None:
    silent = SilentMailServer()
    async with (
        open_mailbox() as mailbox,
        redis_server() as store_url,
        await asyncio.start_server(silent.answer, "127.0.0.1", 0) as listener,
    ):
        mute = {"SMTP_URL": f"smtp://127.0.0.1:{listener.sockets[0].getsockname()[1]}"}
        cases: list[tuple[str, Guests, dict[str, str]]] = [
            ("nobody", nobody, {}),
            (f"{SOCKETS} silent sockets", silent_sockets, {}),
            (f"{SOCKETS} silent sockets on two workers", silent_sockets, {"WORKERS": "2"}),
            (f"{PAGES} open pages", open_pages, {}),
            ("a stuck reader", a_stuck_reader, {}),
            ("100 half requests, 100 idle connections", half_requests, {}),
            ("a mail server that says nothing", a_mail, mute),
            ("a store that does not answer", lambda scene: a_stuck_store(scene, store_url), {}),
        ]
        rows = [(f"from SIGTERM to the end, median and worst of {RUNS}", "", "target")]
        for name, guests, settings in cases:
            took = [await stop(mailbox, store_url, guests, settings) for _ in range(RUNS)]
            rows.append((f"  {name}", f"{median(took):.2f} s, {max(took):.2f} s", TARGET))
        silent.release()
    show(rows)


if __name__ == "__main__":
    uvloop.run(main())
