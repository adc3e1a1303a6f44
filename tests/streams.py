"""An open page as its stream sees it: events and heartbeats, read one at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import httpx

from tests.support import SECONDS, Owner

HEARTBEAT = ":"


class PageStream:
    """The stream of one open page (server-sent events, HTML section 9.2)."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def hear(self) -> tuple[str, str]:
        """The next event as name and data; a heartbeat is HEARTBEAT."""
        name, data = "", []
        async with asyncio.timeout(SECONDS):
            async for line in self._lines:
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data:"):
                    data.append(line.removeprefix("data:").removeprefix(" "))
                elif line:
                    assert line == ":", line
                    name = HEARTBEAT
                elif name:
                    return name, "\n".join(data)
        raise AssertionError("the stream ended")

    async def hear_book(self, wanted: Callable[[str], bool] = lambda page: True) -> str:
        """The next state of the book that is wanted."""
        while True:
            name, data = await self.hear()
            assert name in ("book", HEARTBEAT), name
            if name == "book" and wanted(data):
                return data

    async def hear_until(self, wanted: str) -> None:
        """Pass over what comes until an event of that name."""
        while (await self.hear())[0] != wanted:
            pass

    async def hear_end(self) -> None:
        """Wait for the event that says the session is over, and for the end of the stream."""
        await self.hear_until("end")
        assert await self.rest() == ""

    async def rest(self) -> str:
        """What comes until the server ends the stream."""
        lines = []
        async with asyncio.timeout(SECONDS):
            with suppress(httpx.ReadError, httpx.RemoteProtocolError):
                async for line in self._lines:
                    lines.append(line)
        return "".join(lines)


@asynccontextmanager
async def following(owner: Owner) -> AsyncIterator[PageStream]:
    """The stream of a page that this owner opens."""
    async with owner.http.stream("GET", "/peers/events", timeout=None) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield PageStream(response)
