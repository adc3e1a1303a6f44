"""The page /demo, which walks a newcomer through a first connection. It is served by `make demo` only."""

from sanic import Blueprint
from sanic.response import HTTPResponse

from app.context import Request

OWNER = "you@example.org"
"""In whose book the demo plays; its mails are shown on the terminal."""

PEER = "home-pi"
"""The Python peer that the demo starts."""

demo = Blueprint("demo")


@demo.get("/demo")
async def show_demo(request: Request) -> HTTPResponse:
    """The four steps from a first ask to a file that went directly."""
    return request.app.ctx.pages.render(request, "demo", owner=OWNER, peer=PEER)
