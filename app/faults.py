"""Faults: what a log may say of an exception that nobody expected. Its kind and its place, never its message."""

from pathlib import Path
from traceback import extract_tb

_ROOT = Path(__file__).parent.parent
_DEEPEST = 6


def fault(error: BaseException) -> str:
    """The exception in a few words: `ValueError at app/books.py:120, app/store.py:77`, the innermost place last.

    Messages of exceptions quote what was being read, so they may hold somebody's data.
    """
    places = [f"{_short(frame.filename)}:{frame.lineno}" for frame in extract_tb(error.__traceback__)]
    return f"{type(error).__name__} at {', '.join(places[-_DEEPEST:]) or 'nowhere'}"


def _short(path: str) -> str:
    """The path as one finds it in the sources, whatever folder they are installed in."""
    where = Path(path)
    return "/".join((where.relative_to(_ROOT) if where.is_relative_to(_ROOT) else where).parts[-3:])
