"""The owner's pages: log in by a mailed link, see the book, act on it. Each form works without JavaScript."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

from sanic import Blueprint
from sanic.response import HTTPResponse, redirect

from app.addresses import Address, parse_address
from app.context import Context, Request
from app.errors import AlreadyInBook, BadInput, BookFull, NameTaken, NotFound, PeerbookError, WrongForm
from app.handlers.guard import refuse_cross_site
from app.peers import DEFAULT_KIND, Fingerprint, parse_fingerprint, parse_kind, parse_name
from app.sessions import Visit

owner = Blueprint("owner")

P = ParamSpec("P")
Handler = Callable[Concatenate[Request, P], Coroutine[Any, Any, HTTPResponse]]
VisitHandler = Callable[Concatenate[Request, Visit, P], Coroutine[Any, Any, HTTPResponse]]


def with_session(handler: VisitHandler[P]) -> Handler[P]:
    """A handler that only a logged-in owner reaches; anybody else is sent home."""

    @wraps(handler)
    async def visited(request: Request, *args: P.args, **kwargs: P.kwargs) -> HTTPResponse:
        if request.method == "POST":
            refuse_cross_site(request)
        context: Context = request.app.ctx
        visit = await context.sessions.visit(request.cookies.get(_cookie_name(context)))
        if visit is None:
            if request.method == "GET" and request.headers.get("sec-fetch-site") == "cross-site":
                # A browser that comes from a mail does not send the cookie at first (SameSite=Strict).
                return context.pages.render("again", path=request.path)
            return redirect("/", status=303)
        return await handler(request, visit, *args, **kwargs)

    return cast(Handler[P], visited)


@owner.get("/")
async def home(request: Request) -> HTTPResponse:
    """What this is, and the form that mails a link."""
    return request.app.ctx.pages.render("home", problem="", typed="")


@owner.post("/login")
async def login(request: Request) -> HTTPResponse:
    """Mail a link; the page is the same for every address."""
    refuse_cross_site(request, silent=True)
    typed = _field(request, "email")
    try:
        address = parse_address(typed.strip())
    except BadInput as error:
        return request.app.ctx.pages.render("home", 422, problem=error.text, typed=typed)
    await request.app.ctx.asking.login(address)
    return request.app.ctx.pages.render("mailed", email=address.typed)


@owner.route("/link/<token:str>", methods=["GET", "HEAD"])
async def show_link(request: Request, token: str) -> HTTPResponse:
    """Whose book the link opens, and one button. Mail scanners fetch links, so this changes nothing."""
    address = await request.app.ctx.sessions.peek_link(token)
    return request.app.ctx.pages.render("link", token=token, masked=address.masked)


@owner.post("/link/<token:str>", name="redeem")
async def redeem_link(request: Request, token: str) -> HTTPResponse:
    """Redeem the link and open the book."""
    refuse_cross_site(request, silent=True)
    context: Context = request.app.ctx
    cookie = await context.sessions.redeem_link(token)
    response = redirect("/peers", status=303)
    response.add_cookie(
        _cookie_name(context),
        cookie,
        path="/",
        httponly=True,
        samesite="Strict",
        secure=context.settings.secure,
        max_age=context.settings.session_max,
    )
    return response


@owner.get("/peers")
@with_session
async def show_book(request: Request, visit: Visit) -> HTTPResponse:
    """The book and its requests."""
    return _book_page(request, visit)


@owner.post("/peers", name="add")
@with_session
async def add(request: Request, visit: Visit) -> HTTPResponse:
    """Enter a device ahead."""
    typed = {each: _field(request, each) for each in ("fp", "name", "kind")}

    async def act() -> None:
        fp = parse_fingerprint(typed["fp"].strip())
        kind = parse_kind(typed["kind"]) if typed["kind"] else DEFAULT_KIND
        await request.app.ctx.books.add(visit.book.uid, fp, parse_name(typed["name"]), kind)

    return await _act(request, visit, "add", typed, act())


@owner.post("/peers/<fp:str>/approve", name="approve")
@with_session
async def approve(request: Request, visit: Visit, fp: str) -> HTTPResponse:
    """Let a device in."""
    typed = {each: _field(request, each) for each in ("pair", "name", "replaces")}
    key = _path_fingerprint(fp)

    async def act() -> None:
        await request.app.ctx.books.approve(
            visit.book.uid,
            key,
            rid=request.app.ctx.asking.request_of(visit.book, key, typed["pair"]),
            name=parse_name(typed["name"]) if typed["name"] else None,
            replaces=parse_fingerprint(typed["replaces"]) if typed["replaces"] else None,
        )

    return await _act(request, visit, f"approve {key}", typed, act())


@owner.post("/peers/<fp:str>/reject", name="reject")
@with_session
async def reject(request: Request, visit: Visit, fp: str) -> HTTPResponse:
    """Turn a device away."""
    key = _path_fingerprint(fp)
    rid = request.app.ctx.asking.request_of(visit.book, key, _field(request, "pair"))
    return await _act(request, visit, "", {}, request.app.ctx.books.reject(visit.book.uid, key, rid))


@owner.post("/peers/<fp:str>/rename", name="rename")
@with_session
async def rename(request: Request, visit: Visit, fp: str) -> HTTPResponse:
    """Give a device another name."""
    key, typed = _path_fingerprint(fp), {"name": _field(request, "name")}

    async def act() -> None:
        await request.app.ctx.books.rename(visit.book.uid, key, parse_name(typed["name"]))

    return await _act(request, visit, f"rename {key}", typed, act())


@owner.post("/peers/<fp:str>/revoke", name="revoke")
@with_session
async def revoke(request: Request, visit: Visit, fp: str) -> HTTPResponse:
    """Shut a device out."""
    return await _act(request, visit, "", {}, request.app.ctx.books.revoke(visit.book.uid, _path_fingerprint(fp)))


@owner.post("/peers/<fp:str>/remove", name="remove")
@with_session
async def remove(request: Request, visit: Visit, fp: str) -> HTTPResponse:
    """Take a device out of the book."""
    return await _act(request, visit, "", {}, request.app.ctx.books.remove(visit.book.uid, _path_fingerprint(fp)))


@owner.post("/logout", name="logout")
@with_session
async def logout(request: Request, visit: Visit) -> HTTPResponse:
    """End this session."""
    await request.app.ctx.sessions.end(visit.cookie)
    response = request.app.ctx.pages.render("bye")
    name = _cookie_name(request.app.ctx)
    response.add_cookie(
        name, "", path="/", httponly=True, samesite="Strict", secure=request.app.ctx.settings.secure, max_age=0
    )
    return response


async def _act(request: Request, visit: Visit, form: str, typed: dict[str, str], act: Awaitable[None]) -> HTTPResponse:
    """Do it and show the book; a form that does not fit comes back with its error and what was typed."""
    try:
        await act
    except (BadInput, NameTaken, BookFull, AlreadyInBook) as error:
        return _book_page(request, visit, WrongForm.code, form, typed, error)
    return redirect("/peers", status=303)


def _book_page(
    request: Request,
    visit: Visit,
    status: int = 200,
    form: str = "",
    typed: dict[str, str] | None = None,
    error: PeerbookError | None = None,
) -> HTTPResponse:
    context: Context = request.app.ctx
    return context.pages.render(
        "peers",
        status,
        book=visit.book,
        masked=Address(visit.book.owner.address).masked,
        requests=context.asking.open_requests(visit.book),
        form=form,
        typed=typed or {},
        problem=error.text if error else "",
    )


def _path_fingerprint(text: str) -> Fingerprint:
    """The fingerprint in a path; one that can't be read is one that isn't there."""
    try:
        return parse_fingerprint(text)
    except BadInput:
        raise NotFound from None


def _field(request: Request, name: str) -> str:
    form = request.form
    return str(form.get(name) or "") if form else ""


def _cookie_name(context: Context) -> str:
    return "__Host-session" if context.settings.secure else "session"
