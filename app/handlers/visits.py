"""A visit: what all doorways of the owner's pages share. The session behind a request, and the page of its book."""

import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

from sanic.constants import SAFE_HTTP_METHODS
from sanic.response import HTTPResponse, empty, redirect

from app.bookview import Problem, view_book
from app.context import Context, Request
from app.errors import WrongForm
from app.handlers.guard import refuse_cross_site
from app.sessions import Visit

STORE = "store"
"""The cookie that says since when the store had held books as this browser last logged in. It is no secret."""

P = ParamSpec("P")
Handler = Callable[Concatenate[Request, P], Coroutine[Any, Any, HTTPResponse | None]]
VisitHandler = Callable[Concatenate[Request, Visit, P], Coroutine[Any, Any, HTTPResponse | None]]


def with_session(handler: VisitHandler[P]) -> Handler[P]:
    """A handler that only a logged-in owner reaches; anybody else is sent home."""

    @wraps(handler)
    async def visited(request: Request, *args: P.args, **kwargs: P.kwargs) -> HTTPResponse | None:
        if request.method not in SAFE_HTTP_METHODS:
            refuse_cross_site(request)
        visit = await visit_of(request)
        if visit is None:
            return without_session(request)
        return await handler(request, visit, *args, **kwargs)

    return cast(Handler[P], visited)


async def visit_of(request: Request, *, prolong: bool = True) -> Visit | None:
    """The session of a request, with its book."""
    context: Context = request.app.ctx
    return await context.sessions.visit(request.cookies.get(cookie_name(context, "session")), prolong=prolong)


def book_page(
    request: Request, visit: Visit, *, problem: Problem | None = None, flash: str = "", **more: object
) -> HTTPResponse:
    """The device page, or for htmx the part of it that lives.

    With a problem it is a 422; htmx gets a 200, since browsers log every 4xx of a script.
    """
    context: Context = request.app.ctx
    members = book_members(context, visit) | {"problem": problem or Problem(), "flash": flash} | more
    if is_htmx(request):
        return context.pages.render(request, "live", **members)
    return context.pages.render(request, "peers", WrongForm.code if problem else 200, **members)


def book_members(context: Context, visit: Visit) -> dict[str, object]:
    """What the templates of the device page show of a visit."""
    view = view_book(
        visit.book,
        context.asking.pairs(visit.book),
        visit.activity,
        int(time.time()),
        server_requires_proof=context.settings.require_proof,
    )
    return {"view": view, "problem": Problem(), "flash": "", "fresh": visit.fresh, "since": visit.since, "invite": None}


async def acted(request: Request, flash: str) -> HTTPResponse:
    """The answer to a form that succeeded: back to the page, or for htmx the part that changed."""
    visit = await visit_of(request) if is_htmx(request) else None
    if visit is None:
        return redirect("/peers", status=303)
    return book_page(request, visit, flash=flash)


def set_cookie(response: HTTPResponse, context: Context, name: str, value: str, seconds: int) -> None:
    """A cookie that only this server's pages send and no script reads (RFC 6265bis); 0 seconds takes it away."""
    response.add_cookie(
        cookie_name(context, name),
        value,
        path="/",
        httponly=True,
        samesite="Strict",
        secure=context.settings.secure,
        max_age=seconds,
    )


def cookie_name(context: Context, name: str) -> str:
    """The cookie's name; over https its prefix binds it to this host alone."""
    return f"__Host-{name}" if context.settings.secure else name


def field(request: Request, name: str) -> str:
    """A field of the posted form, empty where there is none."""
    form = request.form
    return str(form.get(name) or "") if form else ""


def is_htmx(request: Request) -> bool:
    """Whether htmx wants a part of the page; on the way back in the history it wants the whole page."""
    return "hx-request" in request.headers and "hx-history-restore-request" not in request.headers


def without_session(request: Request) -> HTTPResponse:
    """The answer to somebody who is not logged in: the way home."""
    if is_htmx(request):
        return empty(401, headers={"HX-Redirect": "/"})
    if request.method == "GET" and request.headers.get("sec-fetch-site") == "cross-site":
        # A browser that comes from a mail does not send the cookie at first (SameSite=Strict).
        return request.app.ctx.pages.render(request, "again", path=request.path)
    return redirect("/", status=303)
