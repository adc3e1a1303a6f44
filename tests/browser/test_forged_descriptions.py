"""What Chromium and aiortc would connect with is the measure: no forgery that they take passes the check."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import SessionDescription
from cryptography.hazmat.primitives.serialization import Encoding
from playwright.async_api import Browser, Page

from app.descriptions import check_description
from app.errors import ForgedDescription
from app.messages import encode
from app.peers import Fingerprint, parse_fingerprint
from tests.descriptions import FORGERIES, attribute, line_of

pytestmark = pytest.mark.timeout(120)

TRY_OFFERS = """async offers => {
  const taken = []
  for (const sdp of offers) {
    const connection = new RTCPeerConnection()
    try {
      await connection.setRemoteDescription({type: 'offer', sdp})
      taken.push(connection.remoteDescription.sdp)
    } catch {
      taken.push(null)
    }
    connection.close()
  }
  return taken
}"""

MAKE_OFFERS = """async () => {
  const offers = {}
  const connection = new RTCPeerConnection()
  offers.empty = (await connection.createOffer()).sdp
  connection.createDataChannel('channel')
  await connection.setLocalDescription()
  offers.channel = connection.localDescription.sdp
  connection.addTransceiver('audio')
  connection.addTransceiver('video')
  offers.media = (await connection.createOffer()).sdp
  const other = new RTCPeerConnection()
  await other.setRemoteDescription({type: 'offer', sdp: offers.channel})
  await other.setLocalDescription()
  await connection.setRemoteDescription(other.localDescription)
  await connection.setLocalDescription()
  offers.again = connection.localDescription.sdp
  await connection.setLocalDescription({type: 'rollback'})
  connection.close()
  other.close()
  return offers
}"""

ANSWER = """async sdp => {
  const connection = window.connection = new RTCPeerConnection()
  window.connected = new Promise(done => {
    connection.onconnectionstatechange = () => connection.connectionState === 'connected' && done(true)
  })
  await connection.setRemoteDescription({type: 'offer', sdp})
  const gathered = new Promise(done => {
    connection.onicegatheringstatechange = () => connection.iceGatheringState === 'complete' && done()
  })
  await connection.setLocalDescription()
  await gathered
  return connection.localDescription.sdp
}"""


@pytest.fixture
async def page(chromium: Browser) -> AsyncIterator[Page]:
    page = await chromium.new_page()
    yield page
    await page.close()


@pytest.fixture
async def caller() -> AsyncIterator[RTCPeerConnection]:
    """An aiortc peer that made an offer of a data channel."""
    connection = RTCPeerConnection()
    connection.createDataChannel("channel")
    await connection.setLocalDescription(await connection.createOffer())
    yield connection
    await connection.close()


def certificate_of(connection: RTCPeerConnection) -> bytes:
    """The DER of its certificate."""
    (certificate,) = connection._RTCPeerConnection__certificates  # type: ignore[attr-defined]
    der: bytes = certificate._cert.public_bytes(Encoding.DER)
    return der


def sender_of(sdp: str) -> Fingerprint:
    return parse_fingerprint(line_of(sdp).removeprefix("a=fingerprint:"))


def passes(sdp: str, fp: Fingerprint, certificate: bytes | None = None) -> bool:
    try:
        check_description(encode({"source_fp": fp, "offer": {"type": "offer", "sdp": sdp}}), fp, certificate)
    except ForgedDescription:
        return False
    return True


def fingerprints_in(sdp: str) -> set[tuple[str, str]]:
    """The certificates that a description of Chromium's own making names."""
    return set(re.findall(r"^a=fingerprint:(\S+) (\S+)\r$", sdp, re.M))


async def taken_by_aiortc(sdp: str) -> set[tuple[str, str]] | None:
    """The certificates with one of which aiortc would connect; None where it takes no such offer."""
    connection = RTCPeerConnection()
    try:
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
    except Exception:  # it raises whatever its parser stumbles over
        return None
    finally:
        await connection.close()
    named = [media.dtls.fingerprints for media in SessionDescription.parse(sdp).media if media.dtls]
    return {(each.algorithm, each.value) for fingerprints in named for each in fingerprints}


async def test_what_chromium_takes_of_a_forged_offer_does_not_pass(page: Page) -> None:
    honest = (await page.evaluate(MAKE_OFFERS))["channel"]
    fp = sender_of(honest)
    forged = {name: forge(honest) for name, forge in FORGERIES.items()}
    taken = dict(zip(forged, await page.evaluate(TRY_OFFERS, list(forged.values())), strict=True))
    believed = {name for name, sdp in taken.items() if sdp and fingerprints_in(sdp) - fingerprints_in(honest)}
    assert {"another", "another behind", "SHA-1", "SHA-512 behind", "line feeds alone", "SHA in capitals"} <= believed
    assert [name for name in believed if passes(forged[name], fp)] == []
    assert fingerprints_in((await page.evaluate(TRY_OFFERS, [honest]))[0]) == fingerprints_in(honest)


async def test_what_aiortc_takes_of_a_forged_offer_does_not_pass(caller: RTCPeerConnection) -> None:
    honest = caller.localDescription.sdp
    fp, certificate = sender_of(honest), certificate_of(caller)
    own = await taken_by_aiortc(honest)
    assert own
    forged = {name: forge(honest) for name, forge in FORGERIES.items()}
    taken = {name: await taken_by_aiortc(sdp) for name, sdp in forged.items()}
    believed = {name for name, named in taken.items() if named and named - own}
    assert {"another", "after a line separator", "a line before all", "tab", "after a form feed"} <= believed
    assert [name for name in believed if passes(forged[name], fp, certificate)] == []


async def test_what_chromium_makes_passes(page: Page) -> None:
    offers: dict[str, Any] = await page.evaluate(MAKE_OFFERS)
    fp = sender_of(offers["channel"])
    assert offers.keys() == {"empty", "channel", "media", "again"}
    assert [name for name, sdp in offers.items() if not passes(sdp, fp)] == []


async def test_what_aiortc_makes_passes_once_its_certificate_is_proved(caller: RTCPeerConnection) -> None:
    honest = caller.localDescription.sdp
    fp = sender_of(honest)
    assert passes(honest, fp, certificate_of(caller))
    assert not passes(honest, fp)
    only = "".join(line for line in honest.splitlines(True) if not re.match("a=fingerprint:sha-(384|512)", line))
    assert passes(only, fp)


async def test_chromium_connects_to_whom_another_hash_names_so_such_an_offer_does_not_pass(
    page: Page, caller: RTCPeerConnection
) -> None:
    """The thief is an aiortc peer: only the SHA-256 in its offer is the victim's."""
    victim = sender_of((await page.evaluate(MAKE_OFFERS))["channel"])
    honest = caller.localDescription.sdp
    forged = honest.replace(line_of(honest), attribute(victim))
    answer = await page.evaluate(ANSWER, forged)
    await caller.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    assert await page.evaluate("connected")
    assert not passes(forged, victim)
    assert not passes(forged, victim, b"the victim's certificate")
