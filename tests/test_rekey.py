"""Rekey: a device that proved itself takes another key, and stays who it is."""

import pytest
from redis.asyncio import Redis

from tests.keys import new_certificate, new_secret
from tests.support import Scene, new_fingerprint
from tests.test_proofs import Key, approved, claim_of, come_in, key

__all__ = ["key"]


async def test_a_device_takes_another_certificate_and_keeps_its_name_and_history(scene: Scene) -> None:
    owner, old, new = scene.owner(), new_certificate(), new_certificate()
    phone = await scene.join(owner, "phone")
    device = await come_in(scene, owner, old, await approved(scene, owner, old))
    before = next(peer for peer in await device.peers() if peer["fp"] == old.fp)
    connection = next(each for each in scene.context.connections if each.fp == old.fp)
    answer = await device.ask({"command": "rekey", "fp": new.fp} | new.proof(scene.url, connection.nonce))
    assert answer["code"] == 200
    assert await device.close_code() == 1001
    again = await come_in(scene, owner, new, new.fp)
    after = {peer["fp"]: peer for peer in await again.peers()}
    assert after.keys() == {phone.fp, new.fp}
    assert [after[new.fp][each] for each in ("name", "kind", "created_on", "verified")] == [
        before[each] for each in ("name", "kind", "created_on", "verified")
    ]
    assert {"verified": True, "online": False, "name": "laptop"} in [await phone.hear_update(new.fp) for _ in range(2)]
    assert "laptop has a new key" in await owner.page()
    subjects = [(await scene.mailbox.next_notice(owner.address))["Subject"] for _ in range(3)]
    assert subjects[-1] == "A device proves itself in another way"


async def test_a_browser_takes_another_fingerprint_and_secret(scene: Scene) -> None:
    owner, old, new, to = scene.owner(), new_secret(), new_secret(), new_fingerprint()
    device = await come_in(scene, owner, old, await approved(scene, owner, old))
    assert (await device.ask({"command": "rekey", "fp": to, "proof": new.claim}))["code"] == 200
    assert await device.close_code() == 1001
    await come_in(scene, owner, new, to)


async def test_it_is_found_by_a_new_certificate_that_it_showed_when_it_names_nobody(scene: Scene, key: Key) -> None:
    owner, new = scene.owner(), new_certificate()
    device = await come_in(scene, owner, key, await approved(scene, owner, key))
    connection = next(iter(scene.context.connections))
    answer = await device.ask({"command": "rekey", "fp": new.fp} | new.proof(scene.url, connection.nonce))
    assert answer["code"] == 200
    waiting = await scene.connect(new.fp, proof="certificate")
    due = await waiting.hear()
    assert due["proof"] == "certificate"
    await waiting.say({"command": "prove"} | new.proof(scene.url, due["nonce"]))
    assert (await waiting.hear())["code"] == 200


async def test_one_that_showed_nothing_of_its_new_key_names_its_owner_first(scene: Scene, key: Key) -> None:
    owner, new = scene.owner(), new_certificate()
    device = await come_in(scene, owner, key, await approved(scene, owner, key))
    assert (await device.ask({"command": "rekey", "fp": new.fp, "proof": "certificate"}))["code"] == 200
    waiting = await scene.connect(new.fp, proof="certificate")
    assert "proof" not in await waiting.hear()
    await come_in(scene, owner, new, new.fp)
    found = await scene.connect(new.fp, proof="certificate")
    assert (await found.hear())["proof"] == "certificate"


async def test_the_old_fingerprint_is_shut_out(scene: Scene, key: Key) -> None:
    owner = scene.owner()
    fp = await approved(scene, owner, key)
    device = await come_in(scene, owner, key, fp)
    assert (await device.ask({"command": "rekey", "fp": new_fingerprint(), "proof": "certificate"}))["code"] == 200
    old = await scene.connect(fp, email=owner.address, proof=claim_of(key))
    assert (await old.hear()).keys() == {"code", "text", "nonce"}
    assert await old.close_code() == 4403


async def test_requests_for_the_new_fingerprint_are_answered_by_it(scene: Scene, key: Key) -> None:
    owner, to = scene.owner(), new_fingerprint()
    device = await come_in(scene, owner, key, await approved(scene, owner, key))
    asked = await scene.verify(to, email=owner.address, name="same device")
    assert (await device.ask({"command": "rekey", "fp": to, "proof": "certificate"}))["code"] == 200
    assert asked["pair"] not in await owner.page()


async def refused(scene: Scene, key: Key, wanted: int, **members: str) -> None:
    """A rekey that is refused changes nothing."""
    owner = scene.owner()
    fp = await approved(scene, owner, key)
    device = await come_in(scene, owner, key, fp)
    taken = await scene.join(owner, "phone")
    fields = {each: taken.fp if value == "taken" else value for each, value in members.items()}
    answer = await device.ask({"command": "rekey"} | fields)
    assert answer["code"] == wanted
    assert {peer["fp"] for peer in await device.peers()} == {fp, taken.fp}


async def test_a_fingerprint_that_is_in_the_book_is_refused(scene: Scene, key: Key) -> None:
    await refused(scene, key, 409, fp="taken", proof="certificate")


async def test_a_certificate_never_becomes_a_secret(scene: Scene) -> None:
    await refused(scene, new_certificate(), 409, fp=new_fingerprint(), proof=new_secret().claim)


@pytest.mark.parametrize(
    "members",
    [
        {"fp": "AB" * 32},
        {"fp": "AB" * 32, "proof": "none"},
        {"fp": "AB" * 32, "proof": "secret"},
        {"fp": "AB" * 32, "secret": "a secret itself, not its hash"},
        {"fp": "AB" * 32, "certificate": "AAAA"},
        {"fp": "AB", "proof": "certificate"},
        {"proof": "certificate"},
    ],
)
async def test_one_without_fingerprint_or_claim_is_no_message(scene: Scene, key: Key, members: dict[str, str]) -> None:
    await refused(scene, key, 400, **members)


async def test_a_new_certificate_is_shown_with_its_own_key_on_this_connection(scene: Scene, key: Key) -> None:
    owner, new = scene.owner(), new_certificate()
    fp = await approved(scene, owner, key)
    device = await come_in(scene, owner, key, fp)
    nonce = next(iter(scene.context.connections)).nonce
    for proof in (
        new.proof(scene.url, "another connection"),
        new.proof(scene.url, nonce, new_certificate().fp),
        new_certificate().proof(scene.url, nonce),
    ):
        assert (await device.ask({"command": "rekey", "fp": new.fp} | proof))["code"] == 401
    assert [peer["fp"] for peer in await device.peers()] == [fp]


async def test_a_device_that_proved_nothing_keeps_its_fingerprint(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.join(owner)
    answer = await device.ask({"command": "rekey", "fp": new_fingerprint(), "proof": "certificate"})
    assert answer["code"] == 401
    assert [peer["fp"] for peer in await device.peers()] == [device.fp]


async def test_nothing_of_the_old_fingerprint_is_left_but_its_denial(scene: Scene, redis: Redis, key: Key) -> None:
    owner = scene.owner()
    fp, to = await approved(scene, owner, key), new_fingerprint()
    device = await come_in(scene, owner, key, fp)
    assert (await device.ask({"command": "rekey", "fp": to, "proof": "certificate"}))["code"] == 200
    await device.close_code()
    await scene.at_rest()
    uid = await owner.uid()
    assert await redis.keys(f"*{fp}*") == []
    assert await redis.zrange(f"book:{{{uid}}}", 0, -1) == [to]
    assert await redis.hlen(f"online:{{{uid}}}") == 0
