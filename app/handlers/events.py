"""GET /peers/events: an open page hears of every change of its book (server-sent events, HTML section 9.2)."""

from sanic import Blueprint
from sanic.response import HTTPResponse

from app.context import Context, Request
from app.handlers.visits import book_members, visit_of, without_session
from app.streams import HEARTBEAT, Stream

events = Blueprint("events")


@events.get("/peers/events")
async def follow(request: Request) -> HTTPResponse | None:
    """The page's part that lives, now and after every change, for as long as the session lasts."""
    context: Context = request.app.ctx
    visit = await visit_of(request, prolong=False)
    if visit is None:
        return without_session(request)
    uid = visit.book.uid
    del visit  # an open page that waits keeps no copy of its book
    response = await request.respond(content_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
    stream = context.streams.open()
    try:
        await context.books.hold(uid, stream.hear)
        await _tell(request, response, stream)
    finally:
        context.streams.discard(stream)
        context.books.release(uid, stream.hear)
    return None  # it is answered already


async def _tell(request: Request, response: HTTPResponse, stream: Stream) -> None:
    shown = None
    while True:
        await stream.wait(HEARTBEAT)
        if stream.ended:
            return
        visit = await visit_of(request, prolong=False)
        if visit is None:
            await response.send("event: end\ndata:\n\n")
            return
        state = (visit.book.version, set(visit.book.requests))  # a request that expires makes no news
        if state != shown:
            shown = state
            context: Context = request.app.ctx
            await response.send(_event("book", context.pages.text("live", **book_members(context, visit))))
        else:
            await response.send(":\n\n")
        del visit


def _event(name: str, text: str) -> str:
    data = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: {name}\n{data}\n"
