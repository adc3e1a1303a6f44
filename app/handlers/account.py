"""The account: export, import, demanding proof, deletion. All of it needs a link that was redeemed a short while ago."""

from functools import wraps

from sanic import Blueprint
from sanic.response import HTTPResponse, raw, redirect

from app.addresses import Address
from app.bookview import Problem
from app.context import Context, Request
from app.errors import BadInput
from app.exports import accepted, export_book, preview_import
from app.handlers.mailed import COOKIE, mail_login
from app.handlers.visits import STORE, Handler, VisitHandler, acted, book_page, field, set_cookie, with_session
from app.sessions import Visit

account = Blueprint("account", url_prefix="/account")

_STALE = "This needs a link that is less than 15 minutes old."


def with_fresh_link(handler: VisitHandler[[]]) -> Handler[[]]:
    """A handler for an owner whose link is fresh; anybody else is shown how to get one."""

    @wraps(handler)
    async def fresh(request: Request, visit: Visit) -> HTTPResponse | None:
        if not visit.fresh:
            return book_page(request, visit, problem=Problem("account", _STALE))
        return await handler(request, visit)

    return with_session(fresh)


@account.get("/export")
@with_fresh_link
async def export(request: Request, visit: Visit) -> HTTPResponse:
    """The book as a file."""
    headers = {"Content-Disposition": 'attachment; filename="peerbook.json"'}
    return raw(export_book(visit.book), content_type="application/json", headers=headers)


@account.post("/import", name="import")
@with_fresh_link
async def import_book(request: Request, visit: Visit) -> HTTPResponse:
    """Show what an import would do, and do it when it comes back confirmed."""
    context: Context = request.app.ctx
    upload = request.files.get("book") if request.files else None
    text = upload.body if upload else field(request, "json").encode()
    try:
        entries = preview_import(text, visit.book, context.books.most_peers)
    except BadInput as error:
        return book_page(request, visit, problem=Problem("import", error.text))
    if field(request, "confirm") != "1":
        return context.pages.render(request, "import", entries=entries, json=text.decode())
    await context.books.import_peers(visit.book.uid, accepted(entries))
    return redirect("/peers", status=303)


@account.post("/require-proof", name="require_proof")
@with_fresh_link
async def require_proof(request: Request, visit: Visit) -> HTTPResponse:
    """Demand proof from all devices, or not any more."""
    on = field(request, "on") == "1"
    await request.app.ctx.books.require_proof(visit.book.uid, on)
    return await acted(request, "Devices must prove themselves now." if on else "Devices need no proof any more.")


@account.post("/delete", name="delete")
@with_fresh_link
async def delete(request: Request, visit: Visit) -> HTTPResponse:
    """Delete the account; the address is typed to confirm."""
    context: Context = request.app.ctx
    address, typed = Address(visit.book.owner.address), field(request, "email").strip()
    if typed.lower() != address.key:
        problem = Problem("delete", "This is not the address of this book.", {"email": typed})
        return book_page(request, visit, problem=problem)
    await context.books.erase(visit.book.uid, address)
    response: HTTPResponse = context.pages.render(request, "deleted")
    for cookie in ("session", "browser", STORE, COOKIE):
        set_cookie(response, context, cookie, "", 0)
    return response


@account.post("/link", name="link")
@with_session
async def mail_fresh_link(request: Request, visit: Visit) -> HTTPResponse:
    """Mail the owner a fresh link and code."""
    address = Address(visit.book.owner.address)
    return await mail_login(request, address, address.masked)
