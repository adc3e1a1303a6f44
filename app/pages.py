"""Pages: what a browser sees, from the templates in app/templates."""

from typing import Any

import jinja2
from sanic.response import HTTPResponse, html

from app.settings import Settings

# Nothing but our own files, no script in a page, no page in a frame.
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)


class Pages:
    """Renders whole pages."""

    def __init__(self, settings: Settings) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("app"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals["base_url"] = settings.base_url
        self._headers = {
            "Content-Security-Policy": _POLICY,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        if settings.secure:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    def render(self, template: str, status: int = 200, **members: Any) -> HTTPResponse:
        """The page made from `template`, with the headers that every page has."""
        return html(
            self._templates.get_template(f"{template}.html").render(members), status, headers=dict(self._headers)
        )
