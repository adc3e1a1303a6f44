"""A link: one connection to a peer, from the first offer to its end."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiortc import RTCConfiguration, RTCDataChannel, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp

from peerbook_client.descriptions import sent, ufrag_in
from peerbook_client.errors import LinkClosedError, PeerbookError

if TYPE_CHECKING:
    from peerbook_client.book import Peerbook

log = logging.getLogger("peerbook_client")

_NO_TARGET = (410, 503)  # it may come back
_RETRY_SECONDS = 1.0


class Link:
    """Offers, answers and candidates of one session, served one after the other.

    Of two that offer at once, the one with the smaller fingerprint is polite and takes its offer back (W3C WebRTC,
    section 10.7). aiortc can't take back a first one, so then the connection is made anew.
    """

    def __init__(self, book: "Peerbook", fp: str, session: str, closed: Callable[["Link"], None]) -> None:
        self.fp = fp
        self.session = session
        self.answered = False
        self.polite = book.fp < fp
        self.over = asyncio.Event()
        self.opened = False
        self._book = book
        self._closed = closed
        self._pc: RTCPeerConnection | None = None
        self._renewed = asyncio.Event()
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._negotiating = asyncio.Lock()
        self._sending = False
        self._theirs = False
        book.start_task(self._serve_all())

    @property
    def connection(self) -> RTCPeerConnection | None:
        """The RTCPeerConnection, once it is made."""
        return self._pc

    def give_way(self, session: str) -> None:
        """Both offer at once and we are polite: the other's session is ours now."""
        self.session, self._theirs = session, True
        if self._pc:
            self._book.start_task(self._close(self._pc))
        self._pc = None
        self._renewed.set()

    async def channel(self, label: str) -> RTCDataChannel:
        """An open data channel; raises LinkClosedError."""
        while True:
            self._renewed.clear()
            pc = await self._connection()
            new = pc.sctp is None
            channel = pc.createDataChannel(label)
            opened = asyncio.Event()
            channel.on("open", opened.set)
            if new and not self._theirs:
                self._book.start_task(self.negotiate())
            if channel.readyState == "open":
                opened.set()
            await first_of(opened, self._renewed, self.over)
            if self.over.is_set():
                raise LinkClosedError("The connection was closed.")
            if opened.is_set():
                self.opened = True
                return channel

    async def negotiate(self) -> None:
        """Offer what we have: at first, and whenever the application added something."""
        with contextlib.suppress(LinkClosedError):
            async with self._negotiating:
                pc, session = await self._connection(), self.session
                if pc.signalingState != "stable" or self.over.is_set():
                    return
                await pc.setLocalDescription()
            if session == self.session:
                await self._send()

    def hear(self, message: dict[str, Any]) -> None:
        """A message of this session."""
        self._messages.put_nowait(message)

    def resume(self) -> None:
        """The way to the peer is there again: say what may have been lost."""
        if self._pc and self._pc.signalingState == "have-local-offer":
            self._book.start_task(self._send())

    @property
    def relayed(self) -> bool:
        """Whether it goes through a TURN server."""
        assert self._pc
        assert self._pc.sctp
        pairs = self._pc.sctp.transport.transport._connection._nominated.values()  # its stats don't tell
        return any("relay" in (pair.local_candidate.type, pair.remote_candidate.type) for pair in pairs)

    def close(self) -> None:
        """End it, and tell the other side."""
        if self.over.is_set():
            return
        self.over.set()
        self._book.start_task(self._book.say(self._addressed({"answer": None})))
        if self._pc:
            self._book.start_task(self._close(self._pc))
        self._closed(self)

    async def _close(self, pc: RTCPeerConnection) -> None:
        async with self._negotiating:  # aiortc leaves sockets open where it is closed while it gathers candidates
            await pc.close()

    async def _connection(self) -> RTCPeerConnection:
        if self._pc is None:
            servers = await self._book.ice_servers()
            if self.over.is_set():
                raise LinkClosedError("The connection was closed.")
            if self._pc is None:  # nobody else made it meanwhile
                self._pc = self._make(servers)
        return self._pc

    def _make(self, servers: list[dict[str, Any]]) -> RTCPeerConnection:
        configuration = RTCConfiguration(
            iceServers=[RTCIceServer(each["urls"], each.get("username"), each.get("credential")) for each in servers],
            **self._book.rtc,
        )
        pc = RTCPeerConnection(configuration)
        vars(pc)["_RTCPeerConnection__certificates"] = [self._book.identity.rtc]  # it has no public way to take one
        pc.on("datachannel", self._hear_channel)
        pc.on("connectionstatechange", lambda: self._changed(pc))
        return pc

    def _hear_channel(self, channel: RTCDataChannel) -> None:
        self.opened = True
        self._book.emit("channel", channel, self._book.peers.get(self.fp))

    def _changed(self, pc: RTCPeerConnection) -> None:
        if pc is self._pc and pc.connectionState in ("failed", "closed"):
            self.close()

    async def _serve_all(self) -> None:
        while not self.over.is_set():
            next_one = asyncio.create_task(self._messages.get())
            await first_of(next_one, self.over)
            if next_one.cancel():
                return
            try:
                await self._serve(next_one.result())
            except LinkClosedError:
                return
            except Exception as error:  # what aiortc raises for a description that it can't take is not told
                log.warning("event=not_taken error=%s", type(error).__name__)
                self.close()

    async def _serve(self, message: dict[str, Any]) -> None:
        pc = await self._connection()
        offer, answer = message.get("offer"), message.get("answer")
        if "answer" in message and answer is None:
            self.close()
        elif message.get("candidate"):
            await _add_candidate(pc, message["candidate"])
        elif answer and pc.signalingState == "have-local-offer":
            self.answered = True
            async with self._negotiating:
                await pc.setRemoteDescription(answer)
        elif offer:
            await self._answer(pc, offer)

    async def _answer(self, pc: RTCPeerConnection, offer: RTCSessionDescription) -> None:
        async with self._negotiating:
            if self.over.is_set() or (pc.signalingState == "have-local-offer" and not self.polite):
                return
            if pc.signalingState == "have-local-offer":
                _roll_back(pc)
            before = pc.remoteDescription
            if before and ufrag_in(before.sdp) != ufrag_in(offer.sdp):
                return self.close()  # aiortc can't restart ICE: the other side connects anew
            self.answered = True
            await pc.setRemoteDescription(offer)
            await pc.setLocalDescription()
        await self._book.say(self._addressed({"answer": sent(pc.localDescription)}))

    async def _send(self) -> None:
        """Offer until it was handed over: a target that is offline gets it when it comes."""
        if self._sending:
            return
        self._sending = True
        try:
            while self._pc and self._pc.signalingState == "have-local-offer" and not self.over.is_set():
                if await self._offer(self._pc):
                    return
        finally:
            self._sending = False

    async def _offer(self, pc: RTCPeerConnection) -> bool:
        try:
            await self._book.online(self.fp)
            if pc is not self._pc:
                return False
            offer = {"offer": sent(pc.localDescription), "again": self.answered}
            await self._book.ask(self._addressed(offer))
        except PeerbookError as error:
            if error.code not in _NO_TARGET:
                self.close()
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._book.news(), _RETRY_SECONDS)
            return False
        return True

    def _addressed(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"target": self.fp, "session": self.session} | message


async def first_of(*waited: "asyncio.Event | asyncio.Task[Any]") -> None:
    """Wait until one of them has happened."""
    tasks = [each if isinstance(each, asyncio.Task) else asyncio.create_task(each.wait()) for each in waited]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task, each in zip(tasks, waited, strict=True):
            if task is not each:
                task.cancel()


async def _add_candidate(pc: RTCPeerConnection, given: dict[str, Any]) -> None:
    """A candidate as browsers write it (W3C WebRTC, section 4.8.1.1); one that can't be read is passed over."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AssertionError, IndexError):
        candidate = candidate_from_sdp(given["candidate"].partition(":")[2])
        candidate.sdpMid, candidate.sdpMLineIndex = given.get("sdpMid"), given.get("sdpMLineIndex")
        await pc.addIceCandidate(candidate)


def _roll_back(pc: RTCPeerConnection) -> None:
    """Take back an offer of ours, but the first (JSEP, RFC 9429, section 4.1.10.2), which aiortc has no way to."""
    vars(pc)["_RTCPeerConnection__pendingLocalDescription"] = None
    vars(pc)["_RTCPeerConnection__signalingState"] = "stable"
