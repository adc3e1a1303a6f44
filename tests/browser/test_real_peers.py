"""Real WebRTC stacks prove themselves: aiortc by the certificate of its connections, a page in Chromium by a secret."""

from aiortc import RTCCertificate, RTCPeerConnection
from cryptography.hazmat.primitives.serialization import Encoding

from tests.browser.conftest import Sit
from tests.keys import Certificate
from tests.support import Scene
from tests.test_proofs import approved, come_in

# What a peer in a page does: makes a certificate and a secret, asks with the secret's hash, proves itself by the secret.
DEVICE = """
async () => {
  const base64url = bytes => btoa(String.fromCharCode(...bytes)).replace(/[+]/g, "-").replace(/[/]/g, "_").replace(/=/g, "");
  const certificate = await RTCPeerConnection.generateCertificate({name: "ECDSA", namedCurve: "P-256"});
  const secret = base64url(crypto.getRandomValues(new Uint8Array(24)));
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(secret));
  window.device = {
    fp: certificate.getFingerprints().find(each => each.algorithm === "sha-256").value,
    secret, claim: base64url(new Uint8Array(hash)), heard: [], closed: null, certificate,
  };
  window.dial = email => {
    const query = new URLSearchParams({fp: device.fp, email, proof: device.claim, name: "browser"});
    device.socket = new WebSocket(`ws://${location.host}/ws?${query}`);
    device.socket.onmessage = event => device.heard.push(JSON.parse(event.data));
    device.socket.onclose = event => { device.closed = event.code; };
  };
  const peer = new RTCPeerConnection({certificates: [certificate]});
  peer.createDataChannel("x");
  device.offer = (await peer.createOffer()).sdp;
  return device.fp;
}
"""


async def test_aiortc_proves_itself_by_the_certificate_of_its_connections(scene: Scene) -> None:
    own = RTCCertificate.generateCertificate()
    certificate = Certificate(own._cert.public_bytes(Encoding.DER), own._key)
    owner = scene.owner()
    device = await come_in(scene, owner, certificate, await approved(scene, owner, certificate))
    phone = await scene.join(owner, "phone")
    connection = RTCPeerConnection()
    vars(connection)["_RTCPeerConnection__certificates"] = [own]  # it has no public way to take one
    connection.createDataChannel("files")
    offer = await connection.createOffer()
    assert (await device.ask({"target": phone.fp, "offer": {"type": offer.type, "sdp": offer.sdp}}))["code"] == 200
    heard = await phone.hear_until(lambda heard: "offer" in heard)
    assert (heard["source_fp"], heard["offer"]["sdp"]) == (certificate.fp, offer.sdp)
    await connection.close()


async def test_a_page_in_chromium_proves_itself_by_a_secret(sit: Sit, scene: Scene) -> None:
    owner = scene.owner()
    phone = await scene.join(owner, "phone")
    person = await sit(bypass_csp=True)  # the test waits for expressions in the page
    await person.page.goto("/")
    fp = (await person.page.evaluate(DEVICE)).replace(":", "").upper()
    await person.page.evaluate("email => dial(email)", owner.address)
    await person.page.wait_for_function("device.heard.length === 1")
    waiting = await person.page.evaluate("device.heard[0]")
    assert waiting["code"] == 401
    await owner.approve(fp, pair=waiting["pair"])
    await person.page.wait_for_function("device.heard.length === 2")
    assert (await person.page.evaluate("device.heard[1]"))["proof"] == "secret"
    await person.page.evaluate("device.socket.send(JSON.stringify({command: 'prove', id: 1, secret: device.secret}))")
    await person.page.wait_for_function("device.heard.some(message => message.peers)")
    assert "proves itself by secret" in await owner.page()
    target = phone.fp
    await person.page.evaluate(
        "target => device.socket.send(JSON.stringify({target, offer: {type: 'offer', sdp: device.offer}}))", target
    )
    heard = await phone.hear_until(lambda heard: "offer" in heard)
    assert heard["source_fp"] == fp
    # The same page, of which somebody else knows all but the secret:
    thief = await scene.connect(fp, email=owner.address, proof=await person.page.evaluate("device.claim"))
    assert (await thief.hear())["proof"] == "secret"
    answer = await thief.ask({"command": "prove", "secret": await person.page.evaluate("device.claim")})
    assert answer["code"] == 401
    assert await person.page.evaluate("device.closed") is None
