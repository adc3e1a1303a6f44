"""POST /verify, and the ICE servers for everybody."""

from typing import Any

from sanic import Blueprint
from sanic.response import HTTPResponse

from app.addresses import parse_address
from app.claims import parse_claim
from app.context import Request
from app.errors import BadInput
from app.handlers.answers import json_answer
from app.handlers.cors import answer_preflight, let_page_read, refuse_other_origins
from app.handlers.places import network_of, place_of
from app.invites import invite_digest
from app.messages import encode, parse_object
from app.owners import OwnerName, parse_uid
from app.peers import DEFAULT_KIND, DEFAULT_NAME, Device, parse_fingerprint, parse_kind, parse_name

verify = Blueprint("verify")
verify.middleware(refuse_other_origins, "request")
verify.middleware(let_page_read, "response")


@verify.post("/verify")
async def verify_peer(request: Request) -> HTTPResponse:
    """Whether a fingerprint is in its owner's book; if not, its owner is asked."""
    body = parse_object(request.body)
    owner = _parse_owner(body)
    device = Device(
        fp=parse_fingerprint(body.get("fp")),
        claim=parse_claim(body.get("proof")),
        name=parse_name(body["name"]) if body.get("name") is not None else DEFAULT_NAME,
        kind=parse_kind(body["kind"]) if body.get("kind") is not None else DEFAULT_KIND,
        place=place_of(request),
        invite=invite_digest(body.get("invite")),
        network=network_of(request),
    )
    ask = await request.app.ctx.asking.ask(owner, device, "verify")
    if ask.verified:
        return json_answer(encode({"verified": True, "uid": ask.uid}))
    return json_answer(encode({"verified": False, "pair": ask.pair}))


@verify.post("/turn")
@verify.post("/iceservers", name="iceservers")
async def ice_servers(request: Request) -> HTTPResponse:
    """The ICE servers that need no credentials."""
    return json_answer(encode(request.app.ctx.ice_servers.public()))


@verify.options("/verify", name="preflight_verify")
@verify.options("/turn", name="preflight_turn")
@verify.options("/iceservers", name="preflight_iceservers")
async def preflight(request: Request) -> HTTPResponse:
    """What a page of another site may send to these addresses."""
    return answer_preflight()


def _parse_owner(body: dict[str, Any]) -> OwnerName:
    if body.get("uid") is not None:
        return parse_uid(body["uid"])
    if body.get("email") is None:
        raise BadInput("Name the owner by email or uid.")
    return parse_address(body["email"])
