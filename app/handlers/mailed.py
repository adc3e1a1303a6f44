"""The page after every login mail: look into your mail, or type the code from it in this browser."""

from sanic.response import HTTPResponse

from app.addresses import Address
from app.codes import asker
from app.context import Context, Request
from app.handlers.visits import cookie_name, set_cookie

COOKIE = "asker"
"""The cookie by which the browser that asked is known."""


async def mail_login(request: Request, address: Address, shown: str) -> HTTPResponse:
    """Mail a link and a code; page and cookie are the same for every address. `shown` is what the page calls it."""
    context: Context = request.app.ctx
    browser = asker(request.cookies.get(cookie_name(context, COOKIE)))
    await context.asking.login(address, browser)
    response = mailed_page(request, shown)
    set_cookie(response, context, COOKIE, browser, context.codes.seconds)
    return response


def mailed_page(request: Request, shown: str, status: int = 200, problem: str = "") -> HTTPResponse:
    """The page with its code field, and what was wrong with the code that was typed."""
    context: Context = request.app.ctx
    return context.pages.render(request, "mailed", status, email=shown, minutes=context.asking.minutes, problem=problem)
