"""Autobahn's cases, the field's measure of a WebSocket server, against an echo on our own protocol class.

Sections 1 to 7 and 10: framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, and automatic fragments. The
others are of limits and performance (9), and of compression (12, 13), which is never agreed on.
"""

import secrets
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import sanic
from kosoku import FailureError, run_fuzzingclient
from sanic.config import Config

from app.listeners import listen
from app.lobby import Lobby
from app.outbox import Outbox
from app.settings import Settings
from app.sockets import WebSocket
from app.wheel import Wheel
from app.wsprotocol import SocketProtocol, Upgraded

SECTIONS = ("1", "2", "3", "4", "5", "6", "7", "10")


class Echo:
    """Says what it hears."""

    is_known = True

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    def message(self, data: bytes, is_text: bool) -> None:
        assert self._socket.send(data, is_text=is_text)

    def closed(self) -> None:
        """Nothing is left to do."""


async def echo(request: sanic.Request[Any, Any], upgraded: Upgraded) -> None:
    upgraded.socket.attach(Echo(upgraded.socket))
    upgraded.socket.resume()


@pytest.fixture(scope="module")
async def url() -> AsyncIterator[str]:
    """An echo."""
    context = SimpleNamespace(wheel=Wheel(), lobby=Lobby(), outbox=Outbox())
    config = Config()
    config.MOTD = config.ACCESS_LOG = config.TOUCHUP = False
    config.WEBSOCKET_MAX_SIZE = 1 << 20
    app = sanic.Sanic(f"echo-{secrets.token_hex(4)}", ctx=context, config=config, configure_logging=False)
    app.add_websocket_route(echo, "/")
    (listener,) = listen(Settings(host="127.0.0.1", port=0))
    server = await app.create_server(sock=listener, protocol=SocketProtocol, return_asyncio_server=True)
    assert server is not None
    await server.startup()  # type: ignore[no-untyped-call]
    await server.start_serving()  # type: ignore[no-untyped-call]
    context.wheel.start()
    yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
    context.wheel.stop()
    server.close()  # type: ignore[no-untyped-call]
    for connection in tuple(server.connections):
        connection.abort()
    sanic.Sanic.unregister_app(app)


@pytest.mark.parametrize("section", SECTIONS)
async def test_no_case_of_autobahn_fails(url: str, section: str) -> None:
    try:
        results = await run_fuzzingclient(url, [f"{section}.*"], concurrency=8)
    except FailureError as error:
        failed = [case for case in error.results if not case.passed]
        pytest.fail("\n".join(f"{case.case_id}: {case.result} {case.result_close}" for case in failed))
    assert results
    assert all(case.passed for case in results)
