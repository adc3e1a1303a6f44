"""Programs that tests start: the server and its helpers as processes, read line by line, and always ended."""

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.privacy import found_in
from tests.support import SECONDS, Mailbox, Scene

ROOT = Path(__file__).parent.parent
START_SECONDS = 20.0
_PEACE_SECONDS = 3.0
SERVE = (sys.executable, "-m", "app")

# What nobody is kept from in a test.
_NO_LIMITS = {
    "MAIL_INTERVAL": "0",
    "MAIL_HOURLY": "0",
    "MAIL_DAILY": "0",
    "MAIL_TOTAL_HOURLY": "0",
    "ASK_RATE": "0",
    "MESSAGE_RATE": "0",
    "MAX_REQUESTS_NEAR": "0",
    "MAX_WAITING_NEAR": "0",
}


def bare_environment(**given: str) -> dict[str, str]:
    """An environment that holds what is given, and of ours nothing but how programs are found."""
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | given


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# What is logged; a mail that is shown on the terminal is none of it, and may name its reader's own devices.
_LOGGED = re.compile(r"\blevel=|event=|Traceback")


class Program:
    """A running program, in a process group of its own. Its output is read as it comes, and kept."""

    def __init__(self, process: Process) -> None:
        self.pid = process.pid
        self.url = ""
        self.lines: list[str] = []
        self._process = process
        self._read = 0
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._collect())

    @property
    def output(self) -> str:
        """All that it said until now, errors included."""
        return "\n".join(self.lines)

    def leaks(self) -> list[str]:
        """What its log tells that it must not."""
        logged = [line for line in self.lines if _LOGGED.search(line)]
        return [f"{what} in: {line}" for line in logged for what in found_in(line)]

    async def line(self, pattern: str, seconds: float = SECONDS) -> re.Match[str]:
        """The next line in which the pattern is found; lines before it are passed over."""
        try:
            return await asyncio.wait_for(self._line(re.compile(pattern)), seconds)
        except TimeoutError:
            raise AssertionError(f"no line with {pattern!r} in {seconds:g} s; it said:\n{self.output}") from None

    async def _line(self, pattern: re.Pattern[str]) -> re.Match[str]:
        async with self._news:
            while True:
                while self._read < len(self.lines):
                    self._read += 1
                    if match := pattern.search(self.lines[self._read - 1]):
                        return match
                if self._reader.done():
                    raise AssertionError(f"it ended without a line with {pattern.pattern!r}; it said:\n{self.output}")
                await self._news.wait()

    def say(self, line: str) -> None:
        """Write a line to its input."""
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())

    async def exit_code(self, seconds: float = SECONDS) -> int:
        """Wait for its end, and for the end of its output."""
        await asyncio.wait_for(asyncio.shield(self._reader), seconds)
        return await asyncio.wait_for(self._process.wait(), seconds)

    async def stop(self, seconds: float = SECONDS) -> int:
        """Ask it to end (SIGTERM), and wait; returns the exit code."""
        self._process.terminate()
        return await self.exit_code(seconds)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the program and all that it started, as a terminal does."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._process.kill()

    async def close(self) -> None:
        """End what is left of it, in peace where that is possible."""
        with suppress(TimeoutError):
            self.signal_group(signal.SIGTERM)
            await asyncio.wait_for(self._process.wait(), _PEACE_SECONDS)
        self.signal_group(signal.SIGKILL)
        await self._process.wait()
        await self._reader

    async def _collect(self) -> None:
        assert self._process.stdout
        try:
            async for line in self._process.stdout:
                async with self._news:
                    self.lines.append(line.decode().rstrip("\n"))
                    self._news.notify_all()
        finally:
            async with self._news:
                self._news.notify_all()


@asynccontextmanager
async def program(
    *command: str, environment: Mapping[str, str] | None = None, folder: Path = ROOT, descriptors: Sequence[int] = ()
) -> AsyncIterator[Program]:
    """A program that runs until the end of the block, at most. Its input is a pipe that stays open.

    It inherits the `descriptors`.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        env=bare_environment() if environment is None else environment,
        cwd=folder,
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,
        pass_fds=descriptors,
    )
    started = Program(process)
    try:
        yield started
    finally:
        await started.close()
    leaks = started.leaks()
    assert leaks == [], leaks


@asynccontextmanager
async def server(
    settings: Mapping[str, str],
    *,
    command: Sequence[str] = SERVE,
    folder: Path = ROOT,
    seconds: float = START_SECONDS,
) -> AsyncIterator[Program]:
    """A peerbook in a process of its own, with these settings; it serves at its `url` when the block begins."""
    environment = bare_environment(**_NO_LIMITS | dict(settings))
    async with program(*command, environment=environment, folder=folder) as started:
        started.url = (await started.line(r"peerbook is at (\S+)", seconds))[1]
        yield started


@asynccontextmanager
async def scene_at(url: str, mailbox: Mailbox) -> AsyncIterator[Scene]:
    """Devices and owners for a server that runs elsewhere."""
    scene = Scene(url, mailbox)
    try:
        yield scene
    finally:
        await scene.close()


@asynccontextmanager
async def redis_server() -> AsyncIterator[str]:
    """Debian's Redis on a free port, empty and with a password; the address of it."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.fail("This test runs against Debian's Redis: apt install redis-server.")
    port = free_port()
    command = f"{binary} --port {port} --bind 127.0.0.1 --requirepass sesame --appendonly no"
    async with program(*command.split(), "--save", "") as store:
        await store.line("Ready to accept connections")
        yield f"redis://:sesame@127.0.0.1:{port}/0"


@dataclass(frozen=True)
class Ended:
    """What became of a program that ended."""

    code: int
    output: str
    errors: str


async def run(*command: str, environment: Mapping[str, str], folder: Path = ROOT, seconds: float = SECONDS) -> Ended:
    """Run a program to its end."""
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, cwd=folder, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), seconds)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, output.decode(), errors.decode())


def descendants(pid: int) -> dict[int, str]:
    """The processes below this one, each with its command."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            # The command in brackets may hold anything, so the fields are counted from behind it.
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found: dict[int, str] = {}
    level = {pid}
    while level := {child for child, parent in parents.items() if parent in level}:
        for child in level:
            with suppress(OSError):
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def store_of(pid: int) -> int:
    """The process of the built-in store that the server `pid`, or one below it, started."""
    stores = [child for child, command in descendants(pid).items() if re.search(r"(valkey|redis)-server", command)]
    assert len(stores) == 1, descendants(pid)
    return stores[0]


async def ended(pid: int, seconds: float = SECONDS) -> None:
    """Wait until a process that is not our child is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(handle, gone.set)
    try:
        await asyncio.wait_for(gone.wait(), seconds)
    finally:
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)
