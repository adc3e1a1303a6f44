"""Streams: the open pages of this process. Each has one flag that says it is out of date, never a queue."""

import asyncio
import contextlib

from app.book import Change

HEARTBEAT = 20.0
"""Seconds after which a page that heard nothing is told that the stream lives."""

AGAIN = 2.0
"""Seconds after which a page that was told that the store is out of reach hears of it again."""


class Stream:
    """One open page. It is out of date from the start, so the first thing it gets is how things stand."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._news.set()
        self.ended = False

    def hear(self, change: Change) -> None:
        """The book changed."""
        self._news.set()

    def end(self) -> None:
        """The server stops."""
        self.ended = True
        self._news.set()

    async def wait(self, seconds: float) -> None:
        """Wait for news, so long at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)
        self._news.clear()


class Streams:
    """The open streams, so that they can be ended when the server stops."""

    def __init__(self) -> None:
        self._open: set[Stream] = set()
        self._stopping = False

    def open(self) -> Stream:
        """A new stream."""
        stream = Stream()
        if self._stopping:
            stream.end()
        self._open.add(stream)
        return stream

    def stir(self) -> None:
        """The store is out of reach: every page finds that out now, and not with its next heartbeat."""
        for stream in self._open:
            stream.hear(Change())

    def discard(self, stream: Stream) -> None:
        """Its page is gone."""
        self._open.discard(stream)

    def end_all(self) -> None:
        """The server stops: every page is let go, and reconnects elsewhere."""
        self._stopping = True
        for stream in self._open:
            stream.end()
