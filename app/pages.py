"""Pages: what a browser sees, from the templates in app/templates."""

import gzip
import io
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import jinja2
import segno
from markupsafe import Markup
from sanic.request import Request
from sanic.response import HTTPResponse, html

from app.assets import Assets
from app.book import Happening
from app.bookview import Problem, Row
from app.settings import Settings

_WORTH_COMPRESSING = 1024
_MOST_ROWS = 1024
_MOST_LINES = 4096


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite as the page shows it: the code, a ready command line, and both as a QR code."""

    code: str
    command: str
    qr: Markup
    minutes: int


class Pages:
    """Renders whole pages, and the parts of them that htmx and open streams swap in."""

    def __init__(self, settings: Settings, assets: Assets) -> None:
        self._socket_url = f"{settings.base_url.replace('http', 'ws', 1)}/ws"
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("app"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {
            "base_url": settings.base_url,
            "socket_url": self._socket_url,
            "static": assets.url,
            "flash": "",
            "device_row": self._device_row,
            "activity_line": lru_cache(_MOST_LINES)(self._activity_line),
        }
        self._templates.filters |= {"ago": ago, "exact": exact, "iso": iso}
        self._quiet_row = lru_cache(_MOST_ROWS)(self._render_row)

    def render(self, request: "Request[Any, Any]", template: str, status: int = 200, /, **members: Any) -> HTTPResponse:
        """The page made from `template`, compressed where the browser can."""
        body, headers = self.text(template, **members).encode(), {"Vary": "HX-Request, Accept-Encoding"}
        if len(body) >= _WORTH_COMPRESSING and "gzip" in request.headers.get("accept-encoding", ""):
            body = gzip.compress(body, 4)
            headers["Content-Encoding"] = "gzip"
        return html(body, status, headers=headers)

    def text(self, template: str, **members: Any) -> str:
        """What `template` says."""
        return self._templates.get_template(f"{template}.html").render(members)

    # Of a page with fifty devices, nearly all looks as it did a moment ago: rows and lines are rendered once for each
    # state of theirs.

    def _device_row(self, row: Row, many: bool, require_proof: bool, problem: Problem) -> Markup:
        ages = f"{ago(row.peer.last_seen)}, {ago(row.peer.outcome.at) if row.peer.outcome else ''}"
        if row.fp in problem.form:
            return self._render_row(row, many, require_proof, ages, problem)
        return self._quiet_row(row, many, require_proof, ages)

    def _render_row(
        self, row: Row, many: bool, require_proof: bool, ages: str, problem: Problem | None = None
    ) -> Markup:
        """`ages` is what the row says of how long ago things were: a part of what tells two states apart."""
        members = {"row": row, "many": many, "require_proof": require_proof, "problem": problem or Problem()}
        return Markup(self.text("row", **members))  # noqa: S704 - the template has escaped it

    def _activity_line(self, each: Happening) -> Markup:
        return Markup(self.text("line", each=each))  # noqa: S704 - the template has escaped it

    def invite(self, code: str, minutes: int) -> Invite:
        """An invite, ready to show. The QR code holds the address of the socket with the code in it."""
        url = f"{self._socket_url}?invite={code}"
        drawing = io.BytesIO()
        segno.make(url, error="m").save(
            drawing, kind="svg", omitsize=True, xmldecl=False, svgns=True, nl=False, dark="#000", light="#fff"
        )
        command = f"python -m websockets '{url}&name=phone&fp=FINGERPRINT'"
        return Invite(code, command, Markup(drawing.getvalue().decode()), minutes)  # noqa: S704 - our own drawing


def ago(seconds: int) -> str:
    """A time (Unix seconds) as a person says it: "5 minutes ago", "yesterday"; 0 is "never"."""
    if not seconds:
        return "never"
    age = max(0, int(time.time()) - seconds)
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if age >= size:
            count = age // size
            if (unit, count) == ("day", 1):
                return "yesterday"
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def exact(seconds: int) -> str:
    """A time (Unix seconds) to the minute: "22 November 2026, 23:58 UTC"."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%-d %B %Y, %H:%M UTC")


def iso(seconds: int) -> str:
    """A time (Unix seconds) as a machine reads it (RFC 3339)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
