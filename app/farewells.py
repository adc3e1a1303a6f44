"""Farewells: a process that stops sends its sockets away a few at a time, so that not all come back in one instant."""

import asyncio
import itertools

from app.connections import Connections
from app.presence import Presence

_A_SECOND = 1000
_LONGEST = 2.0
_STEP = 0.05


async def send_away(connections: Connections, presence: Presence) -> None:
    """Send all of them away: a thousand a second, or faster where that would take longer than two seconds."""
    loop = asyncio.get_running_loop()
    at_once = max(1, round(max(_A_SECOND, len(connections) / _LONGEST) * _STEP))
    due = loop.time()
    while connections:
        presence.send_away(tuple(itertools.islice(connections, at_once)))
        due += _STEP
        if connections:
            await asyncio.sleep(due - loop.time())
