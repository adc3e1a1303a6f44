"""The headers that every answer has: what a browser may load, show, tell others and keep of it."""

from sanic.response import BaseHTTPResponse

from app.context import App, Request

# Nothing but our own files, no script in a page, no page in a frame.
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # not no-referrer, under which browsers send `Origin: null` with our own forms
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_OVER_TLS = {"Strict-Transport-Security": "max-age=31536000"}


def add_headers(app: App) -> None:
    """Have every answer of the app carry them: pages, JSON, files, redirects and errors alike."""
    app.middleware(_add, "response")


async def _add(request: Request, response: BaseHTTPResponse) -> None:
    """An answer that says something else of itself keeps it."""
    for name, value in (_HEADERS | _OVER_TLS if request.app.ctx.settings.secure else _HEADERS).items():
        response.headers.setdefault(name, value)
