"""Guards the owner's pages against posts that another site's page sends with the owner's cookie."""

from app.context import Request
from app.errors import CrossSite


def refuse_cross_site(request: Request, *, silent: bool = False) -> None:
    """Raise CrossSite unless the browser says that our own page sent this post.

    `Sec-Fetch-Site` (W3C Fetch Metadata) where there is one, else `Origin` (RFC 6454); a request with neither is
    refused, unless `silent` ones are allowed because no cookie is at stake.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        allowed = site in ("same-origin", "none")
    elif origin is not None:
        allowed = origin == request.app.ctx.settings.base_url
    else:
        allowed = silent
    if not allowed:
        raise CrossSite
