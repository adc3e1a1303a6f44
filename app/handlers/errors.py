"""The one place where errors become answers: JSON for programs, a page for browsers, and never a traceback."""

import logging

from sanic.exceptions import SanicException
from sanic.response import HTTPResponse

from app.context import App, Request
from app.errors import LinkGone, NoRoom, PeerbookError, TooMany
from app.faults import fault
from app.handlers.answers import json_answer
from app.messages import encode

log = logging.getLogger("peerbook.http")

_SENTENCES = {
    400: "This request cannot be read.",
    404: "There is nothing here.",
    405: "This address does not do that.",
    408: "This took too long to arrive.",
    413: "This is too large.",
    426: "This address speaks WebSocket only.",
    503: "Out of reach right now, try again in a moment.",
}
_OURS = "Something went wrong on our side."


def answer_errors(app: App) -> None:
    """Have every error of the app answered here."""
    app.error_handler.add(PeerbookError, _answer_refusal)
    app.error_handler.add(SanicException, _answer_http_error)
    app.error_handler.add(Exception, _answer_fault)


def _answer_refusal(request: Request, error: PeerbookError) -> HTTPResponse:
    request.app.ctx.tally.add("refusals", type(error).__name__)
    if isinstance(error, LinkGone) and _wants_page(request):
        return request.app.ctx.pages.render(request, "gone", error.code, text=error.text, what=error.what)
    response = _answer(request, error.code, error.text, error.members())
    if isinstance(error, TooMany | NoRoom):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _answer_http_error(request: Request, error: SanicException) -> HTTPResponse:
    response = _answer(request, error.status_code, _SENTENCES.get(error.status_code, _OURS))
    response.headers.update(error.headers)
    return response


def _answer_fault(request: Request, error: Exception) -> HTTPResponse:
    route = request.route.path if request.route else "-"
    log.error("event=request_failed method=%s route=%s error=%s", request.method, route, fault(error))
    return _answer(request, 500, _OURS)


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _answer(request: Request, code: int, text: str, members: dict[str, object] | None = None) -> HTTPResponse:
    if _wants_page(request):
        return request.app.ctx.pages.render(request, "error", code, text=text, code=code)
    return json_answer(encode(members or {"code": code, "text": text}), code)
