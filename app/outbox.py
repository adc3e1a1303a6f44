"""The outbox: what the sockets of a process send leaves at the end of a turn of the loop, all for one peer at once.

A system call costs as much as all the rest of a relayed message, and candidates come in bursts.
"""

import asyncio
from typing import Protocol


class Sender(Protocol):
    """What has something in the outbox."""

    def flush(self) -> None:
        """Hand it over to the system."""


class Outbox:
    """Who has something to send in this turn. `unread` counts the bytes that wait for the slow readers of the process."""

    __slots__ = ("_senders", "unread")

    def __init__(self) -> None:
        self.unread = 0
        self._senders: list[Sender] = []

    def add(self, sender: Sender) -> None:
        """Have it flushed when all that arrived in this turn is done."""
        if not self._senders:
            asyncio.get_running_loop().call_soon(self._flush)
        self._senders.append(sender)

    def _flush(self) -> None:
        senders, self._senders = iter(self._senders), []
        try:
            for sender in senders:
                sender.flush()
        finally:
            for sender in senders:  # where one failed, those behind it have the next turn
                self.add(sender)
