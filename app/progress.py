"""Progress: one line on a terminal that says how far a long work is. Elsewhere it says nothing."""

import time
from types import TracebackType
from typing import TextIO

_WIDTH = 30
_PAUSE = 0.1  # seconds between two drawings


class Progress:
    """A bar that is drawn anew in its line, and gone at the end. Use it as a context."""

    def __init__(self, out: TextIO, what: str, *, shown: bool) -> None:
        self._out = out
        self._what = what
        self._shown = shown
        self._next = 0.0

    def __call__(self, done: int, total: int) -> None:
        """So much of so much is done."""
        if not self._shown or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _PAUSE
        share = min(1.0, done / total) if total else 1.0
        full = int(share * _WIDTH)
        print(f"\r{self._what} [{'#' * full}{'.' * (_WIDTH - full)}] {share:4.0%}", end="", file=self._out, flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            print(f"\r{' ' * (len(self._what) + _WIDTH + 8)}\r", end="", file=self._out, flush=True)
