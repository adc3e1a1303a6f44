"""The files that pages load."""

from sanic import Blueprint
from sanic.response import HTTPResponse, empty, raw

from app.assets import Asset
from app.context import Request
from app.errors import NotFound

assets = Blueprint("assets", url_prefix="/static")

_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"  # keep it, and ask each time whether it is the same still (RFC 9111, section 5.2.2.4)

# Any site's page may load them: they are the same for everybody.
_FOR_ANYBODY = {"Vary": "Accept-Encoding", "Access-Control-Allow-Origin": "*"}


@assets.get("/<digest:str>/<name:str>")
async def show_asset(request: Request, digest: str, name: str) -> HTTPResponse:
    """A file by its content's hash; an address of another content is none."""
    asset = request.app.ctx.assets.get(name)
    if asset is None or asset.digest != digest:
        raise NotFound
    return _answer(request, asset, {"Cache-Control": _FOR_EVER})


@assets.get("/peerbook.js")
async def show_client(request: Request) -> HTTPResponse:
    """The browser client under an address that stays, for programs elsewhere that import it."""
    asset = request.app.ctx.assets["peerbook.js"]
    tag = f'W/"{asset.digest}"'
    headers = {"Cache-Control": _ASK_AGAIN, "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return empty(304, headers | _FOR_ANYBODY)
    return _answer(request, asset, headers)


def _answer(request: Request, asset: Asset, headers: dict[str, str]) -> HTTPResponse:
    headers = headers | _FOR_ANYBODY
    if "gzip" in request.headers.get("accept-encoding", ""):
        return raw(asset.compressed, content_type=asset.content_type, headers=headers | {"Content-Encoding": "gzip"})
    return raw(asset.body, content_type=asset.content_type, headers=headers)
