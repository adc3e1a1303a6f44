"""The long-lived objects of one process, built in the order in which they need each other. Sanic keeps it as app.ctx."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from types import SimpleNamespace

import sanic
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sanic.config import Config

from app.absences import Absences
from app.asking import Asking
from app.assets import Assets
from app.background import Background
from app.books import Books
from app.bus import Bus
from app.codes import Codes
from app.connections import Connections
from app.contact import Contact
from app.errors import Unreachable
from app.farewells import send_away
from app.iceservers import IceServers
from app.limits import Limits
from app.mailer import Mailer
from app.notices import Notices
from app.pages import Pages
from app.presence import Presence
from app.proving import Proving
from app.sessions import Sessions
from app.settings import Settings
from app.signaling import Signaling
from app.stamps import Stamps
from app.stops import Stops
from app.store import Store
from app.streams import Streams
from app.throttle import Throttle
from app.wsprotocol import Pinger

_STORE_CONNECTIONS = 5  # with the bus's two, 7 a process: small hosted stores allow 20, and a deploy overlaps two
_STORE_SECONDS = 3.0
_BUS_SECONDS = 2.0
# A stop takes five seconds at the most: three to drain, a moment for requests that are being answered (server.py), one
# to take leave of the store, and what is left for a store of our own (embedded.py) and the end of the program.
_DRAIN_SECONDS = 3.0
_CLOSE_SECONDS = 0.6


class Context:
    """Everything that lives as long as the process does."""

    def __init__(self, settings: Settings, store_url: str, show_mail: Callable[[str], None] = print) -> None:
        self.settings = settings
        self.process = secrets.token_hex(6)
        self.draining = False
        self._deadline: float | None = None
        commands = _connect(settings, store_url, _STORE_CONNECTIONS)
        writer = _connect(settings, store_url, 1, seconds=_BUS_SECONDS)
        subscriber = _connect(settings, store_url, 1, seconds=_BUS_SECONDS)
        self._clients = (commands, writer, subscriber)
        self.background = Background()
        self.pinger = Pinger()
        self.contact = Contact()
        self.store = Store(commands, self.contact)
        self.bus = Bus(self.process, writer, subscriber, self.contact)
        self.limits = Limits(self.store, settings)
        self.throttle = Throttle(self.store, settings.secret_keys[0], settings.ask_rate)
        self.mailer = Mailer(settings.smtp_url, settings.mail_from, self.background, show=show_mail)
        self.absences = Absences()
        self.books = Books(
            self.store,
            self.bus,
            self.background,
            self.absences,
            most_peers=settings.max_peers,
            most_requests=settings.max_requests,
            most_near=settings.max_requests_near,
            request_seconds=settings.request_ttl,
            wait_seconds=settings.wait_timeout,
        )
        self.sessions = Sessions(
            self.store,
            self.books,
            secret_keys=settings.secret_keys,
            base_url=settings.base_url,
            link_ttl=settings.link_ttl,
            session_ttl=settings.session_ttl,
            session_max=settings.session_max,
        )
        self.codes = Codes(
            self.store, self.sessions, self.limits, secret_keys=settings.secret_keys, seconds=settings.link_ttl
        )
        self.stops = Stops(self.store, self.books, secret_keys=settings.secret_keys, base_url=settings.base_url)
        self.stamps = Stamps(self.stops, self.limits)
        self.notices = Notices(self.mailer, self.stamps, self.sessions, self.background)
        self.asking = Asking(
            settings,
            self.books,
            self.sessions,
            self.codes,
            self.mailer,
            self.stamps,
            self.notices,
            self.limits,
            self.throttle,
            self.background,
        )
        self.connections = Connections()
        self.presence = Presence(
            self.books,
            self.bus,
            self.connections,
            self.asking,
            self.notices,
            self.background,
            wait_timeout=settings.wait_timeout,
            require_proof=settings.require_proof,
        )
        self.proving = Proving(self.books, self.presence, self.notices, settings.base_url)
        self.ice_servers = IceServers(settings.ice_servers, settings.turn_urls, settings.turn_secret, settings.turn_ttl)
        self.signaling = Signaling(
            self.books,
            self.bus,
            self.contact,
            self.connections,
            self.proving,
            self.background,
            self.ice_servers,
        )
        self.assets = Assets()
        self.pages = Pages(settings, self.assets)
        self.streams = Streams()
        self.contact.after_loss(self.streams.stir)

    async def open(self) -> None:
        """Begin: the store's scripts, this process's lease and channel. Raises Unreachable without a store."""
        await self.store.open()
        await self.bus.open()
        await self.presence.open()
        self.pinger.start()

    async def drain(self) -> None:
        """Begin to end: pages are let go, sockets are sent away, and meanwhile mails go out."""
        self.draining = True
        self._deadline = asyncio.get_running_loop().time() + _DRAIN_SECONDS
        self.pinger.stop()
        self.mailer.stop()
        self.streams.end_all()
        await send_away(self.connections, self.presence)
        await self.background.done(self._deadline)

    async def close(self) -> None:
        """End: what is not done is given up, and the store hears that this process is no more."""
        if self._deadline is None:
            await self.drain()
        assert self._deadline is not None
        await self.background.done(self._deadline)  # what was begun by the last requests
        await self.background.close()
        leaving = asyncio.create_task(self._take_leave())
        await asyncio.wait((leaving,), timeout=_CLOSE_SECONDS)
        if not leaving.cancel():
            leaving.result()

    async def _take_leave(self) -> None:
        with contextlib.suppress(Unreachable):
            await self.bus.flush()
            await self.books.close()
            await self.presence.close()
        await self.bus.close()
        for client in self._clients:
            await client.aclose(close_connection_pool=True)


def _connect(settings: Settings, url: str, most: int, *, seconds: float = _STORE_SECONDS) -> Redis:
    """A client of the store with at most so many connections, which waits so long for one of them and for each answer.

    It does nothing a second time by itself: what may be repeated, the store repeats.
    """
    tls = {}
    if url.startswith("rediss:"):
        tls = {
            "ssl_cert_reqs": "none" if settings.redis_tls_verify == "none" else "required",
            "ssl_check_hostname": settings.redis_tls_verify == "full",
        }
    pool = BlockingConnectionPool.from_url(
        url,
        decode_responses=True,
        max_connections=most,
        timeout=seconds,
        socket_connect_timeout=seconds,
        socket_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
        **tls,
    )
    return Redis(connection_pool=pool)


App = sanic.Sanic[Config, Context]
Request = sanic.Request[App, SimpleNamespace]
