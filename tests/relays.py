"""Somebody on the way between a device and the server, who puts another certificate into what the device hears."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support import Scene

FORGED = "a=fingerprint:sha-256 " + ":".join(["EE"] * 32)


class Forger:
    """Passes messages on, both ways."""

    def __init__(self, url: str) -> None:
        self.url = ""
        self._server = url.replace("http", "ws", 1)

    @staticmethod
    def forge(sdp: str) -> str:
        """The description with another certificate."""
        return "\r\n".join(FORGED if line.startswith("a=fingerprint:") else line for line in sdp.splitlines()) + "\r\n"

    async def relay(self, device: ServerConnection) -> None:
        assert device.request
        async with connect(f"{self._server}{device.request.path}", compression=None) as server:
            await asyncio.wait(
                [asyncio.create_task(_pass_on(device, server)), asyncio.create_task(self._deceive(server, device))],
                return_when=asyncio.FIRST_COMPLETED,
            )

    async def _deceive(self, server: ClientConnection, device: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for frame in server:
                message: dict[str, Any] = json.loads(frame)
                for kind in {"offer", "answer"} & {kind for kind, value in message.items() if value}:
                    message[kind]["sdp"] = self.forge(message[kind]["sdp"])
                await device.send(json.dumps(message))


async def _pass_on(source: ServerConnection, target: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for frame in source:
            await target.send(frame)


@asynccontextmanager
async def forging(scene: Scene) -> AsyncIterator[Forger]:
    """Somebody on the way to the server of that scene."""
    forger = Forger(scene.url)
    async with serve(forger.relay, "127.0.0.1", 0, compression=None) as relay:
        forger.url = f"http://127.0.0.1:{next(iter(relay.sockets)).getsockname()[1]}"
        yield forger
