"""Logs: one line for each event on standard output, as logfmt or JSON, with nothing in it that is anybody's own.

An event is written as `event=<noun> key=value …`; what a library says, in its own words, becomes `msg`.
"""

import json
import logging
import re
from collections.abc import Iterator
from contextvars import ContextVar
from copy import copy
from datetime import UTC, datetime
from typing import TextIO

from app.faults import fault

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The request that is being answered, also in what is done beside its answer."""

_PAIR = re.compile(r"(\w+)=(.*?)(?=\s\w+=|$)")
_PLAIN = re.compile(r"[\w.,:/@%+-]+")


class Lines(logging.Formatter):
    """Writes each event in one line. Of an exception that a library logs, it tells no more than `fault` does."""

    def __init__(self, *, as_json: bool = False) -> None:
        super().__init__("%(message)s")
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields = dict(self._fields(record))
        if self._as_json:
            return json.dumps(fields)
        return " ".join(f"{key}={_quote(value)}" for key, value in fields.items())

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, str]]:
        yield (
            "at",
            datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        yield "level", record.levelname.lower()
        yield "logger", record.name
        if request_id.get():
            yield "request", request_id.get()
        error = record.exc_info[1] if record.exc_info else None
        message = super().format(_without_trace(record))
        if message.startswith("event="):
            yield from _PAIR.findall(message)
        else:
            yield "msg", message
        if error:
            yield "error", fault(error)


def set_up(level: str, form: str, stream: TextIO) -> None:
    """Write the events of that level and above to the stream, as `logfmt` or `json`."""
    log = logging.StreamHandler(stream)
    log.setFormatter(Lines(as_json=form == "json"))
    logging.basicConfig(level=level.upper(), handlers=[log])
    logging.getLogger("sanic").setLevel(logging.WARNING)


def _without_trace(record: logging.LogRecord) -> logging.LogRecord:
    bare = copy(record)
    bare.exc_info = bare.exc_text = bare.stack_info = None
    return bare


def _quote(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else json.dumps(value)
