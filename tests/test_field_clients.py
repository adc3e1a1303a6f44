"""The clients in the field keep working: what was observed on the wire of real programs (docs/protocol.md, section 7)."""

import asyncio
import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import connect

from app.wheel import Wheel
from tests.conftest import Start
from tests.support import SECONDS, Scene, new_fingerprint

PEER_MEMBERS = {"name", "fp", "kind", "created_on", "last_seen", "verified_on", "verified", "online"}


async def commands_of(redis: Redis) -> dict[str, int]:
    """How often each command was called, less those that this look and the leases cause."""
    stats: dict[str, Any] = await redis.info("commandstats")
    mine = {"cmdstat_info", "cmdstat_ping", "cmdstat_config|resetstat", "cmdstat_client|setinfo", "cmdstat_hello"}
    return {name: value["calls"] for name, value in stats.items() if name not in mine}


@pytest.mark.parametrize("named_by", ["email", "uid"])
async def test_1_a_peer_names_its_owner_by_email_or_by_uid(scene: Scene, named_by: str) -> None:
    owner = scene.owner()
    laptop = await scene.join(owner)
    query = {"email": owner.address} if named_by == "email" else {"uid": await owner.uid()}
    again = await scene.connect(laptop.fp, kind="webexec", name="laptop", **query)
    assert (await again.hear())["code"] == 200


async def test_1_a_denied_peer_that_dials_for_ever_costs_no_mail_no_request_and_few_commands(
    scene: Scene, redis: Redis
) -> None:
    owner = scene.owner()
    await owner.log_in()
    fp = new_fingerprint()
    unwanted = await scene.connect(fp, email=owner.address, kind="webexec", name="unwanted")
    await unwanted.hear()
    await owner.do(f"/peers/{fp}/reject")
    assert await unwanted.close_code() == 4403
    await scene.at_rest()
    scene.mailbox.mails.clear()
    await redis.config_resetstat()
    dials = 20
    for _ in range(dials):
        again = await scene.connect(fp, email=owner.address, kind="webexec", name="unwanted")
        assert "pair" not in await again.hear()
        assert await again.close_code() == 4403
    await scene.at_rest()
    commands = await commands_of(redis)
    assert commands.get("cmdstat_evalsha", 0) <= 2 * dials
    assert "cmdstat_zadd" not in commands
    assert scene.mailbox.mails == []


async def test_2_only_a_bad_fingerprint_is_refused_before_the_upgrade(scene: Scene) -> None:
    strange = {"name": "\u202e" * 80, "kind": "Ünfug!", "email": "no address", "uid": "{}", "invite": "?"}
    assert (await (await scene.connect(**strange)).hear())["code"] == 401
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    answer = await scene.http.get("/ws?fp=abc", headers=upgrade)
    assert (answer.status_code, answer.json()["code"]) == (400, 400)


async def test_3_verify_answers_200_and_a_boolean(scene: Scene) -> None:
    owner = scene.owner()
    laptop = await scene.join(owner)
    for fp, expected in ((laptop.fp, True), (new_fingerprint(), False)):
        answer = await scene.http.post("/verify", json={"fp": fp, "email": owner.address})
        assert answer.status_code == 200
        assert answer.json()["verified"] is expected


async def test_4_and_5_every_frame_and_every_peer_has_the_members_that_clients_look_at(scene: Scene) -> None:
    owner = scene.owner()
    scene.tell_absences_after(0)
    laptop = await scene.join(owner)
    phone = await scene.join(owner, "phone")
    await phone.say({"target": laptop.fp, "offer": "x"})
    await phone.say("nonsense")
    await laptop.say({"command": "get_list"})
    await laptop.say({"command": "ice_servers", "id": 1})
    await owner.do(f"/peers/{phone.fp}/rename", name="handset")
    await phone.leave()
    frames: list[dict[str, Any]] = []
    while not any(not frame.get("peer_update", {"online": True})["online"] for frame in frames[3:]):
        frames.append(await laptop.hear())
    for frame in frames:
        assert {"code", "peers", "source_fp", "ice_servers"} & set(frame), frame
        if "code" in frame:
            assert type(frame["code"]) is int
        if "peer_update" in frame:
            update = frame["peer_update"]
            assert (type(update["verified"]), type(update["online"]), type(update["name"])) == (bool, bool, str)
        for peer in frame.get("peers", []):
            assert set(peer) == PEER_MEMBERS


async def test_6_the_text_of_the_200_is_the_uid(scene: Scene) -> None:
    owner = scene.owner()
    laptop = await scene.join(owner)
    again = await scene.connect(laptop.fp, email=owner.address)
    assert (await again.hear())["text"] == await owner.uid()


@pytest.mark.parametrize(
    "offer",
    [
        base64.b64encode(json.dumps({"type": "offer", "sdp": "v=0\r\n"}).encode()).decode(),
        {"type": "offer", "sdp": "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n", "extra": [1, None, {"deep": True}]},
    ],
    ids=["base64", "object"],
)
async def test_7_an_offer_passes_untouched(scene: Scene, offer: Any) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner), await scene.join(owner, "phone")
    await phone.say({"target": laptop.fp, "offer": offer})
    heard = await laptop.hear_until(lambda heard: "offer" in heard)
    assert heard == {"source_fp": phone.fp, "source_name": "phone", "offer": offer}


async def test_8_a_socket_that_answers_no_ping_is_gone(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await start()
    owner = scene.owner()
    scene.tell_absences_after(0)
    laptop = await scene.join(owner)
    scene.context.wheel.stop()
    scene.context.wheel = Wheel(every=2, within=1, speed=20)
    scene.context.wheel.start()
    fp = new_fingerprint()
    await owner.do("/peers", fp=fp, name="silent")
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.running.port)
    head = (
        f"GET /ws?fp={fp}&email={owner.address} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    writer.write(head.encode())
    await asyncio.wait_for(reader.readuntil(b'"peers"'), SECONDS)
    assert (await laptop.hear_update(fp))["online"]
    assert not (await laptop.hear_update(fp))["online"]
    writer.close()


async def test_9_a_plus_in_an_address_may_arrive_as_a_blank(scene: Scene) -> None:
    owner = scene.owner("you+peers@example.org")
    for email in (owner.address, quote(owner.address)):
        url = f"{scene.url.replace('http', 'ws', 1)}/ws?fp={new_fingerprint()}&email={email}"
        async with connect(url, proxy=None) as socket:
            assert "pair" in json.loads(await socket.recv())
        await scene.mailbox.next_mail(owner.address)


async def test_10_a_new_peer_whose_name_is_taken_gets_a_number(scene: Scene) -> None:
    owner = scene.owner()
    for expected in ("laptop", "laptop 2", "laptop 3"):
        device = await scene.join(owner, "laptop")
        assert expected in {peer["name"] for peer in await device.peers() if peer["fp"] == device.fp}


async def test_11_the_page_shows_the_uid_with_ready_lines(scene: Scene) -> None:
    owner = scene.owner()
    await owner.log_in()
    page, uid = await owner.page(), await owner.uid()
    assert page.count(uid) > 1
    assert f"{scene.url.replace('http', 'ws', 1)}/ws" in page
