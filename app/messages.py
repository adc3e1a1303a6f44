"""The wire: what a peer says is parsed here, once, and what it hears is encoded here. Pure.

The messages are written down in docs/protocol.md, section 4.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from app.claims import CERTIFICATE, NO_CLAIM, parse_claim
from app.errors import BadInput, PeerbookError
from app.identity import CertificateProof, Proof, parse_proof
from app.peers import RESULTS, Fingerprint, Peer, Result, parse_fingerprint, parse_name

SIGNALS = ("offer", "answer", "candidate")

# Words that only the server says. A peer that puts them into a forwarded message would speak in the
# server's voice to the target, so they are dropped; `target` has done its work.
SERVER_WORDS = frozenset(
    {
        *("code", "text", "id", "pair", "nonce", "proof", "uid", "verified", "peers", "peer_update", "ice_servers"),
        *("command", "source_fp", "source_name", "last_seen", "target"),
    }
)

MessageId = str | int
_LONGEST_ID = 64
_LARGEST_ID = 2**63
_LONGEST_CONNECT = 86_400_000

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class GetList:
    """Asks for the peers of the book."""


@dataclass(frozen=True, slots=True)
class GetIceServers:
    """Asks for the ICE servers."""


@dataclass(frozen=True, slots=True)
class Rename:
    """Gives the asking peer another name."""

    name: str


@dataclass(frozen=True, slots=True)
class Prove:
    """Shows a proof."""

    proof: Proof


@dataclass(frozen=True, slots=True)
class Rekey:
    """Gives the asking peer another fingerprint, with the claim that it has; a certificate is shown at once."""

    fp: Fingerprint
    claim: str
    proof: CertificateProof | None


@dataclass(frozen=True, slots=True)
class ReportOutcome:
    """Says how the connection to a target went, and after how many milliseconds it was open or given up."""

    target: Fingerprint
    result: Result
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Signal:
    """An offer, answer or candidate on its way to one target peer, with the members that travel along."""

    kind: str
    target: Fingerprint
    members: dict[str, Any]


Command = GetList | GetIceServers | Rename | Prove | Rekey | ReportOutcome | Signal


class BadMessage(BadInput):
    """A frame that is no message; carries the `id` where one could be read, so that the sender can match it."""

    text = "This is not a message of the peerbook protocol."

    def __init__(self, text: str | None = None, message_id: MessageId | None = None) -> None:
        super().__init__(text)
        self.message_id = message_id


def parse_object(data: bytes | str) -> dict[str, Any]:
    """The JSON object (RFC 8259) in `data`; raises BadInput for anything else, however deep or odd."""
    try:
        value = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise BadInput("This is not JSON.") from None
    if not isinstance(value, dict):
        raise BadInput("This is not a JSON object.")
    return value


def parse_message(frame: bytes) -> tuple[Command, MessageId | None]:
    """What a peer's text frame asks for, and the id to acknowledge it with; raises BadMessage."""
    try:
        message = parse_object(frame)
    except BadInput as error:
        raise BadMessage(error.text) from None
    message_id = _parse_id(message)
    try:
        return _parse_command(message), message_id
    except BadInput as error:
        raise BadMessage(error.text, message_id) from None


def _parse_id(message: Mapping[str, Any]) -> MessageId | None:
    match message.get("id"):
        case None:
            return None
        case bool():
            pass
        case str(text) if len(text) <= _LONGEST_ID:
            return text
        case int(number) if abs(number) < _LARGEST_ID:
            return number
    raise BadMessage("An id is a text of at most 64 characters or an integer.")


def _parse_command(message: dict[str, Any]) -> Command:
    signals = [kind for kind in SIGNALS if kind in message]
    if signals:
        return _parse_signal(message, signals)
    match message.get("command"):
        case "get_list":
            return GetList()
        case "ice_servers":
            return GetIceServers()
        case "rename":
            return Rename(parse_name(message.get("name")))
        case "prove":
            return Prove(parse_proof(message))
        case "rekey":
            return _parse_rekey(message)
        case "outcome":
            return _parse_outcome(message)
        case None if "target" in message:
            raise BadInput("A message to a peer carries an offer, an answer or a candidate.")
    raise BadInput("Unknown command.")


def _parse_rekey(message: dict[str, Any]) -> Rekey:
    fp = parse_fingerprint(message.get("fp"))
    if message.get("certificate") is None:
        claim = parse_claim(message.get("proof"))
        if claim == NO_CLAIM:
            raise BadInput("A new fingerprint comes with a proof.")
        return Rekey(fp, claim, None)
    proof = parse_proof(message)
    assert isinstance(proof, CertificateProof)  # one with a certificate is nothing else
    return Rekey(fp, CERTIFICATE, proof)


def _parse_outcome(message: dict[str, Any]) -> ReportOutcome:
    target, result, milliseconds = parse_fingerprint(message.get("target")), message.get("result"), message.get("ms")
    if result not in RESULTS:
        raise BadInput("A result is direct, relay or failed.")
    if type(milliseconds) is not int or not 0 <= milliseconds <= _LONGEST_CONNECT:
        raise BadInput("The time is a whole number of milliseconds, a day at the most.")
    return ReportOutcome(target, cast(Result, result), milliseconds)


def _parse_signal(message: dict[str, Any], signals: list[str]) -> Signal:
    if len(signals) > 1:
        raise BadInput("A message carries one of offer, answer and candidate.")
    target = parse_fingerprint(message.get("target"))
    members = {key: value for key, value in message.items() if key not in SERVER_WORDS}
    return Signal(signals[0], target, members)


def encode(message: Mapping[str, Any] | list[Any]) -> bytes:
    """One message as the JSON text that goes into a frame or a body."""
    return _encoder.encode(message)


def encode_welcome(uid: str, nonce: str | None) -> bytes:
    """The peer is in. Some clients take the text as their user's id, so it is the uid."""
    return encode(_with({"code": 200, "text": uid}, nonce=nonce))


def encode_waiting(text: str, pair: str | None, nonce: str | None) -> bytes:
    """The peer waits for its owner; `pair` is the code to compare, absent when nobody was asked."""
    return encode(_with({"code": 401, "text": text}, pair=pair, nonce=nonce))


def encode_proof_due(text: str, proof: str, nonce: str) -> bytes:
    """The peer is verified and has to prove itself; `proof` says by what: `secret` or `certificate`."""
    return encode({"code": 401, "text": text, "proof": proof, "nonce": nonce})


def encode_error(error: PeerbookError, message_id: MessageId | None = None) -> bytes:
    """Why a message was not served."""
    return encode(_with(error.members(), id=message_id))


def encode_done(message_id: MessageId) -> bytes:
    """A message that carried an id was served."""
    return encode({"id": message_id, "code": 200})


def encode_peers(uid: str, peers: Iterable[Peer], online: Mapping[Fingerprint, Any]) -> bytes:
    """The peers of a book, sorted by name and fingerprint. Some clients copy every member, so there are only these."""
    ordered = sorted(peers, key=lambda peer: (peer.name, peer.fp))
    return encode({"peers": [_peer_members(peer, peer.fp in online) for peer in ordered], "uid": uid})


def encode_update(fp: Fingerprint, name: str, *, verified: bool, online: bool) -> bytes:
    """Another peer came, left or changed."""
    return encode({"source_fp": fp, "peer_update": {"verified": verified, "online": online, "name": name}})


def encode_signal(source: Peer, signal: Signal) -> bytes:
    """A forwarded message: encoded from what was parsed, so nothing travels that was not read."""
    try:
        return encode({"source_fp": source.fp, "source_name": source.name} | signal.members)
    except RecursionError:  # it was parsed a few stack frames higher up
        raise BadMessage("This message is nested too deeply.") from None


def encode_ice_servers(servers: list[dict[str, Any]]) -> bytes:
    """The ICE servers, in the shape of RTCConfiguration.iceServers (W3C WebRTC, section 4.2.1)."""
    return encode({"ice_servers": servers})


def _peer_members(peer: Peer, online: bool) -> dict[str, Any]:
    return {
        "name": peer.name,
        "fp": peer.fp,
        "kind": peer.kind,
        "created_on": peer.created_on,
        "last_seen": peer.last_seen,
        "verified_on": peer.verified_on,
        "verified": peer.verified,
        "online": online,
    }


def _with(members: dict[str, Any], **more: Any) -> dict[str, Any]:
    return members | {key: value for key, value in more.items() if value is not None}
