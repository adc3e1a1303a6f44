"""What `python -m app doctor` asks the running server. Only who has the key can ask, so it may be told."""

from sanic import Blueprint
from sanic.response import HTTPResponse

from app.context import Request
from app.errors import LinkGone, NotFound
from app.handlers.answers import json_answer
from app.handlers.places import proxies_before
from app.messages import encode
from app.settings import Settings
from app.tokens import Tokens

doctor = Blueprint("doctor")

NONCE_SECONDS = 60
_SECONDS = 600  # by two clocks: how far they are apart is for the doctor to find out


def doctor_tokens(settings: Settings) -> Tokens:
    """Signs and reads the doctor's questions, each of which holds a nonce that it left in its store."""
    return Tokens(settings.secret_keys, "peerbook doctor", _SECONDS)


@doctor.get("/doctor/<token:str>")
async def answer(request: Request, token: str) -> HTTPResponse:
    """How this server sees itself: its origin, whether its store has the nonce, and the proxies before it.

    Who has not the key finds nothing here. Raises Unreachable without a store.
    """
    settings = request.app.ctx.settings
    try:
        nonce = str(doctor_tokens(settings).read(token))
    except LinkGone:
        raise NotFound from None
    return json_answer(
        encode(
            {
                "base_url": settings.base_url,
                "store": await request.app.ctx.store.has_nonce(nonce),
                "proxies": proxies_before(request),
                "trusted": settings.proxies_count,
            }
        )
    )
