"""Logging in by a mailed link or code, and out again."""

from sanic import Blueprint
from sanic.response import HTTPResponse, redirect

from app.addresses import parse_address
from app.context import Context, Request
from app.errors import BadInput, Unreachable, WrongCode
from app.handlers.guard import refuse_cross_site
from app.handlers.mailed import COOKIE, mail_login, mailed_page
from app.handlers.places import browser_of, network_of, place_of
from app.handlers.visits import STORE, cookie_name, field, set_cookie, with_session
from app.sessions import Login, Visit

login = Blueprint("login")

_BROWSER_SECONDS = 365 * 86400


@login.get("/")
async def home(request: Request) -> HTTPResponse:
    """What this is, and the form that mails a link."""
    return await _home(request)


@login.post("/login", name="mail")
async def mail_link(request: Request) -> HTTPResponse:
    """Mail a link and a code; the page is the same for every address."""
    refuse_cross_site(request, silent=True)
    await request.app.ctx.throttle.ask("login", network_of(request))
    typed = field(request, "email")
    try:
        address = parse_address(typed.strip())
    except BadInput as error:
        return await _home(request, 422, problem=error.text, typed=typed)
    return await mail_login(request, address, address.typed)


@login.post("/login/code", name="code")
async def redeem_code(request: Request) -> HTTPResponse:
    """Redeem the code from the mail that this browser asked for, and open the book."""
    refuse_cross_site(request, silent=True)
    context: Context = request.app.ctx
    browser = request.cookies.get(cookie_name(context, COOKIE))
    try:
        entry = await context.codes.redeem(browser, field(request, "code"), _known_browser(request), _detail(request))
    except WrongCode as error:
        return mailed_page(request, field(request, "email"), error.code, error.text)
    return await _enter(request, entry)


@login.route("/link/<token:str>", methods=["GET", "HEAD"])
async def show_link(request: Request, token: str) -> HTTPResponse:
    """Whose book the link opens, and one button. Mail scanners fetch links, so this changes nothing."""
    address = await request.app.ctx.sessions.peek_link(token)
    return request.app.ctx.pages.render(request, "link", token=token, masked=address.masked)


@login.post("/link/<token:str>", name="redeem")
async def redeem_link(request: Request, token: str) -> HTTPResponse:
    """Redeem the link and open the book."""
    refuse_cross_site(request, silent=True)
    entry = await request.app.ctx.sessions.redeem_link(token, _known_browser(request), _detail(request))
    return await _enter(request, entry)


@login.post("/logout", name="logout")
@with_session
async def logout(request: Request, visit: Visit) -> HTTPResponse:
    """End this session."""
    context: Context = request.app.ctx
    await context.sessions.end(visit.cookie)
    await context.books.note(visit.book.uid, "logout")
    return _goodbye(request, everywhere=False)


@login.post("/logout/everywhere", name="everywhere")
@with_session
async def logout_everywhere(request: Request, visit: Visit) -> HTTPResponse:
    """End all sessions, links and streams."""
    await request.app.ctx.books.sign_out(visit.book.uid)
    return _goodbye(request, everywhere=True)


@login.route("/signout/<token:str>", methods=["GET", "HEAD"])
async def show_sign_out(request: Request, token: str) -> HTTPResponse:
    """Whose sessions would end, and one button; from the link in a mail."""
    address = await request.app.ctx.sessions.peek_sign_out(token)
    return request.app.ctx.pages.render(request, "signout", token=token, masked=address.masked)


@login.post("/signout/<token:str>", name="signout")
async def sign_out(request: Request, token: str) -> HTTPResponse:
    """End all sessions of the owner who got the mail."""
    refuse_cross_site(request, silent=True)
    await request.app.ctx.sessions.redeem_sign_out(token)
    return _goodbye(request, everywhere=True)


async def _home(request: Request, status: int = 200, problem: str = "", typed: str = "") -> HTTPResponse:
    context: Context = request.app.ctx
    new_since = await _new_since(request)
    return context.pages.render(request, "home", status, problem=problem, typed=typed, new_since=new_since)


async def _new_since(request: Request) -> int:
    """When this server's store began, where this browser knew an earlier one that is lost; else 0."""
    context: Context = request.app.ctx
    known = request.cookies.get(cookie_name(context, STORE)) or ""
    if not (known.isascii() and known.isdigit()):
        return 0
    since = await _store_since(context)
    return since if len(known) <= len(str(since)) and int(known) < since else 0


async def _store_since(context: Context) -> int:
    """When this server's store began, 0 where it can't say so now: no login fails for that."""
    try:
        return await context.store.since()
    except Unreachable:
        return 0


async def _enter(request: Request, entry: Login) -> HTTPResponse:
    """The book is open in this browser from here on."""
    context: Context = request.app.ctx
    if entry.new_browser:
        book = await context.books.read(entry.uid)
        if book:
            context.notices.new_browser(book, _detail(request))
    response = redirect("/peers", status=303)
    set_cookie(response, context, "session", entry.cookie, context.settings.session_max)
    set_cookie(response, context, "browser", entry.browser, _BROWSER_SECONDS)
    if since := await _store_since(context):
        set_cookie(response, context, STORE, str(since), _BROWSER_SECONDS)
    set_cookie(response, context, COOKIE, "", 0)
    return response


def _known_browser(request: Request) -> str | None:
    return request.cookies.get(cookie_name(request.app.ctx, "browser"))


def _detail(request: Request) -> str:
    return f"{browser_of(request)}, {place_of(request)}"


def _goodbye(request: Request, *, everywhere: bool) -> HTTPResponse:
    response: HTTPResponse = request.app.ctx.pages.render(request, "bye", everywhere=everywhere)
    set_cookie(response, request.app.ctx, "session", "", 0)
    return response
