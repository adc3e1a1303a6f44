"""What platforms and their checks ask."""

import hmac

from sanic import Blueprint
from sanic.response import HTTPResponse

from app.context import Request
from app.errors import NotFound, Unreachable
from app.handlers.answers import json_answer
from app.messages import encode

ops = Blueprint("ops")


@ops.get("/livez")
async def live(request: Request) -> HTTPResponse:
    """200 while the process runs."""
    return json_answer(encode({"status": "ok"}))


@ops.get("/healthz")
async def healthy(request: Request) -> HTTPResponse:
    """200 while it can serve; raises Unreachable (503) when the store is out of reach or the process stops.

    Trouble with mails is told, and is no reason to replace a process.
    """
    if request.app.ctx.draining:
        raise Unreachable
    await request.app.ctx.store.ping()
    mail = {"mail": "degraded"} if request.app.ctx.mailer.is_degraded else {}
    return json_answer(encode({"status": "ok"} | mail))


@ops.get("/metrics")
async def metrics(request: Request) -> HTTPResponse:
    """What was counted, in Prometheus's text format 0.0.4, for who has the token; without one there is nothing here."""
    if not _bears(request, request.app.ctx.settings.metrics_token):
        raise NotFound
    return HTTPResponse(request.app.ctx.metrics.render(), content_type="text/plain; version=0.0.4; charset=utf-8")


def _bears(request: Request, token: str) -> bool:
    """RFC 6750, section 2.1."""
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    return token != "" and kind.lower() == "bearer" and hmac.compare_digest(given.encode(), token.encode())
