"""Plays a transcript against a server: its devices are real sockets with real keys, and every answer is compared.

A transcript is JSON: the promise of docs/protocol.md that it shows, and its steps. What may stand in a message:

    "$name"             the first time whatever comes, from then on the same again
    "$laptop.fp"        of a device: fp, claim, sdp (a description that names its certificate), forged (one that does not)
    "<string>", "<integer>", "<boolean>", "<any>"    anything of that kind
    "...": true         in an object: other members may be there
"""

import asyncio
import base64
import hashlib
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from peerbook_client.identity import new_identity
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

_KINDS: dict[str, type | tuple[type, ...]] = {
    "<string>": str,
    "<integer>": int,
    "<boolean>": bool,
    "<any>": object,
}
_MEMBERS = {"offer", "answer", "candidate"}
_SDP = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{}\r\n"


class BrokenPromiseError(AssertionError):
    """The server did something else."""


class Owner(Protocol):
    """Who answers the devices: a person at the page, or a program with the mailbox."""

    async def act(self, what: str, fp: str, **fields: str) -> None:
        """Approve, reject, revoke, remove or rename a device on the page."""


@dataclass
class Device:
    """A device of a transcript, with a certificate and a secret of its own."""

    name: str
    proof: str
    identity: Any = field(default_factory=new_identity)
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    socket: ClientConnection | None = None
    nonce: str = ""

    @property
    def claim(self) -> str:
        """What it says when it asks that it will prove."""
        if self.proof != "secret":
            return self.proof
        return base64.urlsafe_b64encode(hashlib.sha256(self.secret.encode()).digest()).decode().rstrip("=")

    def shown(self, origin: str) -> dict[str, str]:
        """The members of its proof."""
        if self.proof == "certificate":
            proof: dict[str, str] = self.identity.proof(origin, self.nonce)
            return proof
        return {"secret": self.secret}

    def member(self, name: str) -> str:
        """What a transcript may say of it."""
        digits = re.findall("..", self.identity.fp if name != "forged" else secrets.token_hex(32).upper())
        values = {"fp": self.identity.fp, "claim": self.claim, "name": self.name}
        return values.get(name) or _SDP.format("a=fingerprint:sha-256 " + ":".join(digits))


class Player:
    """Plays one transcript. `origin` is the server's BASE_URL, where that is not the address it is reached by."""

    def __init__(
        self,
        server: str,
        email: str,
        owner: Owner,
        *,
        origin: str = "",
        seconds: float = 10,
        say: Callable[[str], None],
    ) -> None:
        self._server = server.rstrip("/")
        self._origin = origin or self._server
        self._owner = owner
        self._seconds = seconds
        self._say = say
        self._known: dict[str, Any] = {"email": email}
        self._devices: dict[str, Device] = {}
        self._approved: list[Device] = []

    async def play(self, transcript: dict[str, Any]) -> None:
        """Raises BrokenPromiseError where the server does something else. What was approved is removed at the end."""
        unique = secrets.token_hex(3)  # so that no device of an earlier run has the name
        for name, proof in transcript["devices"].items():
            self._devices[name] = Device(f"{name} {unique}", proof)
        try:
            for number, step in enumerate(transcript["steps"], 1):
                try:
                    async with asyncio.timeout(self._seconds):
                        await self._take(step)
                except (BrokenPromiseError, TimeoutError, ConnectionClosed) as error:
                    reason = str(error) or "nothing came" if isinstance(error, TimeoutError) else str(error)
                    raise BrokenPromiseError(f"step {number}, {json.dumps(step)}: {reason}") from None
        finally:
            for device in self._devices.values():
                if device.socket:
                    await device.socket.close()
            for device in self._approved:
                await self._owner.act("remove", device.identity.fp)

    async def _take(self, step: dict[str, Any]) -> None:
        match step:
            case {"dial": name, **rest}:
                await self._dial(self._devices[name], rest.get("query", {}))
            case {"from": name, "message": message}:
                await self._send(self._devices[name], self._filled(message))
            case {"to": name, "message": pattern}:
                await self._hear(self._devices[name], pattern)
            case {"prove": name, **rest}:
                device = self._devices[name]
                await self._send(device, {"command": "prove"} | device.shown(self._origin) | rest)
            case {"owner": act, "device": name, **rest}:
                await self._have_done(act, self._devices[name], rest)
            case {"closed": name, "code": code}:
                await self._end(self._devices[name], code)
            case {"leave": name}:
                await self._socket(name).close()
            case {"post": path, "body": body, "status": status, "answer": pattern}:
                await self._post(path, self._filled(body), status, pattern)
            case _:
                raise ValueError(f"There is no such step: {step}")

    async def _dial(self, device: Device, query: dict[str, str]) -> None:
        given = {"fp": device.identity.fp, "name": device.name}
        if device.proof != "none":
            given["proof"] = device.claim
        url = f"{self._server.replace('http', 'ws', 1)}/ws?{urlencode(given | self._filled(query))}"
        while True:
            try:
                device.socket = await connect(url, compression=None)
            except InvalidStatus as refusal:
                if refusal.response.status_code != 429:
                    raise BrokenPromiseError(f"refused with {refusal.response.status_code}") from None
                await asyncio.sleep(float(refusal.response.headers.get("Retry-After", "10")))
            else:
                return

    def _socket(self, name: str) -> ClientConnection:
        socket = self._devices[name].socket
        assert socket, f"{name} has not dialled"
        return socket

    @staticmethod
    async def _send(device: Device, message: Any) -> None:
        assert device.socket
        await device.socket.send(message if isinstance(message, str) else json.dumps(message))

    async def _hear(self, device: Device, pattern: dict[str, Any]) -> None:
        assert device.socket
        while True:
            heard = json.loads(await device.socket.recv())
            device.nonce = heard.get("nonce") or device.nonce
            # News of other devices come whenever they like, so they are passed over unless they are waited for.
            if "peer_update" in pattern:
                if "peer_update" not in heard or heard["source_fp"] != self._filled(pattern["source_fp"]):
                    continue
            elif "peer_update" in heard:
                continue
            return self._compare(pattern, heard)

    async def _have_done(self, act: str, device: Device, fields: dict[str, str]) -> None:
        await self._owner.act(act, device.identity.fp, **self._filled(fields))
        if act == "approve":
            self._approved.append(device)
        elif act == "remove":
            self._approved.remove(device)

    @staticmethod
    async def _end(device: Device, code: int) -> None:
        assert device.socket
        try:
            while True:
                await device.socket.recv()
        except ConnectionClosed:
            if device.socket.close_code != code:
                raise BrokenPromiseError(f"closed with {device.socket.close_code}") from None

    async def _post(self, path: str, body: Any, status: int, pattern: Any) -> None:
        data = body if isinstance(body, str) else json.dumps(body)
        headers = {"Content-Type": "application/json"}
        request = Request(f"{self._server}{path}", data.encode(), headers)  # noqa: S310 - the server that the user names
        came, answer = await asyncio.to_thread(_answer_to, request)
        if came != status:
            raise BrokenPromiseError(f"answered {came}: {answer}")
        self._compare(pattern, json.loads(answer))

    def _filled(self, value: Any) -> Any:
        """What a transcript says, with what is known in the place of names."""
        if isinstance(value, dict):
            return {key: self._filled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._filled(each) for each in value]
        if not isinstance(value, str) or not value.startswith("$"):
            return value
        name, _, member = value[1:].partition(".")
        return self._devices[name].member(member) if member else self._known[name]

    def _compare(self, pattern: Any, heard: Any, where: str = "") -> None:
        if isinstance(pattern, dict) and isinstance(heard, dict):
            wanted = {key for key in pattern if key != "..."}
            if missing := wanted - set(heard):
                raise BrokenPromiseError(f"{where or 'it'} lacks {sorted(missing)}: {json.dumps(heard)}")
            if (more := set(heard) - wanted) and "..." not in pattern:
                raise BrokenPromiseError(f"{where or 'it'} has {sorted(more)} as well: {json.dumps(heard)}")
            for key in wanted:
                self._compare(pattern[key], heard[key], f"{where}.{key}" if where else key)
        elif isinstance(pattern, list) and isinstance(heard, list) and len(pattern) == len(heard):
            for number, (each, other) in enumerate(zip(pattern, heard, strict=True)):
                self._compare(each, other, f"{where}[{number}]")
        elif not self._fits(pattern, heard):
            raise BrokenPromiseError(f"{where or 'it'} is {json.dumps(heard)}")

    def _fits(self, pattern: Any, heard: Any) -> bool:
        if isinstance(pattern, str) and pattern in _KINDS:
            return isinstance(heard, _KINDS[pattern]) and not (pattern == "<integer>" and isinstance(heard, bool))
        if isinstance(pattern, str) and pattern.startswith("$") and "." not in pattern:
            return bool(self._known.setdefault(pattern[1:], heard) == heard)
        expected = self._filled(pattern)
        return type(expected) is type(heard) and expected == heard


def _answer_to(request: Request) -> tuple[int, str]:
    try:
        with urlopen(request, timeout=10) as answer:  # noqa: S310 - the server that the user names
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
