"""What platforms and their checks ask."""

from sanic import Blueprint
from sanic.response import HTTPResponse

from app.context import Request
from app.errors import Unreachable
from app.handlers.answers import json_answer
from app.messages import encode

ops = Blueprint("ops")


@ops.get("/livez")
async def live(request: Request) -> HTTPResponse:
    """200 while the process runs."""
    return json_answer(encode({"status": "ok"}))


@ops.get("/healthz")
async def healthy(request: Request) -> HTTPResponse:
    """200 while it can serve; raises Unreachable (503) when the store is out of reach or the process stops."""
    if request.app.ctx.draining:
        raise Unreachable
    await request.app.ctx.store.ping()
    return json_answer(encode({"status": "ok"}))
