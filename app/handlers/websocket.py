"""GET /ws: a peer connects."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from sanic import Blueprint

from app.claims import NO_CLAIM, parse_claim
from app.closecodes import CloseCode
from app.connections import Connection, Stage
from app.context import Context, Request
from app.errors import BadInput, NoRoom
from app.faults import fault
from app.handlers.cors import refuse_other_origins
from app.handlers.places import network_of, place_of
from app.invites import invite_digest
from app.messages import encode_error
from app.owners import read_owner
from app.pace import Pace
from app.peers import Device, clean_kind, clean_name, parse_fingerprint
from app.sockets import WebSocket
from app.wsprotocol import Upgraded

log = logging.getLogger("peerbook.websocket")

_SHARES = 64  # the largest message counts as 65

_LARGE = 2 * 1024  # bytes of a message that may take as long as many others: up to a millisecond

websocket = Blueprint("websocket")
websocket.middleware(refuse_other_origins, "request")


@websocket.on_request
async def read_query(request: Request) -> None:
    """What refuses before the upgrade: a missing or malformed fingerprint, asking too often, and want of room.

    The rest is cleaned.
    """
    context: Context = request.app.ctx
    context.admission.refuse_beyond()
    query = request.args
    owner = request.ctx.owner = read_owner(query.get("uid"), query.get("email"))
    device = request.ctx.device = Device(
        fp=parse_fingerprint(query.get("fp")),
        claim=_read_claim(request),
        name=clean_name(query.get("name")),
        kind=clean_kind(query.get("kind")),
        place=place_of(request),
        invite=invite_digest(query.get("invite")),
        network=network_of(request),
    )
    await context.asking.refuse_hasty(owner, device, "ws")
    crowded = context.admission.is_crowded(device.network) and not device.invite
    if crowded and not await context.asking.knows(owner, device):
        raise NoRoom


def _read_claim(request: Request) -> str:
    """The claim in the query. One that is malformed is told of after the upgrade: clients see nothing before that."""
    request.ctx.problem = None
    try:
        return parse_claim(request.args.get("proof"))
    except BadInput as error:
        request.ctx.problem = error
        return NO_CLAIM


@websocket.websocket("/ws")
async def connect(request: Request, upgraded: Upgraded) -> None:
    """Attach the socket to the rules, and let Sanic go: from here on everything is callbacks."""
    context: Context = request.app.ctx
    socket = upgraded.socket
    if request.ctx.problem:
        socket.send(encode_error(request.ctx.problem))
        socket.close(CloseCode.NOT_PROVED, "not a proof")
        return
    if context.draining:
        return socket.close(CloseCode.GOING_AWAY, "the server restarts")
    settings = context.settings
    pace = Pace(settings.message_rate, settings.message_burst, settings.max_message // _SHARES)
    close = partial(_close, context, socket)
    connection = Connection(request.ctx.device, request.ctx.owner, socket.send, close, pace)
    context.background.start(Conversation(context, connection, socket).begin())


def _close(context: Context, socket: WebSocket, code: CloseCode, reason: str) -> None:
    context.tally.add("closes", str(int(code)))
    socket.close(code, reason)


class Conversation:
    """What goes on over one socket: it arrives, then its messages are served one by one."""

    __slots__ = ("_connection", "_context", "_socket")

    def __init__(self, context: Context, connection: Connection, socket: WebSocket) -> None:
        self._context = context
        self._connection = connection
        self._socket = socket

    async def begin(self) -> None:
        """Let it arrive, then serve its messages. What it says before its first status waits in the socket."""
        self._socket.attach(self)
        try:
            await self._count(partial(self._context.presence.arrive, self._connection))
        except Exception as error:
            log.error("event=arrival_failed error=%s", fault(error))
            self._socket.close(CloseCode.INTERNAL_ERROR)
        self._socket.resume()

    async def _count(self, step: Callable[[], Awaitable[None]]) -> None:
        """Arrive or leave, and be counted meanwhile: not too many do so at the same time."""
        self._context.lobby.under_way += 1
        try:
            await step()
        finally:
            self._context.lobby.under_way -= 1

    @property
    def is_known(self) -> bool:
        """It is in or about to be, and did not only ask to be."""
        return self._connection.stage in (Stage.ADMITTING, Stage.IN)

    def message(self, data: bytes, is_text: bool) -> None:
        """Serve it, now or when its turn has come. A binary one is answered like any bad one."""
        if not is_text:
            data = b""
        size = len(data)
        turns = self._context.turns if size < _LARGE else self._context.large_turns
        if turns.take(size):
            self._serve(data)
        else:
            self._socket.pause()
            turns.wait(size, partial(self._serve_late, data))

    def _serve(self, data: bytes) -> bool:
        """True where it is not done yet, and the socket is paused until then."""
        waiting = self._context.signaling.receive(self._connection, data)
        if waiting is None:
            return False
        self._socket.pause()
        self._context.background.start(self._resume_after(waiting))
        return True

    def _serve_late(self, data: bytes) -> None:
        try:
            goes_on = self._socket.is_open and self._serve(data)
        except Exception as error:  # nobody above us would catch it
            log.error("event=websocket_handler_failed error=%s", fault(error))
            return self._socket.close(CloseCode.INTERNAL_ERROR)
        if not goes_on:
            self._socket.resume()

    async def _resume_after(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        finally:
            self._socket.resume()

    def closed(self) -> None:
        """The socket is gone."""
        self._context.background.start(self._count(self._context.presence.leave(self._connection)))
