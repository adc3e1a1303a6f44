"""GET /ws: a peer connects."""

import logging
from collections.abc import Awaitable

from sanic import Blueprint

from app.closecodes import CloseCode
from app.connections import Connection
from app.context import Context, Request
from app.handlers.cors import refuse_other_origins
from app.handlers.places import place_of
from app.invites import invite_digest
from app.owners import read_owner
from app.peers import NO_CLAIM, Device, clean_kind, clean_name, parse_fingerprint
from app.wsprotocol import Upgraded, WebSocket

log = logging.getLogger("peerbook.websocket")

websocket = Blueprint("websocket")
websocket.middleware(refuse_other_origins, "request")


@websocket.on_request
async def read_query(request: Request) -> None:
    """Before the upgrade, what refuses a device: a fingerprint that is missing or malformed. The rest is cleaned."""
    query = request.args
    request.ctx.owner = read_owner(query.get("uid"), query.get("email"))
    request.ctx.device = Device(
        fp=parse_fingerprint(query.get("fp")),
        claim=NO_CLAIM,
        name=clean_name(query.get("name")),
        kind=clean_kind(query.get("kind")),
        place=place_of(request),
        invite=invite_digest(query.get("invite")),
    )


@websocket.websocket("/ws")
async def connect(request: Request, upgraded: Upgraded) -> None:
    """Attach the socket to the rules, and let Sanic go: from here on everything is callbacks."""
    context: Context = request.app.ctx
    socket = upgraded.socket
    connection = Connection(request.ctx.device, request.ctx.owner, socket.send, socket.close)
    context.background.start(_converse(context, connection, socket))


async def _converse(context: Context, connection: Connection, socket: WebSocket) -> None:
    """Let it arrive, then serve its messages. What it says before its first status waits in the socket."""

    def receive(message: bytes) -> None:
        waiting = context.signaling.receive(connection, message)
        if waiting is not None:
            socket.pause()
            context.background.start(resume_after(waiting))

    async def resume_after(waiting: Awaitable[None]) -> None:
        try:
            await waiting
        finally:
            socket.resume()

    socket.attach(receive, lambda: context.background.start(context.presence.leave(connection)))
    try:
        await context.presence.arrive(connection)
    except Exception:
        log.exception("event=arrival_failed")
        socket.close(CloseCode.INTERNAL_ERROR)
    socket.resume()
