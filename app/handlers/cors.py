"""Which sites' pages may ask what programs ask: CORS (Fetch standard, section 3.3), and a WebSocket's Origin."""

from sanic.response import BaseHTTPResponse, HTTPResponse, empty

from app.context import Request
from app.errors import ForeignOrigin

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "content-type",
    "Access-Control-Max-Age": "86400",
}


async def refuse_other_origins(request: Request) -> None:
    """Raise ForeignOrigin for a page of an origin that is not allowed; a program that names none is no page.

    A browser names the page's origin (RFC 6454) and nobody else's. It lets any page open a WebSocket (RFC 6455,
    section 10.2) and send a simple request, so leaving the answer unreadable would not be enough.
    """
    origin = request.headers.get("origin")
    if origin is not None and not request.app.ctx.settings.admits(origin):
        raise ForeignOrigin


async def let_page_read(request: Request, response: BaseHTTPResponse) -> None:
    """Let the page that asked read the answer, be it an error. No cookie counts here, so none is ever allowed."""
    settings, origin = request.app.ctx.settings, request.headers.get("origin")
    if not settings.allowed_origins:
        response.headers["Access-Control-Allow-Origin"] = "*"
    else:
        response.headers.add("Vary", "Origin")
        if origin is None or not settings.admits(origin):
            return
        response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = "Retry-After"


def answer_preflight() -> HTTPResponse:
    """What a page may send, which its browser asks before it does (Fetch standard, section 3.3.2)."""
    return empty(headers=_PREFLIGHT)
