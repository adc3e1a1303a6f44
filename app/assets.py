"""Assets: the files that pages load, each under an address that holds its content's hash, so browsers keep it for ever."""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

_FOLDER = Path(__file__).parent / "static"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, as it is and compressed."""

    body: bytes
    compressed: bytes
    content_type: str
    digest: str


class Assets:
    """All files of app/static, and htmx from the package that carries it."""

    def __init__(self) -> None:
        bodies = {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.is_file()}
        bodies["htmx.min.js"] = (files("js_lib_htmx") / "static/htmx/htmx.min.js").read_bytes()
        self._assets = {name: _read(name, body) for name, body in bodies.items()}

    def url(self, name: str) -> str:
        """The address of a file; raises KeyError where there is none."""
        return f"/static/{self._assets[name].digest}/{name}"

    def __getitem__(self, name: str) -> Asset:
        """The file of that name; raises KeyError where there is none."""
        return self._assets[name]

    def get(self, name: str) -> Asset | None:
        """The file of that name."""
        return self._assets.get(name)


def _read(name: str, body: bytes) -> Asset:
    content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if content_type.startswith("text/"):
        content_type += "; charset=utf-8"
    return Asset(body, gzip.compress(body, 9, mtime=0), content_type, hashlib.sha256(body).hexdigest()[:12])
