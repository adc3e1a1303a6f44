"""Starts peerbook and its rivals, each on one core, and makes peers that speak to each in its own words."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.load import LoadPeer
from bench.scaling import a_server, new_books
from tests.process import Program, bare_environment, free_port, program

_FOLDER = Path(__file__).parent
_MODULES = Path(__file__).parents[2] / "build" / "rivals"
SIZE = 800
_PEERJS_OPTIONS = ["--alive_timeout", "600000", "--concurrent_limit", "100000", "--key", "peerjs", "--path", "/"]


class Rival(LoadPeer):
    """A peer of a server that asks for no more than an id."""

    path = "/?id={id}"
    heartbeat = b""
    opened = b'{"open":true}'

    def _path(self) -> str:
        return self.path.format(id=self.fp)

    def _take(self, opcode: int, payload: bytes) -> None:
        if payload == self.opened:
            if not self._arrived.done():
                self._arrived.set_result(True)
        else:
            super()._take(opcode, payload)

    def message_to(self, target: LoadPeer) -> bytes:
        """A message of 800 bytes for it, without the frame."""
        return _padded({"target": target.fp, "candidate": {"candidate": "candidate:842163049 1 udp", "sdpMid": "0"}})


class PeerJsPeer(Rival):
    """A peer of PeerJS server, as its own client speaks."""

    heartbeat = b'{"type":"HEARTBEAT"}'  # its client sends one every five seconds
    path = "/peerjs?key=peerjs&id={id}&token={id}&version=1.5.5"
    opened = b'{"type":"OPEN"}'

    def message_to(self, target: LoadPeer) -> bytes:
        """A CANDIDATE for it."""
        payload = {"candidate": {"candidate": "candidate:842163049 1 udp", "sdpMid": "0"}}
        return _padded({"type": "CANDIDATE", "dst": target.fp, "payload": payload})


class PeerbookPeer(LoadPeer):
    """A peer of ours."""

    heartbeat = b""

    def message_to(self, target: LoadPeer) -> bytes:
        """A candidate for it."""
        return _padded({"target": target.fp, "candidate": {"candidate": "candidate:842163049 1 udp", "sdpMid": "0"}})


AnyPeer = Rival | PeerbookPeer


def _padded(message: dict[str, object]) -> bytes:
    """The message with so much more in its innermost object that it has 800 bytes."""
    inner = message.get("candidate") or message.get("payload")
    assert isinstance(inner, dict)
    inner["more"] = ""
    inner["more"] = "x" * (SIZE - len(json.dumps(message, separators=(",", ":"))))
    text = json.dumps(message, separators=(",", ":")).encode()
    assert len(text) == SIZE
    return text


def frame(text: bytes) -> bytes:
    """As it travels, masked with zeros, which change nothing (RFC 6455, section 5.3)."""
    return b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text


@dataclass(frozen=True)
class Contender:
    """A server under measurement: how it is started, and its peers, five by five."""

    name: str
    start: Callable[[], AbstractAsyncContextManager[Program]]
    groups: list[list[AnyPeer]]


async def contenders(store_url: str, folder: str, books: int) -> list[Contender]:
    """All that can be started here; what can't is named."""
    ours = [[PeerbookPeer(peer.fp, peer.uid) for peer in book] for book in await new_books(store_url, books)]

    def rivals(kind: type[Rival]) -> list[list[AnyPeer]]:
        return [[kind(peer.fp, "") for peer in book] for book in ours]

    found = [
        Contender("peerbook", partial(a_server, store_url, folder, 0, port=free_port()), [list(book) for book in ours])
    ]
    if modules := _node_modules():
        peerjs = ("node", f"{modules}/peer/dist/bin/peerjs.js", "--port", "{port}", *_PEERJS_OPTIONS)
        found.append(Contender("PeerJS server", _starter("Started PeerServer", *peerjs), rivals(PeerJsPeer)))
        relay = ("node", f"{_FOLDER}/ws_relay.js", "{port}")
        found.append(Contender("relay on ws", _starter("listening", *relay), rivals(Rival)))
    else:
        print("Node is not here, so PeerJS server and the relay on ws are not measured.", file=sys.stderr)
    picows = (sys.executable, "-m", "bench.rivals.picows_relay", "{port}")
    found.append(Contender("relay on picows", _starter("listening", *picows), rivals(Rival)))
    return found


def _starter(ready: str, *command: str) -> Callable[[], AbstractAsyncContextManager[Program]]:
    port = free_port()
    return partial(_program, ready, port, *(each.format(port=port) for each in command))


def _node_modules() -> Path | None:
    """The rivals' packages, installed if need be; None where there is no Node."""
    if not (shutil.which("node") and shutil.which("npm")):
        return None
    modules = _MODULES / "node_modules"
    if not modules.exists():
        _MODULES.mkdir(parents=True, exist_ok=True)
        shutil.copy(_FOLDER / "package.json", _MODULES)
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"]
        subprocess.run(install, cwd=_MODULES, check=True)
    return modules


@asynccontextmanager
async def _program(ready: str, port: int, *command: str) -> AsyncIterator[Program]:
    environment = bare_environment(NODE_PATH=str(_MODULES / "node_modules"), NODE_ENV="production")
    async with program(*command, environment=environment) as running:
        os.sched_setaffinity(running.pid, {0})
        await running.line(ready, 20)
        running.url = f"http://127.0.0.1:{port}"
        yield running
