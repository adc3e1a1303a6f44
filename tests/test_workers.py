"""Workers: several processes that serve one port below a parent, and are one server to everybody outside."""

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from tests.crowds import crowd, dial
from tests.process import (
    SERVE,
    Ended,
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
from tests.support import SECONDS, Device, Mailbox, Scene, SilentMailServer, eventually, new_fingerprint

LIMIT = 5.0
"""Seconds that a stop takes, whatever the others do."""

Serve = Callable[..., AbstractAsyncContextManager[tuple[Program, Scene]]]


@pytest.fixture
def serve(mailbox: Mailbox, tmp_path: Path) -> Serve:
    """Starts a server with two workers and its own store, and with these settings."""

    @asynccontextmanager
    async def start(**settings: str) -> AsyncIterator[tuple[Program, Scene]]:
        given = {"WORKERS": "2", "PORT": "0", "DATA_DIR": str(tmp_path / "data"), "SMTP_URL": mailbox.url}
        async with server(given | settings) as started, scene_at(started.url, mailbox) as scene:
            yield started, scene

    return start


def beside(redis_url: str) -> dict[str, str]:
    """The settings that put the same server beside that store."""
    port = str(free_port())
    origin = f"http://127.0.0.1:{port}"
    return {"REDIS_URL": redis_url, "SECRET_KEY": "k" * 32, "BASE_URL": origin, "HOST": "127.0.0.1", "PORT": port}


def workers_of(started: Program) -> set[int]:
    """The processes of its workers."""
    return {child for child, command in descendants(started.pid).items() if "app.worker" in command}


async def has_ended(started: Program, *, code: int = 0) -> None:
    """It ends in time, and everything below it has ended before."""
    async with asyncio.timeout(LIMIT):
        assert await started.exit_code() == code
    assert "Traceback" not in started.output


# One server to everybody outside


async def test_the_welcome_is_said_once_when_all_workers_serve() -> None:
    async with redis_server() as url, Redis.from_url(url) as client:
        async with server(beside(url) | {"WORKERS": "3"}) as started:
            assert len(await client.keys("process:*")) == 3, "each is a process of its own to the store"
            assert len(workers_of(started)) == 3
            await eventually(lambda: started.output.count("event=started") == 3)
            assert started.output.count("peerbook is at") == 1
        assert await client.keys("process:*") == []


async def test_devices_of_one_user_find_each_other_on_two_workers(mailbox: Mailbox) -> None:
    async with redis_server() as url, Redis.from_url(url, decode_responses=True) as client:
        settings = beside(url) | {"WORKERS": "2", "SMTP_URL": mailbox.url}
        async with server(settings) as started, scene_at(started.url, mailbox) as scene:
            owner = scene.owner()
            laptop = await scene.join(owner, "laptop")
            uid = await owner.uid()

            async def process_of(device: Device) -> str:
                return str(await client.hget(f"online:{{{uid}}}", device.fp)).partition(" ")[0]

            phone = laptop
            while await process_of(phone) == await process_of(laptop):  # as the kernel deals, now here and now there
                phone = await scene.join(owner, "phone")
            await laptop.hear_until(lambda heard: heard.get("source_fp") == phone.fp and heard["peer_update"]["online"])
            for number in range(20):
                await laptop.say({"target": phone.fp, "candidate": number})
                await phone.say({"target": laptop.fp, "candidate": number})
            for device in (laptop, phone):
                heard = [await device.hear_until(lambda heard: "candidate" in heard) for _ in range(20)]
                assert [each["candidate"] for each in heard] == list(range(20))
                assert all(peer["online"] for peer in await device.peers())


async def test_all_workers_have_the_secret_that_was_made(serve: Serve) -> None:
    async with serve() as (started, _):
        pairs = set()
        for _ in range(16):  # each on a connection of its own, so both workers answer
            async with httpx.AsyncClient(base_url=started.url) as http:
                answer = await http.post("/verify", json={"fp": "A1" * 32, "email": "owner@example.org"})
                pairs.add(answer.json()["pair"])
        assert len(pairs) == 1


async def test_a_second_server_on_the_port_is_refused_however_many_workers_it_wants(
    serve: Serve, tmp_path: Path
) -> None:
    async with serve() as (started, scene):
        port = started.url.rpartition(":")[2]
        for workers in ("1", "2"):
            settings = bare_environment(WORKERS=workers, PORT=port, DATA_DIR=str(tmp_path / "other"))
            refused = await run(*SERVE, environment=settings)
            assert (refused.code, refused.output) == (2, "")
            assert refused.errors == f"Cannot listen on 127.0.0.1:{port}: Address already in use.\n"
        assert (await scene.http.get("/healthz")).status_code == 200


async def test_without_workers_one_process_serves_whatever_the_platform_says(serve: Serve) -> None:
    async with serve(WORKERS="", WEB_CONCURRENCY="2") as (started, _):
        assert set(descendants(started.pid)) == {store_of(started.pid)}


# Workers that end


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_worker_that_ends_is_replaced(serve: Serve, number: signal.Signals) -> None:
    async with serve() as (started, scene):
        await eventually(lambda: started.output.count("event=started") == 2)
        before = workers_of(started)
        os.kill(min(before), number)
        await started.line(rf"event=worker_ended code={0 if number == signal.SIGTERM else -number}")
        await eventually(lambda: started.output.count("event=started") == 3)
        after = workers_of(started)
        assert len(after) == 2
        assert after - before
        assert started.output.count("peerbook is at") == 1
        assert (await scene.http.get("/healthz")).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_nobody_who_connects_while_a_worker_is_replaced_is_refused(serve: Serve, number: signal.Signals) -> None:
    async with serve() as (started, _):
        await eventually(lambda: started.output.count("event=started") == 2)
        os.kill(leaving := min(workers_of(started)), number)
        if number == signal.SIGKILL:
            await ended(leaving)  # what it was just doing is lost
        answered = 0
        while started.output.count("event=started") < 3:
            wire = await dial(started.url)
            wire.transport.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in await asyncio.wait_for(wire.answered, SECONDS)
            wire.transport.abort()
            answered += 1
        assert answered


async def test_the_devices_of_a_worker_that_stops_are_told_and_those_of_the_others_hear_nothing(serve: Serve) -> None:
    async with serve() as (started, _), crowd(started.url, 40) as wires:
        os.kill(min(workers_of(started)), signal.SIGTERM)
        await started.line("event=worker_ended code=0")
        codes = [wire.close_code for wire in wires]
        assert set(codes) == {1001, None}


async def test_a_worker_that_can_not_start_again_is_tried_until_it_can(tmp_path: Path) -> None:
    port = free_port()
    redis = [str(shutil.which("redis-server")), *f"--port {port} --bind 127.0.0.1 --appendonly no --save".split(), ""]
    async with program(*redis) as store:
        await store.line("Ready to accept connections")
        async with server(beside(f"redis://127.0.0.1:{port}/0") | {"WORKERS": "2"}) as started:
            await eventually(lambda: started.output.count("event=started") == 2)
            assert await store.stop() == 0
            os.kill(min(workers_of(started)), signal.SIGKILL)
            for code in (-9, 1, 1):
                await started.line(f"event=worker_ended code={code}")
            for _ in range(20):  # nobody waits for it: all go to the other one
                wire = await dial(started.url)
                wire.transport.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b" 200 " in await asyncio.wait_for(wire.answered, SECONDS)
                wire.transport.abort()
            async with program(*redis) as again:
                await again.line("Ready to accept connections")
                await eventually(lambda: started.output.count("event=started") == 3)


# The end


@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, True)],
    ids=["parent", "platform", "Ctrl-C"],
)
async def test_a_signal_to_the_parent_or_to_all_ends_all_in_peace(
    serve: Serve, number: signal.Signals, group: bool
) -> None:
    async with serve() as (started, _), crowd(started.url, 40) as wires:
        below = descendants(started.pid)
        assert len(below) == 3
        if group:
            started.signal_group(number)
        else:
            os.kill(started.pid, number)
        await has_ended(started)
        assert {wire.close_code for wire in wires} == {1001}
        for pid in below:
            await ended(pid)


async def test_2000_sockets_that_answer_nothing_do_not_hold_it_up(serve: Serve) -> None:
    async with serve(LOG_LEVEL="warning") as (started, _), crowd(started.url, 2000) as wires:
        os.kill(started.pid, signal.SIGTERM)
        await has_ended(started)
        assert {wire.close_code for wire in wires} == {1001}


async def test_a_worker_that_is_stuck_does_not_hold_it_up(serve: Serve) -> None:
    async with serve() as (started, _):
        os.kill(min(workers_of(started)), signal.SIGSTOP)
        below = descendants(started.pid)
        os.kill(started.pid, signal.SIGTERM)
        await has_ended(started)
        for pid in below:
            await ended(pid)


async def test_nothing_is_left_of_a_parent_that_was_killed(serve: Serve) -> None:
    async with serve() as (started, _), crowd(started.url, 40) as wires:
        below = descendants(started.pid)
        started.kill()
        await has_ended(started, code=-signal.SIGKILL)
        for pid in below:
            await ended(pid)
        assert {wire.close_code for wire in wires} == {1001}


async def test_a_worker_ends_when_its_lifeline_does_whatever_the_kernel_says_of_its_parent(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    async with redis_server() as url:
        settings = beside(url)
        with ours, theirs, socket.create_server(("127.0.0.1", int(settings["PORT"]))) as listener:
            shared = (listener.fileno(), theirs.fileno())
            command = (sys.executable, "-m", "app.worker", *(str(each) for each in shared), str(tmp_path))
            environment = bare_environment(**settings)
            async with program(*command, environment=environment, descriptors=shared) as worker:
                await worker.line("event=started")
                ours.close()
                theirs.close()
                async with asyncio.timeout(LIMIT):
                    assert await worker.exit_code() == 0


async def test_a_second_signal_ends_all_at_once(serve: Serve, silent: SilentMailServer) -> None:
    async with serve(SMTP_URL=silent.url) as (started, scene):
        await scene.verify(new_fingerprint(), email="owner@example.org")
        await asyncio.wait_for(silent.called.wait(), SECONDS)
        below = descendants(started.pid)
        os.kill(started.pid, signal.SIGTERM)
        for _ in range(3):
            await started.line("event=stopping")
        os.kill(started.pid, signal.SIGTERM)
        await has_ended(started, code=1)
        assert "mail_given_up" not in started.output
        for pid in below:
            await ended(pid)


# The start


async def refused(settings: dict[str, str]) -> Ended:
    """The end of a server with two workers that can't start."""
    return await run(*SERVE, environment=bare_environment(**settings | {"WORKERS": "2"}), seconds=20)


async def test_a_store_that_nobody_serves_ends_the_start_with_one_sentence() -> None:
    end = await refused(beside(f"redis://127.0.0.1:{free_port()}/0"))
    assert (end.code, end.output, end.errors) == (1, "", "The store does not answer: check REDIS_URL.\n")


async def test_a_stop_while_the_first_worker_starts_ends_both() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_store:
        settings = beside(f"redis://127.0.0.1:{silent_store.getsockname()[1]}/0") | {"WORKERS": "2"}
        async with program(*SERVE, environment=bare_environment(**settings)) as started:
            call, _ = await asyncio.to_thread(silent_store.accept)
            (worker,) = workers_of(started)
            os.kill(started.pid, signal.SIGTERM)
            await has_ended(started)
            await ended(worker)
            assert not re.search("peerbook is at|store does not answer", started.output)
            call.close()
