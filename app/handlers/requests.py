"""Requests: each has an id in the log, and its answer is counted by route and status."""

import re
import secrets

from sanic.response import BaseHTTPResponse

from app.context import App, Request
from app.logs import request_id

_GIVEN = re.compile(r"[\w-]{8,64}", re.ASCII)


def count_requests(app: App) -> None:
    """Have every request of the app named and counted."""
    app.middleware(_name, "request", priority=100)
    app.middleware(_count, "response", priority=-100)


async def _name(request: Request) -> None:
    """By the id that the platform's router gave, so that its log and ours can be read together; or by one of ours."""
    given = request.headers.get("x-request-id", "")
    request_id.set(given if _GIVEN.fullmatch(given) else secrets.token_hex(6))


async def _count(request: Request, response: BaseHTTPResponse) -> None:
    route = f"/{request.route.path}" if request.route else "-"
    request.app.ctx.tally.add("requests", f"{route} {response.status}")
