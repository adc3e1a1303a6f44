"""A real coturn, Debian's, as those who host one set it up beside a peerbook."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.process import Program, free_port, program

TURN_SECRET = "a secret that coturn has too"


class Turn:
    """A running coturn: its address, and what it says of who comes."""

    def __init__(self, url: str, running: Program) -> None:
        self.url = url
        self._running = running

    @property
    def allocations(self) -> int:
        """How many relay addresses were given out."""
        return sum("ALLOCATE processed, success" in line for line in self._running.lines)

    @property
    def refusals(self) -> int:
        """How many asks came with credentials that it does not take."""
        return sum("Cannot find credentials of user" in line for line in self._running.lines)


@asynccontextmanager
async def coturn(folder: Path) -> AsyncIterator[Turn]:
    """A coturn on the loopback interface, which relays there."""
    binary = shutil.which("turnserver")
    if binary is None:
        pytest.fail("This test runs against Debian's coturn: apt install coturn.", pytrace=False)
    port = free_port()
    command = (
        f"{binary} -n --listening-ip=127.0.0.1 --relay-ip=127.0.0.1 --listening-port={port} --allow-loopback-peers"
        f" --use-auth-secret --realm=peerbook.test --no-tls --no-dtls --no-cli --cli-password=unused"
        f" --log-file=stdout --simple-log --verbose --userdb={folder}/turn.db --pidfile={folder}/turn.pid"
    )
    async with program(*command.split(), f"--static-auth-secret={TURN_SECRET}") as running:
        await running.line("UDP listener opened on: 127.0.0.1")
        yield Turn(f"turn:127.0.0.1:{port}", running)
