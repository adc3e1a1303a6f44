"""The link in every mail that stops further mails, and allows them again."""

from sanic import Blueprint
from sanic.response import HTTPResponse

from app.context import Request
from app.handlers.guard import refuse_cross_site
from app.handlers.visits import field

stop = Blueprint("stop", url_prefix="/stop")


@stop.route("/<token:str>", methods=["GET", "HEAD"])
async def show_stop(request: Request, token: str) -> HTTPResponse:
    """Whether mails are stopped, and one button. Mail scanners fetch links, so this changes nothing."""
    return await _page(request, token)


@stop.post("/<token:str>", name="act")
async def act(request: Request, token: str) -> HTTPResponse:
    """Stop mails, or with `allow` let them go out again.

    A mail program posts here by itself when its user asks it to unsubscribe (RFC 8058, section 3.2).
    """
    refuse_cross_site(request, silent=True)
    if field(request, "allow"):
        await request.app.ctx.stops.allow(token)
    else:
        await request.app.ctx.stops.stop(token)
    return await _page(request, token)


async def _page(request: Request, token: str) -> HTTPResponse:
    about = await request.app.ctx.stops.peek(token)
    return request.app.ctx.pages.render(request, "stop", token=token, about=about)
