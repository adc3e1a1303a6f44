"""A peer of a peerbook, in Python: asyncio, websockets and aiortc. Its behaviour is that of the browser's peerbook.js.

    book = Peerbook("https://book.example.org", Path("home-pi.pem"), email="you@example.org", name="home-pi")
    book.on("channel", lambda channel, peer: channel.on("message", print))
    async with book:
        channel = await book.connect("phone")
        channel.send("hello")

What travels is in docs/protocol.md, how peers use it in docs/clients.md.
"""

from peerbook_client.book import Peer, Peerbook
from peerbook_client.errors import LinkClosedError, PeerbookError
from peerbook_client.identity import Identity, load_identity

__all__ = ["Identity", "LinkClosedError", "Peer", "Peerbook", "PeerbookError", "load_identity"]
