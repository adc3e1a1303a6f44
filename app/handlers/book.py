"""The device page: the book, its requests, and every act on them. Each form works without JavaScript."""

from collections.abc import Awaitable

from sanic import Blueprint
from sanic.response import HTTPResponse

from app.bookview import Problem
from app.context import Context, Request
from app.errors import AlreadyInBook, BadInput, BookFull, NameTaken, NotFound
from app.handlers.visits import acted, book_page, field, with_session
from app.invites import SECONDS
from app.peers import DEFAULT_KIND, Fingerprint, parse_fingerprint, parse_kind, parse_name
from app.sessions import Visit

book = Blueprint("book", url_prefix="/peers")


@book.get("", name="show")
@with_session
async def show(request: Request, visit: Visit) -> HTTPResponse:
    """The book and its requests."""
    return book_page(request, visit)


@book.post("", name="add")
@with_session
async def add(request: Request, visit: Visit) -> HTTPResponse:
    """Enter a device ahead."""
    typed = {each: field(request, each) for each in ("fp", "name", "kind")}

    async def act() -> None:
        fp = parse_fingerprint(typed["fp"].strip())
        kind = parse_kind(typed["kind"]) if typed["kind"] else DEFAULT_KIND
        await request.app.ctx.books.add(visit.book.uid, fp, parse_name(typed["name"]), kind)

    return await _act(request, visit, act(), "Added.", Problem("add", typed=typed))


@book.post("/<fp:str>/approve", name="approve")
@with_session
async def approve(request: Request, visit: Visit, fp: str) -> HTTPResponse:
    """Let a device in, and tell the owner by mail."""
    context: Context = request.app.ctx
    typed = {each: field(request, each) for each in ("pair", "name", "replaces")}
    key = _path_fingerprint(fp)

    async def act() -> None:
        await context.books.approve(
            visit.book.uid,
            key,
            rid=context.asking.request_of(visit.book, key, typed["pair"]),
            name=parse_name(typed["name"]) if typed["name"] else None,
            replaces=parse_fingerprint(typed["replaces"]) if typed["replaces"] else None,
        )
        after = await context.books.read(visit.book.uid)
        if after and key in after.peers:
            before = visit.book.verified(key)
            changed = before is not None and before.claim != after.peers[key].claim
            tell = context.notices.proof_changed if changed else context.notices.device_approved
            tell(after, after.peers[key].name)

    return await _act(request, visit, act(), "Approved.", Problem(f"approve {key}", typed=typed))


@book.post("/<fp:str>/reject", name="reject")
@with_session
async def reject(request: Request, visit: Visit, fp: str) -> HTTPResponse:
    """Turn a device away."""
    key = _path_fingerprint(fp)
    rid = request.app.ctx.asking.request_of(visit.book, key, field(request, "pair"))
    await request.app.ctx.books.reject(visit.book.uid, key, rid)
    return await acted(request, "Ignored. It can ask again in a day.")


@book.post("/<fp:str>/rename", name="rename")
@with_session
async def rename(request: Request, visit: Visit, fp: str) -> HTTPResponse:
    """Give a device another name."""
    key, typed = _path_fingerprint(fp), {"name": field(request, "name")}

    async def act() -> None:
        await request.app.ctx.books.rename(visit.book.uid, key, parse_name(typed["name"]))

    return await _act(request, visit, act(), "Renamed.", Problem(f"rename {key}", typed=typed))


@book.post("/<fp:str>/revoke", name="revoke")
@with_session
async def revoke(request: Request, visit: Visit, fp: str) -> HTTPResponse:
    """Shut a device out."""
    await request.app.ctx.books.revoke(visit.book.uid, _path_fingerprint(fp))
    return await acted(request, "Revoked.")


@book.post("/revoke", name="revoke_all")
@with_session
async def revoke_all(request: Request, visit: Visit) -> HTTPResponse:
    """Shut out every device whose box is checked."""
    checked = {_path_fingerprint(fp) for fp in (request.form.getlist("fp") if request.form else None) or ()}
    if not checked <= set(visit.book.peers):
        raise NotFound
    for fp in sorted(checked):
        await request.app.ctx.books.revoke(visit.book.uid, fp)
    return await acted(request, f"{len(checked)} revoked.")


@book.post("/<fp:str>/remove", name="remove")
@with_session
async def remove(request: Request, visit: Visit, fp: str) -> HTTPResponse:
    """Take a device out of the book."""
    await request.app.ctx.books.remove(visit.book.uid, _path_fingerprint(fp))
    return await acted(request, "Removed.")


@book.post("/invites", name="invite")
@with_session
async def invite(request: Request, visit: Visit) -> HTTPResponse:
    """Make an invite and show it, this once: the store knows only its hash."""
    context: Context = request.app.ctx
    code = await context.books.invite(visit.book.uid)
    return book_page(request, visit, invite=context.pages.invite(code, SECONDS // 60))


async def _act(request: Request, visit: Visit, act: Awaitable[None], done: str, form: Problem) -> HTTPResponse:
    """Do it and show the book; a form that does not fit comes back with its error and what was typed."""
    try:
        await act
    except (BadInput, NameTaken, BookFull, AlreadyInBook) as error:
        return book_page(request, visit, problem=Problem(form.form, error.text, form.typed))
    return await acted(request, done)


def _path_fingerprint(text: str) -> Fingerprint:
    """The fingerprint in a path; one that can't be read is one that isn't there."""
    try:
        return parse_fingerprint(text)
    except BadInput:
        raise NotFound from None
