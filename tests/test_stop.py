"""The stop: on SIGTERM everybody is told, what was begun is finished, and the program ends in five seconds at the most."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from redis.asyncio import Redis

from app.bus import Found
from app.connections import Connection, Connections
from app.farewells import send_away
from app.orders import Orders
from app.owners import Uid
from app.presence import Presence
from tests.conftest import OpenProcess
from tests.crowds import crowd, dial, upgrade
from tests.parts import OWNER, Socket, a_device, fingerprint, verified
from tests.process import (
    SERVE,
    Program,
    bare_environment,
    descendants,
    ended,
    free_port,
    program,
    redis_server,
    run,
    scene_at,
    server,
    store_of,
)
from tests.streams import following
from tests.support import SECONDS, Mailbox, Scene, SilentMailServer, eventually, new_fingerprint

LIMIT = 5.0
"""Seconds, whatever the others do."""

Serve = Callable[..., AbstractAsyncContextManager[tuple[Program, Scene]]]


@pytest.fixture
def serve(mailbox: Mailbox, tmp_path: Path) -> Serve:
    """Starts a server with its own store, and with these settings."""

    @asynccontextmanager
    async def start(**settings: str) -> AsyncIterator[tuple[Program, Scene]]:
        given = {"PORT": "0", "DATA_DIR": str(tmp_path / "data"), "SMTP_URL": mailbox.url} | settings
        async with server(given) as started, scene_at(started.url, mailbox) as scene:
            yield started, scene

    return start


def beside(redis_url: str) -> dict[str, str]:
    """Settings beside that store."""
    port = str(free_port())
    origin = f"http://127.0.0.1:{port}"
    return {"REDIS_URL": redis_url, "SECRET_KEY": "k" * 32, "BASE_URL": origin, "HOST": "127.0.0.1", "PORT": port}


async def stops(started: Program) -> None:
    """It ends in peace, and in time, when it is told to."""
    async with asyncio.timeout(LIMIT):
        assert await started.stop() == 0
    assert "event=stopped" in started.output
    assert "Traceback" not in started.output


@asynccontextmanager
async def busy_stopping(started: Program, scene: Scene, silent: SilentMailServer) -> AsyncIterator[None]:
    """A server that was told to stop, and has a mail in its hands until the end of the block."""
    await scene.verify(new_fingerprint(), email="owner@example.org")
    await asyncio.wait_for(silent.called.wait(), SECONDS)
    os.kill(started.pid, signal.SIGTERM)
    await started.line("event=stopping")
    yield
    silent.release()
    assert await started.exit_code() == 0


# What is told


async def test_every_socket_is_told_that_the_server_restarts(serve: Serve) -> None:
    async with serve() as (started, scene):
        inside = await scene.join(owner := scene.owner())
        waiting = await scene.connect(email=owner.address)
        unnamed = await scene.connect()
        await stops(started)
        assert [await each.close_code() for each in (inside, waiting, unnamed)] == [1001] * 3


async def test_a_server_that_stops_says_on_a_kept_connection_that_it_is_not_healthy(
    serve: Serve, silent: SilentMailServer
) -> None:
    async with serve(SMTP_URL=silent.url) as (started, scene):
        assert (await scene.http.get("/healthz")).status_code == 200
        async with busy_stopping(started, scene, silent):
            answer = await scene.http.get("/healthz")
            assert (answer.status_code, answer.json()["code"]) == (503, 503)
            assert answer.headers["connection"] == "close", "and that the next one is for another server"


async def test_a_server_that_stops_takes_no_more_connections(serve: Serve, silent: SilentMailServer) -> None:
    async with serve(SMTP_URL=silent.url) as (started, scene), busy_stopping(started, scene, silent):
        with pytest.raises(ConnectionRefusedError):
            await dial(started.url)


async def test_a_socket_that_opens_while_the_server_stops_is_told_to_come_back(
    serve: Serve, silent: SilentMailServer
) -> None:
    async with serve(SMTP_URL=silent.url) as (started, scene):
        wire = await dial(started.url)
        async with busy_stopping(started, scene, silent):
            wire.transport.write(upgrade(started.url))
            await asyncio.wait_for(wire.greeted, SECONDS)
            assert wire.close_code == 1001
        wire.transport.abort()


async def test_a_connection_that_waits_to_be_taken_in_is_answered_before_the_end(serve: Serve) -> None:
    async with serve() as (started, _):
        os.kill(started.pid, signal.SIGSTOP)
        requests = [upgrade(started.url), b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"] * 20
        wires = [await dial(started.url) for _ in requests]
        for wire, request in zip(wires, requests, strict=True):
            wire.transport.write(request)
        os.kill(started.pid, signal.SIGTERM)
        os.kill(started.pid, signal.SIGCONT)
        for wire in wires:
            assert (await asyncio.wait_for(wire.answered, SECONDS)).split()[1] in (b"101", b"200")
            wire.transport.abort()
        assert await started.exit_code() == 0


async def test_a_connection_that_has_said_nothing_yet_is_not_idle(scene: Scene) -> None:
    wire = await dial(scene.url)
    connections = scene.running._server.connections
    await eventually(lambda: bool(connections))
    (connection,) = connections
    assert not connection.close_if_idle()
    wire.transport.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await asyncio.wait_for(wire.answered, SECONDS)
    assert connection.close_if_idle()
    wire.transport.abort()


# Who does not make way


async def test_2000_sockets_that_answer_nothing_are_told_and_do_not_hold_it_up(serve: Serve) -> None:
    async with serve(LOG_LEVEL="warning") as (started, _), crowd(started.url, 2000) as wires:
        async with asyncio.timeout(LIMIT):
            assert await started.stop() == 0
        assert {wire.close_code for wire in wires} == {1001}


async def test_an_open_page_does_not_hold_it_up(serve: Serve) -> None:
    async with serve() as (started, scene):
        owner = scene.owner()
        await owner.log_in()
        async with following(owner) as stream:
            await stream.hear_book()
            await stops(started)
            assert "event: end" not in await stream.rest(), "the page comes back, since its session lasts"


async def test_a_reader_that_is_stuck_does_not_hold_it_up(serve: Serve) -> None:
    async with serve() as (started, scene):
        owner = scene.owner()
        laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
        while (await laptop.ask({"target": phone.fp, "offer": "x" * 60000}))["code"] == 200:
            pass
        await stops(started)


async def test_half_a_request_does_not_hold_it_up(serve: Serve) -> None:
    async with serve() as (started, scene):
        halves = [b"GET /peers HT", b"POST /verify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"]
        wires = [await dial(started.url) for _ in halves]
        for wire, half in zip(wires, halves, strict=True):
            wire.transport.write(half)
        await scene.http.get("/livez")
        await stops(started)
        for wire in wires:
            wire.transport.abort()


async def test_idle_connections_do_not_hold_it_up(serve: Serve) -> None:
    async with serve() as (started, _):
        kept, mute = await dial(started.url), await dial(started.url)
        kept.transport.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(kept.answered, SECONDS)
        await stops(started)
        for wire in (kept, mute):
            wire.transport.abort()


async def test_a_store_that_does_not_answer_does_not_hold_it_up(mailbox: Mailbox) -> None:
    async with redis_server() as url, server(beside(url)) as started, scene_at(started.url, mailbox) as scene:
        devices = [await scene.connect() for _ in range(3)]
        for device in devices:
            assert (await device.hear())["code"] == 401
        async with Redis.from_url(url) as client:
            store = (await client.info("server"))["process_id"]
        os.kill(store, signal.SIGSTOP)
        await stops(started)
        assert [await device.close_code() for device in devices] == [1001] * 3
        os.kill(store, signal.SIGCONT)


async def test_a_store_of_its_own_that_does_not_answer_ends_with_it(serve: Serve) -> None:
    async with serve() as (started, scene):
        device = await scene.connect()
        assert (await device.hear())["code"] == 401
        store = store_of(started.pid)
        os.kill(store, signal.SIGSTOP)
        await stops(started)
        await ended(store)


async def test_a_mail_server_that_says_nothing_does_not_hold_it_up(serve: Serve, silent: SilentMailServer) -> None:
    async with serve(SMTP_URL=silent.url) as (started, scene):
        await scene.verify(new_fingerprint(), email="owner@example.org")
        await asyncio.wait_for(silent.called.wait(), SECONDS)
        await stops(started)
        assert started.output.count("event=mail_given_up reason=stopped") == 1


async def test_a_mail_that_pauses_before_another_try_is_given_up_at_once(serve: Serve) -> None:
    async with serve(SMTP_URL=f"smtp://127.0.0.1:{free_port()}") as (started, scene):
        await scene.verify(new_fingerprint(), email="owner@example.org")
        await started.line("event=mail_failed try=1")
        await stops(started)
        assert [line.partition("event=")[2] for line in started.lines[-3:]] == ["stopping", "mail_given_up", "stopped"]


async def test_a_mail_servers_name_that_nobody_finds_does_not_hold_it_up(serve: Serve, tmp_path: Path) -> None:
    aliases = tmp_path / "aliases"  # which the system reads to find a name; this one can be read for ever
    os.mkfifo(aliases)
    async with serve(SMTP_URL="smtp://mailhost", HOSTALIASES=str(aliases)) as (started, scene):
        await scene.verify(new_fingerprint(), email="owner@example.org")
        with await asyncio.to_thread(open, aliases, "w"):  # it is being read
            await stops(started)


# What is left in the store


async def test_nothing_of_a_process_that_stopped_is_left_in_the_store(mailbox: Mailbox) -> None:
    async with redis_server() as url, Redis.from_url(url, decode_responses=True) as client:
        async with server(beside(url) | {"SMTP_URL": mailbox.url}) as started, scene_at(started.url, mailbox) as scene:
            owner = scene.owner()
            await scene.join(owner)
            for device in (await scene.connect(email=owner.address), await scene.connect()):
                assert (await device.hear())["code"] == 401
            held = {key.partition(":")[0] async for key in client.scan_iter()}
            assert held >= {"process", "online", "interest", "wait"}
            await stops(started)
        kept = {key.partition(":")[0] async for key in client.scan_iter()}
        assert kept.isdisjoint({"process", "online", "interest", "wait"})
        async for key in client.scan_iter("request:*"):
            assert await client.hget(key, "waiter") is None


async def test_the_store_hears_of_many_peers_in_one_go(open_process: OpenProcess, redis: Redis) -> None:
    process = await open_process(max_peers=100)
    uid = await process.books.enroll(OWNER)
    for _ in range(60):
        device = await verified(process, uid)
        await Socket(process, device, Uid(uid)).come_in()
    before = await trips(redis)
    await process.close()
    assert await trips(redis) - before < 15
    report = await process.store.load(uid)
    assert report
    assert not any(report.online.values())


async def test_what_other_processes_are_to_hear_leaves_before_the_end(open_process: OpenProcess) -> None:
    process, other = await open_process(), await open_process()
    receivers: list[int | None] = []
    for _ in range(100):
        process.bus.publish(other.process, Found(fingerprint(), "u1"), receivers.append)
    await process.bus.flush()
    assert receivers == [1] * 100


async def trips(redis: Redis) -> int:
    """How often the store read from its clients: once for each round trip."""
    return int((await redis.info("stats"))["total_reads_processed"])


# How many at a time


class Gate:
    """Sends connections away, and notes how many at a time."""

    def __init__(self, connections: Connections) -> None:
        self.sent_away: list[int] = []
        self._connections = connections

    def send_away(self, connections: Sequence[Connection]) -> None:
        self.sent_away.append(len(connections))
        for connection in connections:
            self._connections.discard(connection)


@pytest.mark.parametrize(("count", "groups"), [(0, []), (1, [1]), (120, [50, 50, 20]), (4000, [100] * 40)])
async def test_sockets_are_sent_away_a_few_at_a_time(count: int, groups: list[int]) -> None:
    connections = Connections()
    for _ in range(count):
        connections.add(Connection(a_device(), None, lambda frame: True, lambda code, reason: None))
    gate = Gate(connections)
    await send_away(connections, cast(Presence, gate))
    assert gate.sent_away == groups


# Before it serves, and a second time


async def test_a_stop_while_it_reaches_for_its_store_ends_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_store:
        settings = beside(f"redis://127.0.0.1:{silent_store.getsockname()[1]}/0")
        async with program(*SERVE, environment=bare_environment(**settings)) as started:
            call, _ = await asyncio.to_thread(silent_store.accept)
            async with asyncio.timeout(LIMIT):
                assert await started.stop() == 0
            assert started.lines == []
            call.close()


async def test_a_stop_while_its_own_store_starts_ends_both(tmp_path: Path) -> None:
    settings = bare_environment(PORT="0", DATA_DIR=str(tmp_path))
    async with program(*SERVE, environment=settings) as started:
        await eventually(lambda: bool(descendants(started.pid)))
        (store,) = descendants(started.pid)
        async with asyncio.timeout(LIMIT):
            assert await started.stop() == 0
        assert "Traceback" not in started.output
        await ended(store)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(serve: Serve, silent: SilentMailServer, number: signal.Signals) -> None:
    async with serve(SMTP_URL=silent.url) as (started, scene):
        await scene.verify(new_fingerprint(), email="owner@example.org")
        await asyncio.wait_for(silent.called.wait(), SECONDS)
        store = store_of(started.pid)
        os.kill(started.pid, number)
        await started.line("event=stopping")
        os.kill(started.pid, number)
        assert await started.exit_code() == 1
        assert started.lines[-1].endswith("event=stopping"), "and it waited for nothing"
        await ended(store)


async def test_an_order_that_comes_as_the_work_is_done_is_not_lost() -> None:
    orders = Orders()

    async def work() -> int:
        orders._hear()
        await asyncio.sleep(0)
        return 7

    done = await orders.unless_told(work())
    if done:
        assert done.result() == 7
        await asyncio.wait_for(orders.next(), 1)


async def test_without_uvloop_it_refuses_to_start() -> None:
    hidden = "import runpy, sys; sys.modules['uvloop'] = None; runpy.run_module('app', run_name='__main__')"
    refused = await run(sys.executable, "-c", hidden, environment=bare_environment())
    assert (refused.code, refused.output) == (2, "")
    assert refused.errors == "uvloop is missing: install what requirements.txt names.\n"
