"""Faults: what a log may say of an exception that nobody expected. Its kind and its place, never its message."""

import logging
from copy import copy
from pathlib import Path
from traceback import extract_tb

LINE = "level=%(levelname)s logger=%(name)s %(message)s"
"""What stands in a line of the log."""

_ROOT = Path(__file__).parent.parent
_DEEPEST = 6


def fault(error: BaseException) -> str:
    """The exception in a few words: `ValueError at app/books.py:120, app/store.py:77`, the innermost place last.

    Messages of exceptions quote what was being read, so they may hold somebody's data.
    """
    places = [f"{_short(frame.filename)}:{frame.lineno}" for frame in extract_tb(error.__traceback__)]
    return f"{type(error).__name__} at {', '.join(places[-_DEEPEST:]) or 'nowhere'}"


class OneLine(logging.Formatter):
    """Writes each event in one line. Of an exception that a library logs, it tells no more than `fault` does."""

    def __init__(self) -> None:
        super().__init__(LINE)

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        error = record.exc_info[1] if record.exc_info else None
        told = super().format(_without_trace(record))
        return f"{told} error={fault(error)}" if error else told


def _without_trace(record: logging.LogRecord) -> logging.LogRecord:
    bare = copy(record)
    bare.exc_info = bare.exc_text = bare.stack_info = None
    return bare


def _short(path: str) -> str:
    """The path as one finds it in the sources, whatever folder they are installed in."""
    where = Path(path)
    return "/".join((where.relative_to(_ROOT) if where.is_relative_to(_ROOT) else where).parts[-3:])
