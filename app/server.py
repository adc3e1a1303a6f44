"""The server: builds the Sanic app from Settings and serves it. Start reading here.

A request goes to a doorway in handlers/, which asks the rules that hang on the Context (context.py).
"""

import asyncio
import logging
import secrets
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import sanic
import uvloop
from sanic.config import Config

from app.context import App, Context
from app.faults import fault
from app.handlers.account import account
from app.handlers.assets import assets
from app.handlers.book import book
from app.handlers.errors import answer_errors
from app.handlers.events import events
from app.handlers.headers import add_headers
from app.handlers.login import login
from app.handlers.ops import ops
from app.handlers.stop import stop
from app.handlers.verify import verify
from app.handlers.websocket import websocket
from app.settings import Settings
from app.wsprotocol import SocketProtocol

log = logging.getLogger("peerbook")

_BACKLOG = 1024
_REQUEST_SECONDS = 15
_CUT_SECONDS = 0.5


def build(settings: Settings, context: Context) -> App:
    """The Sanic app: its routes, its limits, and the Context as `app.ctx`."""
    app: App = sanic.Sanic(
        f"peerbook-{secrets.token_hex(4)}", ctx=context, config=_configure(settings), configure_logging=False
    )
    for doorway in (websocket, verify, login, stop, book, events, account, assets, ops):
        app.blueprint(doorway)
    answer_errors(app)
    add_headers(app)
    return app


class Running:
    """A server that listens. `close` ends it: sockets are told to come back, and everything is handed back."""

    def __init__(self, app: App, server: sanic.server.AsyncioServer, listener: socket.socket) -> None:
        self.app = app
        self.port: int = listener.getsockname()[1]
        self._server = server

    @classmethod
    async def open(
        cls, settings: Settings, store_url: str, listener: socket.socket, show_mail: Callable[[str], None] = print
    ) -> "Running":
        """Connect to the store and listen; raises Unreachable without a store."""
        context = Context(settings, store_url, show_mail)
        try:
            await context.open()
        except BaseException:
            await context.close()
            raise
        app = build(settings, context)
        server = await app.create_server(
            sock=listener, protocol=SocketProtocol, backlog=_BACKLOG, return_asyncio_server=True
        )
        assert server is not None
        await server.startup()
        await server.before_start()
        await server.start_serving()
        await server.after_start()
        return cls(app, server, listener)

    async def close(self) -> None:
        """Stop listening, close what is open, and give back the lease."""
        assert self._server.server is not None
        self._server.server.close()
        await self.app.ctx.drain()
        for connection in tuple(self._server.connections):
            connection.close_if_idle()
        deadline = time.monotonic() + _CUT_SECONDS
        # Sanic has no event for its last connection.
        while self._server.connections and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        for connection in tuple(self._server.connections):
            connection.abort()
        await self.app.ctx.close()
        sanic.Sanic.unregister_app(self.app)


def listen(settings: Settings) -> socket.socket:
    """The socket to listen on; raises OSError where the address is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    listener.setblocking(False)
    return listener


def serve(settings: Settings, store_url: str, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, store_url, listener, ready))


async def _serve(settings: Settings, store_url: str, listener: socket.socket, ready: Callable[[], None]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.set_exception_handler(_log_fault)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    running = await Running.open(settings, store_url, listener)
    ready()
    log.info("event=started port=%d", running.port)
    await stop.wait()
    log.info("event=stopping")
    await running.close()
    log.info("event=stopped")


def _log_fault(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception that no task or callback caught. Asyncio would log all of it."""
    error = context.get("exception")
    log.error("event=loop_fault error=%s", fault(error) if error else "unknown")


def _configure(settings: Settings) -> Config:
    config = Config(env_prefix="PEERBOOK_SANIC_")
    config.ACCESS_LOG = False
    config.MOTD = False
    config.TOUCHUP = False  # it rewrites Sanic's classes at start, which a second app in the process does not survive
    config.REQUEST_MAX_SIZE = 65536
    config.REQUEST_TIMEOUT = _REQUEST_SECONDS
    config.WEBSOCKET_MAX_SIZE = settings.max_message
    # Sanic is told of no proxies, so no header changes what it takes for our host; handlers/places.py reads their one.
    return config
