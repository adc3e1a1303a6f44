"""What the device page costs: `python -m bench.pages`, with a server, a store and a mailbox of its own."""

import asyncio
import gzip
import os
import re
import tempfile
import time
from pathlib import Path
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit

import uvloop
from redis.asyncio import Redis

from tests.process import free_port, redis_server, scene_at, server
from tests.support import Owner, Scene, new_fingerprint, open_mailbox

DEVICES = 50
RATE = 50
SECONDS = 20
STREAMS = 200
_WARM_STREAMS = 20
_TICKS = os.sysconf("SC_CLK_TCK")
_STREAM_LIMIT = 1 << 20


class Wire:
    """One kept connection, read byte by byte as a browser would get it."""

    def __init__(self, url: str, cookie: str) -> None:
        self._address = urlsplit(url)
        self._cookie = cookie
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> "Wire":
        host, port = self._address.hostname, self._address.port
        self._reader, self._writer = await asyncio.open_connection(host, port, limit=_STREAM_LIMIT)
        return self

    async def get(self, path: str) -> tuple[bytes, bytes]:
        """Head and body as they travel."""
        self._send(path)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.I)
        assert length, head
        return head, await self._reader.readexactly(int(length[1]))

    async def follow(self) -> None:
        """Open the page's stream, and read its first event."""
        self._send("/peers/events")
        await self._reader.readuntil(b"\n\n\r\n")

    def _send(self, path: str) -> None:
        self._writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {self._address.netloc}\r\nAccept-Encoding: gzip\r\n"
            f"Cookie: session={self._cookie}\r\n\r\n".encode()
        )

    def close(self) -> None:
        self._writer.close()


async def fill_book(scene: Scene, owner: Owner) -> str:
    """A book of 50 approved devices; returns the cookie that opens it."""
    await owner.log_in()
    for number in range(DEVICES):
        fp = new_fingerprint()
        await scene.verify(fp, email=owner.address, name=f"device {number}", kind="laptop")
        await owner.approve(fp)
    return owner.http.cookies["session"]


async def load_pages(url: str, cookie: str) -> list[float]:
    """How long each page took, from the moment at which it was due: a late server is not asked later."""
    idle: asyncio.Queue[Wire] = asyncio.Queue()
    for _ in range(10):
        idle.put_nowait(await Wire(url, cookie).open())
    took: list[float] = []

    async def load(due: float) -> None:
        wire = await idle.get()
        head, _ = await wire.get("/peers")
        assert b" 200 " in head.split(b"\r\n")[0], head
        took.append(time.perf_counter() - due)
        idle.put_nowait(wire)

    start = time.perf_counter() + 0.1
    async with asyncio.TaskGroup() as tasks:
        for number in range(RATE * SECONDS):
            due = start + number / RATE
            await asyncio.sleep(max(0, due - time.perf_counter()))
            tasks.create_task(load(due))
    while not idle.empty():
        idle.get_nowait().close()
    return took


async def first_load(url: str, cookie: str) -> int:
    """The bytes that a browser with an empty cache receives: the page and all that it loads, heads included."""
    wire = await Wire(url, cookie).open()
    head, body = await wire.get("/peers")
    total = len(head) + len(body)
    for path in sorted(set(re.findall(r'(?:src|href)="(/static/[^"]+)"', gzip.decompress(body).decode()))):
        head, body = await wire.get(path)
        total += len(head) + len(body)
    wire.close()
    return total


async def memory_per_stream(url: str, cookie: str, pid: int) -> float:
    """The bytes by which the server grew for each of 200 open pages."""
    wires: list[Wire] = []

    async def open_streams(count: int) -> int:
        for _ in range(count):
            wires.append(await Wire(url, cookie).open())
            await asyncio.wait_for(wires[-1].follow(), 10)
        return resident(pid)

    before = await open_streams(_WARM_STREAMS)
    after = await open_streams(STREAMS)
    for wire in wires:
        wire.close()
    return (after - before) / STREAMS


def resident(pid: int) -> int:
    """The memory of a process in bytes."""
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1]) * 1024


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def reads(redis: Redis) -> int:
    """How often the store read from its clients: once for each round trip."""
    stats: dict[str, Any] = await redis.info("stats")
    return int(stats["total_reads_processed"])


def show(rows: list[tuple[str, str, str]]) -> None:
    """Print the table."""
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, value, target in rows:
        print(f"{name:<{widths[0]}}  {value:>{widths[1]}}  {target:<{widths[2]}}".rstrip())


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        port = str(free_port())
        async with open_mailbox() as mailbox, redis_server() as store_url:
            settings = {
                "HOST": "127.0.0.1",
                "PORT": port,
                "BASE_URL": f"http://127.0.0.1:{port}",
                "REDIS_URL": store_url,
                "SECRET_KEY": "k" * 32,
                "SMTP_URL": mailbox.url,
                "DATA_DIR": folder,
            }
            async with server(settings) as running, scene_at(running.url, mailbox) as scene:
                await measure(running.url, running.pid, store_url, scene)


async def measure(url: str, pid: int, store_url: str, scene: Scene) -> None:
    cookie = await fill_book(scene, scene.owner())
    redis = Redis.from_url(store_url, decode_responses=True)
    before = await reads(redis)
    cpu = cpu_seconds(pid)
    took = await load_pages(url, cookie)
    cpu = cpu_seconds(pid) - cpu
    trips = await reads(redis) - before - 1  # the reading of the counter is one
    await redis.aclose()
    size = await first_load(url, cookie)
    memory = await memory_per_stream(url, cookie, pid)
    percentiles = quantiles(took, n=100)
    show(
        [
            (f"GET /peers, {DEVICES} devices, {RATE}/s for {SECONDS} s", "", "target"),
            ("  p50", f"{percentiles[49] * 1000:.1f} ms", ""),
            ("  p99", f"{percentiles[98] * 1000:.1f} ms", "<= 15 ms"),
            ("  server CPU", f"{cpu / SECONDS:.0%} of a core", ""),
            ("  round trips to the store", f"{trips / len(took):.2f}", "1"),
            ("first load, gzip, heads included", f"{size / 1000:.1f} KB", "<= 80 KB"),
            (f"memory per open page, of {STREAMS}", f"{memory / 1000:.1f} KB", "<= 30 KB"),
        ]
    )


if __name__ == "__main__":
    uvloop.run(main())
