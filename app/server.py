"""The server: builds the Sanic app from Settings and serves it. Start reading here.

A request goes to a doorway in handlers/, which asks the rules that hang on the Context (context.py).
"""

import asyncio
import contextlib
import dataclasses
import gc
import logging
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sanic
import uvloop
from sanic.config import Config

from app.context import App, Context
from app.faults import fault
from app.handlers.account import account
from app.handlers.assets import assets
from app.handlers.book import book
from app.handlers.demo import demo
from app.handlers.doctor import doctor
from app.handlers.errors import answer_errors
from app.handlers.events import events
from app.handlers.headers import add_headers
from app.handlers.login import login
from app.handlers.ops import ops
from app.handlers.requests import count_requests
from app.handlers.stop import stop
from app.handlers.verify import verify
from app.handlers.websocket import websocket
from app.lifeline import Lifeline
from app.listeners import BACKLOG, room_for
from app.orders import Orders
from app.settings import Settings
from app.signals import QuietSignals
from app.wsprotocol import SocketProtocol

log = logging.getLogger("peerbook")

_REQUEST_SECONDS = 15
_CUT_SECONDS = 0.3


def build(settings: Settings, context: Context) -> App:
    """The Sanic app: its routes, its limits, and the Context as `app.ctx`."""
    app: App = sanic.Sanic(
        f"peerbook-{secrets.token_hex(4)}",
        ctx=context,
        config=_configure(settings),
        signal_router=QuietSignals(),
        configure_logging=False,
    )
    for doorway in (websocket, verify, login, stop, book, events, account, assets, ops, doctor):
        app.blueprint(doorway)
    if settings.demo:
        app.blueprint(demo)
    count_requests(app)
    answer_errors(app)
    add_headers(app)
    return app


class Running:
    """A server that listens. `close` ends it: sockets are told to come back, and everything is handed back."""

    def __init__(self, app: App, server: sanic.server.AsyncioServer, listener: socket.socket) -> None:
        self.app = app
        self.port: int = listener.getsockname()[1]
        self._server = server
        self._listener = listener

    @classmethod
    async def open(
        cls,
        settings: Settings,
        store_url: str,
        listener: socket.socket,
        show_mail: Callable[[str], None] = print,
        shared_folder: Path | None = None,
    ) -> "Running":
        """Connect to the store and listen; raises Unreachable without a store."""
        context = Context(settings, store_url, show_mail, shared_folder)
        try:
            await context.open()
            app = build(settings, context)
            server = await app.create_server(
                sock=listener, protocol=SocketProtocol, backlog=BACKLOG, return_asyncio_server=True
            )
            assert server is not None
            await server.startup()
            await server.before_start()
            await server.start_serving()
            await server.after_start()
        except BaseException:
            await context.close()
            raise
        return cls(app, server, listener)

    async def retire(self, *, heir: bool = False) -> None:
        """Take no more connections. On those that are open, the next answer is the last.

        Those that wait at the listener are taken in first, unless it has an `heir`: a process that goes on with it.
        """
        assert self._server.server is not None
        waiting = [] if heir else list(self._waiting())
        self._server.server.close()
        self.app.config.KEEP_ALIVE = False
        self.app.ctx.draining = True
        loop = asyncio.get_running_loop()
        for each in waiting:
            await loop.connect_accepted_socket(self._new_protocol, each)

    async def close(self) -> None:
        """Send the sockets away, finish what was begun, and give back the lease; in four seconds at the most."""
        if self._server.is_serving():
            await self.retire()
        await self.app.ctx.drain()
        await self._close_connections()
        await self.app.ctx.close()
        sanic.Sanic.unregister_app(self.app)

    def _waiting(self) -> Iterator[socket.socket]:
        with contextlib.suppress(OSError):  # there is none left, or no room for it
            while True:
                yield self._listener.accept()[0]

    def _new_protocol(self) -> SocketProtocol:
        """As Sanic makes it."""
        return SocketProtocol(
            loop=asyncio.get_running_loop(),
            app=self.app,
            connections=self._server.connections,
            websocket_max_size=self.app.config.WEBSOCKET_MAX_SIZE,
        )

    async def _close_connections(self) -> None:
        """Close what is open, and cut what is still busy after a moment."""
        deadline = time.monotonic() + _CUT_SECONDS
        while self._server.connections and time.monotonic() < deadline:
            for connection in tuple(self._server.connections):
                connection.close_if_idle()
            await asyncio.sleep(0.02)  # Sanic has no event for its last connection
        for connection in tuple(self._server.connections):
            connection.abort()


def serve(
    settings: Settings,
    store_url: str,
    listener: socket.socket,
    ready: Callable[[], None],
    parent: Lifeline | None = None,
    shared_folder: Path | None = None,
) -> int:
    """Serve until told to stop, and call `ready` when it begins; raises Unreachable without a store.

    Returns the exit code, 1 where a second order cut it short. `parent`: this is a worker, which shares a folder
    with the others.
    """
    serving = _serve(settings, store_url, listener, ready, parent, shared_folder)
    # The loop stays open: closing it would wait for the names that are being looked up for mails.
    return int(uvloop.new_event_loop().run_until_complete(serving))


async def _serve(
    settings: Settings,
    store_url: str,
    listener: socket.socket,
    ready: Callable[[], None],
    parent: Lifeline | None,
    shared_folder: Path | None,
) -> int:
    asyncio.get_running_loop().set_exception_handler(_log_fault)
    orders = Orders(parent)
    settings = dataclasses.replace(settings, max_sockets=room_for(settings.max_sockets))
    opened = await orders.unless_told(Running.open(settings, store_url, listener, print, shared_folder))
    if opened is None:
        return 0
    running = opened.result()
    _calm_collector()
    ready()
    log.info("event=started port=%d", running.port)
    await orders.next()
    await running.retire(heir=parent is not None)
    if parent:
        parent.say_retired()
    log.info("event=stopping")
    closed = await orders.unless_told(running.close())
    if closed is None:
        return 1
    closed.result()
    log.info("event=stopped")
    return 0


def _calm_collector() -> None:
    """Have Python look for cycles in young objects only, nearly always.

    To look through all that 10,000 devices keep takes 270 ms, in which nothing else is done, and finds next to nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 50)


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
