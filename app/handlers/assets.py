"""The files that pages load."""

from sanic import Blueprint
from sanic.response import HTTPResponse, raw

from app.context import Request
from app.errors import NotFound

assets = Blueprint("assets", url_prefix="/static")

_FOR_EVER = "public, max-age=31536000, immutable"


@assets.get("/<digest:str>/<name:str>")
async def show_asset(request: Request, digest: str, name: str) -> HTTPResponse:
    """A file by its content's hash; an address of another content is none."""
    asset = request.app.ctx.assets.get(name)
    if asset is None or asset.digest != digest:
        raise NotFound
    # Any site's page may load them: they are the same for everybody.
    headers = {"Cache-Control": _FOR_EVER, "Vary": "Accept-Encoding", "Access-Control-Allow-Origin": "*"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return raw(asset.compressed, content_type=asset.content_type, headers=headers | {"Content-Encoding": "gzip"})
    return raw(asset.body, content_type=asset.content_type, headers=headers)
