"""A forged offer or answer goes back to its sender, over real sockets, and an honest one arrives as it was sent."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.errors import ForgedDescription
from tests.conftest import Start
from tests.descriptions import CHROMIUM, COVERS, FORGERIES, FP, WRAPPINGS, Wrap, attribute, colons
from tests.support import Device, Scene, new_fingerprint

Pair = tuple[Device, Device]
Meet = Callable[..., Awaitable[Pair]]


@pytest.fixture
def meet(start: Start) -> Meet:
    """Brings two devices of one owner, on one process or on two."""

    async def bring(processes: int = 1) -> Pair:
        here = await start()
        there = await start() if processes == 2 else here
        owner = here.owner()
        laptop, phone = await here.join(owner, "laptop"), await there.join(owner, "phone")
        await laptop.hear_until(lambda heard: heard.get("peer_update", {}).get("online") is True)
        return laptop, phone

    return bring


def of(fp: str) -> str:
    """A description by the device with that fingerprint."""
    return CHROMIUM.replace(colons(FP), colons(fp))


@pytest.mark.parametrize("kind", ["offer", "answer"])
@pytest.mark.parametrize("processes", [1, 2])
async def test_a_forged_one_is_answered_403_with_its_id_and_nothing_is_delivered(
    meet: Meet, kind: str, processes: int
) -> None:
    laptop, phone = await meet(processes)
    await laptop.say({"target": phone.fp, kind: {"type": kind, "sdp": of(phone.fp)}, "id": "first"})
    assert await laptop.hear() == {"code": 403, "text": ForgedDescription.text, "id": "first"}
    await laptop.say({"target": phone.fp, kind: {"type": kind, "sdp": of(phone.fp)}})
    assert await laptop.hear() == {"code": 403, "text": ForgedDescription.text}
    await laptop.say({"target": phone.fp, kind: {"type": kind, "sdp": of(laptop.fp)}})
    assert (await phone.hear())[kind] == {"type": kind, "sdp": of(laptop.fp)}


async def test_no_forgery_is_delivered_in_any_wrapping(meet: Meet) -> None:
    laptop, phone = await meet()
    for forge in FORGERIES.values():
        for wrap in (*WRAPPINGS.values(), *COVERS.values()):
            await laptop.say({"target": phone.fp, "offer": wrap(forge(of(laptop.fp)))})
            assert (await laptop.hear())["code"] == 403
    await phone.hears_nothing()


async def test_an_honest_one_arrives_as_it_was_sent_in_every_wrapping(meet: Meet) -> None:
    laptop, phone = await meet()
    for wrap in WRAPPINGS.values():
        value: Any = wrap(of(laptop.fp))
        assert (await laptop.ask({"target": phone.fp, "offer": value}))["code"] == 200
        heard = await phone.hear()
        assert heard == {"source_fp": laptop.fp, "source_name": "laptop", "offer": value}


@pytest.mark.parametrize("wrap", [WRAPPINGS["as it is"], WRAPPINGS["deep"], WRAPPINGS["base64"]])
async def test_a_member_beside_the_offer_is_checked_too(meet: Meet, wrap: Wrap) -> None:
    laptop, phone = await meet()
    for name in ("sdp", "answers", "candidates", "description"):
        forged = {"target": phone.fp, "offer": "x", name: wrap(of(phone.fp))}
        assert (await laptop.ask(forged))["code"] == 403
    await phone.hears_nothing()


async def test_of_two_equal_members_what_is_sent_on_was_checked(meet: Meet) -> None:
    laptop, phone = await meet()
    honest, forged = (json.dumps({"sdp": of(fp)}) for fp in (laptop.fp, phone.fp))
    await laptop.socket.send(f'{{"target":"{phone.fp}","offer":{honest},"offer":{forged},"id":1}}')
    assert (await laptop.hear())["code"] == 403
    await laptop.socket.send(f'{{"target":"{phone.fp}","offer":{forged},"offer":{honest}}}')
    assert (await phone.hear())["offer"] == json.loads(honest)


async def test_candidates_are_not_checked(meet: Meet) -> None:
    laptop, phone = await meet()
    candidate = f"candidate:1 1 udp 1 192.0.2.1 9 typ host {attribute(phone.fp)}"
    assert (await laptop.ask({"target": phone.fp, "candidate": candidate}))["code"] == 200
    assert (await phone.hear())["candidate"] == candidate


async def test_an_unknown_target_comes_before_a_forged_offer_and_an_offline_one_after(meet: Meet) -> None:
    laptop, phone = await meet()
    forged = {"offer": of(phone.fp)}
    assert (await laptop.ask({"target": new_fingerprint()} | forged))["code"] == 404
    await phone.leave()
    assert (await laptop.ask({"target": phone.fp} | forged))["code"] == 403


async def test_who_is_not_in_hears_401_for_a_forged_offer(scene: Scene) -> None:
    stranger = await scene.connect()
    await stranger.hear()
    assert (await stranger.ask({"target": new_fingerprint(), "offer": of(FP)}))["code"] == 401
