"""The long-lived objects of one process, built in the order in which they need each other. Sanic keeps it as app.ctx."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace

import sanic
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from sanic.config import Config

from app.absences import Absences
from app.admission import Admission
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
from app.lobby import Lobby
from app.mailer import Mailer
from app.metrics import Metrics
from app.migrations import bring_up_to_date
from app.notices import Notices
from app.outbox import Outbox
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
from app.tally import Tally
from app.throttle import Throttle
from app.turns import Turns
from app.wheel import Wheel

_STORE_CONNECTIONS = 5  # with the bus's two, 7 a process: small hosted stores allow 20, and a deploy overlaps two
_STORE_SECONDS = 3.0
_BUS_SECONDS = 2.0
# A stop takes five seconds at the most: three to drain, a moment for requests that are being answered (server.py), one
# to take leave of the store, and what is left for a store of our own (embedded.py) and the end of the program.
_DRAIN_SECONDS = 3.0
_CLOSE_SECONDS = 0.6


class Context:
    """Everything that lives as long as the process does."""

    def __init__(
        self,
        settings: Settings,
        store_url: str,
        show_mail: Callable[[str], None] = print,
        shared_folder: Path | None = None,
    ) -> None:
        """`shared_folder`: where this process and the others that serve its port leave what they counted."""
        self.settings = settings
        self.process = secrets.token_hex(6)
        self.draining = False
        self._deadline: float | None = None
        commands = connect(settings, store_url, _STORE_CONNECTIONS)
        writer = connect(settings, store_url, 1, seconds=_BUS_SECONDS)
        subscriber = connect(settings, store_url, 1, seconds=_BUS_SECONDS)
        self._clients = (commands, writer, subscriber)
        self.background = Background()
        self.wheel = Wheel()
        self.lobby = Lobby()
        self.wheel.watch(self.lobby)
        self.outbox = Outbox()
        self.turns = Turns()
        self.large_turns = Turns()  # of their own, so that they hold up no others
        self.contact = Contact()
        self.tally = Tally()
        self.store = Store(commands, self.contact, self.tally)
        self.bus = Bus(self.process, writer, subscriber, self.contact)
        self.limits = Limits(self.store, settings)
        self.throttle = Throttle(self.store, settings.secret_keys[0], settings.ask_rate)
        self.mailer = Mailer(settings.smtp_url, settings.mail_from, self.background, self.tally, show=show_mail)
        self.absences = Absences()
        self.books = Books(
            self.store,
            self.bus,
            self.background,
            self.absences,
            self.tally,
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
        self.admission = Admission(self.wheel, settings.max_sockets, settings.max_waiting_near)
        self.presence = Presence(
            self.books,
            self.bus,
            self.connections,
            self.admission,
            self.asking,
            self.notices,
            self.background,
            self.tally,
            self.wheel,
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
            self.tally,
            self.ice_servers,
        )
        self.assets = Assets()
        self.pages = Pages(settings, self.assets)
        self.streams = Streams()
        self.contact.after_loss(self._lost)
        self.metrics = Metrics(
            self.tally, self.connections.count_by_stage, lambda: not self.contact.lost, shared_folder
        )

    async def open(self) -> None:
        """Begin: the store's scripts and layout, this process's lease and channel.

        Raises Unreachable without a store, and NewerData where only a newer program can read what it holds.
        """
        await self.store.open()
        await bring_up_to_date(self.store)
        await self.store.begin()
        await self.bus.open()
        await self.presence.open()
        self.wheel.start()
        self.metrics.start()

    def _lost(self) -> None:
        self.tally.add("store_losses")
        self.streams.stir()

    async def drain(self) -> None:
        """Begin to end: pages are let go, sockets are sent away, and meanwhile mails go out."""
        self.draining = True
        self._deadline = asyncio.get_running_loop().time() + _DRAIN_SECONDS
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
        self.metrics.stop()
        self.wheel.stop()
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


@contextlib.asynccontextmanager
async def lone_store(settings: Settings, store_url: str, *, seconds: float = _STORE_SECONDS) -> AsyncIterator[Store]:
    """The store alone, for commands that serve nobody, which wait so long for an answer. `open` loads its scripts."""
    client = connect(settings, store_url, 2, seconds=seconds)
    try:
        yield Store(client, Contact(), Tally())
    finally:
        await client.aclose(close_connection_pool=True)


def connect(settings: Settings, url: str, most: int, *, seconds: float = _STORE_SECONDS) -> Redis:
    """A client of the store with at most so many connections, which waits so long for one of them and for each answer.

    It does nothing a second time by itself: what may be repeated, the store repeats. It connects without a greeting,
    which would take three round trips.
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
        protocol=2,
        driver_info=None,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        **tls,
    )
    return Redis(connection_pool=pool)


App = sanic.Sanic[Config, Context]
Request = sanic.Request[App, SimpleNamespace]
