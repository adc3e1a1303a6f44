"""The peerbook as a peer sees it: who we are there, who else is, and how we connect to them."""

import asyncio
import contextlib
import itertools
import json
import random
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlencode, urlsplit

from aiortc import RTCDataChannel, RTCPeerConnection
from pyee.asyncio import AsyncIOEventEmitter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from peerbook_client.descriptions import described, is_honest, session_in
from peerbook_client.errors import LinkClosedError, PeerbookError
from peerbook_client.identity import Identity, load_identity, new_identity, save_identity
from peerbook_client.link import Link
from peerbook_client.pauses import REFUSED, Pauses

State = Literal["connecting", "waiting", "in", "away", "stopped"]
_NOT_WANTED = 4403
_TIMEOUT = 30.0


@dataclass(frozen=True)
class Peer:
    """Another peer of the book."""

    fp: str
    name: str
    verified: bool
    online: bool


class Peerbook(AsyncIOEventEmitter):
    """One device in its owner's book; stays connected within `async with`, until it is not wanted any more.

    Events: `state` (state, pair, close code), `peers` (the list), `presence` (a Peer that changed), `channel` (an
    RTCDataChannel that another Peer opened, and that Peer), `closed` (fp), `outcome` (fp, result, milliseconds),
    `refused` (fp: it sent a description that names another certificate than its own).
    """

    def __init__(
        self,
        server: str,
        identity: Path,
        *,
        email: str | None = None,
        uid: str | None = None,
        name: str = "peer",
        kind: str = "python",
        invite: str | None = None,
        origin: str | None = None,
        rtc: dict[str, Any] | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        """`identity`: the file with certificate and key, made where there is none. Name the owner by email or uid.

        `origin`: the server's BASE_URL, where it is reached by another address. `rtc`: more of RTCConfiguration.
        """
        super().__init__()
        self.server = server.rstrip("/")
        self.identity: Identity = load_identity(identity)
        self.state: State = "stopped"
        self.peers: dict[str, Peer] = {}
        self.uid = uid
        self.pair: str | None = None
        self.name = name
        self.rtc = rtc or {}
        self._path = identity
        self._query = {"kind": kind, "email": email, "invite": invite}
        self._origin = (origin or server).rstrip("/")
        self._nonce = ""
        self._stopped = False
        self._links: dict[str, Link] = {}
        self._servers: list[dict[str, Any]] = []
        self._socket: ClientConnection | None = None
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._numbers = itertools.count(1)
        self._pauses = Pauses(random)
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._running: asyncio.Task[None] | None = None

    @property
    def fp(self) -> str:
        """Our fingerprint."""
        return self.identity.fp

    async def __aenter__(self) -> Self:
        self._running = self.start_task(self.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def run(self) -> None:
        """Stay connected until `stop`, or until the server says that we shall not come back."""
        self._stopped = False
        while not self._stopped:
            self._become("connecting")
            code = await self._converse()
            if self._stopped:
                return
            if code == _NOT_WANTED and self._next_path.exists():  # our own rekey, of which we heard no more?
                self._promote()
                continue
            pause = self._pauses.after(code, time.monotonic())
            if pause is None:
                self._end(code)
            else:
                self._become("away", code)
                await asyncio.sleep(pause)

    async def stop(self) -> None:
        """Leave the server, and close all connections."""
        self._end(None)
        tasks = [task for task in self._tasks if task not in (self._running, asyncio.current_task())]
        if tasks:
            await asyncio.wait(tasks, timeout=2)
        if self._socket:
            await self._socket.close()
        for task in tuple(self._tasks - {asyncio.current_task()}):
            task.cancel()

    # To other peers

    async def connect(self, peer: str, label: str = "data", seconds: float = _TIMEOUT) -> RTCDataChannel:
        """An open data channel to a peer, by fingerprint or name. One that is offline is offered to when it comes.

        Raises PeerbookError, LinkClosedError, and TimeoutError so many seconds after the peer was online.
        """
        fp = (await self.online(peer)).fp
        began, known = time.monotonic(), fp in self._links
        link = self._links.get(fp) or self._open(fp, secrets.token_urlsafe(9))
        try:
            async with asyncio.timeout(seconds):
                channel = await link.channel(label)
        except BaseException as error:
            if not known and not link.opened:
                link.close()
                if isinstance(error, TimeoutError | LinkClosedError):  # and not: given up by whoever asked
                    await self._report(fp, "failed", began)
            raise
        if not known:
            await self._report(fp, "relay" if link.relayed else "direct", began)
        return channel

    def connection(self, peer: str) -> RTCPeerConnection | None:
        """The RTCPeerConnection to a peer, for media and whatever else it can; call `negotiate` after a change."""
        link = self._link(peer)
        return link.connection if link else None

    async def negotiate(self, peer: str) -> None:
        """Tell a peer of what was added to the connection to it."""
        if link := self._link(peer):
            await link.negotiate()

    def disconnect(self, peer: str) -> None:
        """Close the connection to a peer."""
        if link := self._link(peer):
            link.close()

    async def online(self, peer: str) -> Peer:
        """Wait until a peer, by fingerprint or name, can be offered to; raises PeerbookError where there is none."""
        while True:
            if self.state == "stopped":
                raise PeerbookError(403, "This device is not connected to its book.")
            found = self._named(peer)
            if self.state == "in" and (found is None or not found.verified or found.fp == self.fp):
                raise PeerbookError(404, "There is no such peer.")
            if self.state == "in" and found and found.online:
                return found
            await self.news()

    async def news(self) -> None:
        """Wait until something changes: our state, or a peer."""
        async with self._news:
            await self._news.wait()

    # To the server

    async def ask(self, message: dict[str, Any]) -> None:
        """Send one message, and wait until it is served; raises PeerbookError."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            if not await self.say(message | {"id": number}):
                raise PeerbookError(503, "Not connected to the server.")
            await answer
        finally:
            del self._asked[number]

    async def say(self, message: dict[str, Any]) -> bool:
        """Send one message; False where it can't be."""
        if self._socket is None:
            return False
        try:
            await self._socket.send(json.dumps(message))
        except ConnectionClosed:
            return False
        return True

    async def ice_servers(self) -> list[dict[str, Any]]:
        """The ICE servers of now: their credentials don't last."""
        with contextlib.suppress(PeerbookError):
            await self.ask({"command": "ice_servers"})
        return self._servers

    async def rekey(self) -> None:
        """Take another certificate, keeping name and history."""
        identity = load_identity(self._next_path) if self._next_path.exists() else new_identity()
        save_identity(self._next_path, identity)  # before the server knows it: it may do it and we never hear of it
        await self.ask({"command": "rekey", "fp": identity.fp} | identity.proof(self._origin, self._nonce))
        self._promote()

    def start_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something beside, until we stop."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # The socket

    @property
    def _url(self) -> str:
        query = {"fp": self.fp, "name": self.name, "proof": "certificate"} | self._query | {"uid": self.uid}
        given = {key: value for key, value in query.items() if value is not None}
        return f"{urlsplit(self.server)._replace(scheme=_socket_scheme(self.server)).geturl()}/ws?{urlencode(given)}"

    async def _converse(self) -> int:
        """Connect, and hear until the connection ends; its close code."""
        try:
            async with connect(self._url, compression=None, close_timeout=2) as socket:
                self._socket = socket
                async for frame in socket:
                    await self._hear(json.loads(frame))
                return socket.close_code or 1006
        except InvalidStatus as refusal:
            return REFUSED if refusal.response.status_code == REFUSED else 1006
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
        except (OSError, InvalidHandshake, TimeoutError):
            return 1006
        finally:
            self._socket = None
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(PeerbookError(503, "The connection to the server ended."))

    async def _hear(self, message: dict[str, Any]) -> None:
        code, fp = message.get("code"), message.get("source_fp")
        if "ice_servers" in message:
            self._servers = message["ice_servers"]
        elif message.get("id") in self._asked:
            self._answered(self._asked[message["id"]], message)
        elif "peers" in message:
            self._list(message)
        elif fp and "peer_update" in message:
            self._update(Peer(fp, **message["peer_update"]))
        elif fp:
            await self._signal(fp, message)
        elif code in (200, 401):
            await self._greeted(message)

    @staticmethod
    def _answered(answer: asyncio.Future[None], message: dict[str, Any]) -> None:
        if answer.done():
            return
        if message["code"] == 200:
            answer.set_result(None)
        else:
            answer.set_exception(PeerbookError(message["code"], message.get("text", "")))

    async def _greeted(self, status: dict[str, Any]) -> None:
        self._nonce = status.get("nonce", self._nonce)
        if status["code"] == 200:
            self.uid = status["text"]
            self._pauses.reset()
        elif "nonce" in status or "pair" in status:
            self.pair = status.get("pair")
            self._become("waiting", 401)
            if "pair" in status or "proof" in status:  # shown while it waits, it lets us in when the owner approves
                await self.say({"command": "prove"} | self.identity.proof(self._origin, self._nonce))

    def _list(self, message: dict[str, Any]) -> None:
        self.uid, self.pair = message["uid"], None
        peers = (Peer(each["fp"], each["name"], each["verified"], each["online"]) for each in message["peers"])
        self.peers = {peer.fp: peer for peer in peers}
        if self.state != "in":
            self._become("in")
        self._tell("peers", list(self.peers.values()))
        for fp, link in tuple(self._links.items()):
            peer = self.peers.get(fp)
            if peer is None or not peer.verified:
                link.close()
            elif peer.online:
                link.resume()

    def _update(self, peer: Peer) -> None:
        self.peers[peer.fp] = peer
        self._tell("presence", peer)
        if link := self._links.get(peer.fp):
            if not peer.verified:
                link.close()
            elif peer.online:
                link.resume()

    # Connections

    async def _signal(self, fp: str, message: dict[str, Any]) -> None:
        for kind in {"offer", "answer"} & set(message):
            message[kind] = described(message[kind])
        description, offer, link = (
            message.get("offer") or message.get("answer"),
            message.get("offer"),
            self._links.get(fp),
        )
        if description and not is_honest(description.sdp, fp):
            self.emit("refused", fp)
            return
        session = message.get("session")
        if session is None:
            session = session_in(offer.sdp) if offer else link.session if link else None
        if offer and session and (link is None or session != link.session):
            if message.get("again"):  # we have lost that one
                await self.say({"target": fp, "answer": None, "session": session})
                return
            if link and not link.answered:  # both offer at once
                if not link.polite:
                    return
                link.give_way(session)
            else:
                if link:
                    link.close()
                link = self._open(fp, session)
        if link and session == link.session:
            link.hear(message)

    def _open(self, fp: str, session: str) -> Link:
        link = self._links[fp] = Link(self, fp, session, self._forget)
        return link

    def _forget(self, link: Link) -> None:
        if self._links.get(link.fp) is link:
            del self._links[link.fp]
            self.emit("closed", link.fp)

    async def _report(self, fp: str, result: str, began: float) -> None:
        milliseconds = round(1000 * (time.monotonic() - began))
        self.emit("outcome", fp, result, milliseconds)
        await self.say({"command": "outcome", "target": fp, "result": result, "ms": milliseconds})

    def _named(self, peer: str) -> Peer | None:
        return self.peers.get(peer) or next(
            (each for each in self.peers.values() if each.verified and each.name == peer), None
        )

    def _link(self, peer: str) -> Link | None:
        found = self._named(peer)
        return self._links.get(found.fp) if found else None

    # The rest

    @property
    def _next_path(self) -> Path:
        return self._path.with_name(f"{self._path.name}.next")

    def _promote(self) -> None:
        self._next_path.replace(self._path)
        self.identity = load_identity(self._path)

    def _become(self, state: State, code: int | None = None) -> None:
        self.state = state
        self._tell("state", state, self.pair, code)

    def _end(self, code: int | None) -> None:
        self._stopped = True
        self._become("stopped", code)
        for link in tuple(self._links.values()):
            link.close()

    def _tell(self, event: str, *what: Any) -> None:
        self.emit(event, *what)
        self.start_task(self._wake())

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()


def _socket_scheme(url: str) -> str:
    return "wss" if url.startswith("https:") else "ws"
