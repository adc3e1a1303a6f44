"""Proofs over real sockets: nobody is let in as a device that can prove itself, but that device."""

from typing import Any

import pytest
from redis.asyncio import Redis

from app.errors import Unreachable
from tests.conftest import Start
from tests.keys import KEYS, Certificate, Secret, new_certificate, new_secret
from tests.support import Device, Message, Owner, Scene, eventually, new_fingerprint, text_of
from tests.test_invites import new_code

Key = Certificate | Secret


def claim_of(key: Key) -> str:
    return key.claim if isinstance(key, Secret) else "certificate"


def kind_of(key: Key) -> str:
    return "secret" if isinstance(key, Secret) else "certificate"


@pytest.fixture(params=["certificate", "secret"])
def key(request: pytest.FixtureRequest) -> Key:
    """A device's way to prove itself."""
    return new_certificate() if request.param == "certificate" else new_secret()


def fingerprint_of(key: Key) -> str:
    return key.fp if isinstance(key, Certificate) else new_fingerprint()


async def prove(scene: Scene, device: Device, key: Key, nonce: str, **wrong: str) -> Message:
    """Show a proof, and return what is answered to that."""
    origin = wrong.get("origin", scene.url)
    proof = key.proof(origin, nonce) if isinstance(key, Certificate) else key.proof()
    return await device.ask({"command": "prove"} | proof)


async def dial(scene: Scene, owner: Owner, key: Key, fp: str, **query: str) -> tuple[Device, Message]:
    """A connection that names its owner and its claim, and its first status."""
    device = await scene.connect(fp, email=owner.address, proof=claim_of(key), **query)
    return device, await device.hear()


async def is_welcome(device: Device) -> bool:
    welcome = await device.hear()
    return welcome["code"] == 200 and "peers" in await device.hear()


async def approved(scene: Scene, owner: Owner, key: Key, fp: str = "", name: str = "laptop") -> str:
    """A device that asked with its claim and was approved; its fingerprint."""
    fp = fp or fingerprint_of(key)
    if "session" not in {cookie.name for cookie in owner.http.cookies.jar}:
        await owner.log_in()
    asked = await scene.verify(fp, email=owner.address, proof=claim_of(key), name=name)
    await owner.approve(fp, pair=asked["pair"])
    return fp


async def come_in(scene: Scene, owner: Owner, key: Key, fp: str) -> Device:
    """Connect and prove: in."""
    device, due = await dial(scene, owner, key, fp)
    assert (due["code"], due["proof"]) == (401, kind_of(key))
    await device.say({"command": "prove"} | proof_for(scene, key, due["nonce"]))
    assert await is_welcome(device)
    return device


def proof_for(scene: Scene, key: Key, nonce: str) -> dict[str, str]:
    return key.proof(scene.url, nonce) if isinstance(key, Certificate) else key.proof()


# Asking and being approved


async def test_a_device_that_was_approved_with_a_claim_proves_it_on_every_connection(scene: Scene, key: Key) -> None:
    owner = scene.owner()
    fp = await approved(scene, owner, key)
    for _ in range(2):
        device, due = await dial(scene, owner, key, fp)
        assert due.keys() == {"code", "text", "proof", "nonce"}
        assert (due["code"], due["proof"]) == (401, kind_of(key))
        assert (await device.ask({"command": "get_list"}))["code"] == 401
        await device.say({"command": "prove", "id": "p"} | proof_for(scene, key, due["nonce"]))
        welcome = await device.hear()
        assert welcome == {"code": 200, "text": await owner.uid()}
        assert (await device.hear()).keys() == {"peers", "uid"}
        assert await device.hear() == {"id": "p", "code": 200}  # nothing comes before the welcome
        assert (await device.ask({"command": "get_list"}))["code"] == 200
        await device.leave()


@pytest.mark.parametrize("kind", KEYS)
async def test_every_kind_of_key_that_webrtc_makes_is_let_in(scene: Scene, kind: str) -> None:
    owner, key = scene.owner(), new_certificate(kind)
    await come_in(scene, owner, key, await approved(scene, owner, key))


async def test_a_device_that_proves_itself_while_it_waits_is_in_with_the_approval(scene: Scene, key: Key) -> None:
    owner, fp = scene.owner(), fingerprint_of(key)
    await owner.log_in()
    device, waiting = await dial(scene, owner, key, fp)
    assert "proof" not in waiting
    assert (await prove(scene, device, key, waiting["nonce"]))["code"] == 200
    await owner.approve(fp, pair=waiting["pair"])
    assert await is_welcome(device)


async def test_a_device_that_has_not_proved_itself_is_asked_to_when_it_is_approved(scene: Scene, key: Key) -> None:
    owner, fp = scene.owner(), fingerprint_of(key)
    await owner.log_in()
    device, waiting = await dial(scene, owner, key, fp)
    await owner.approve(fp, pair=waiting["pair"])
    due = await device.hear()
    assert (due["code"], due["proof"], due["nonce"]) == (401, kind_of(key), waiting["nonce"])
    await device.say({"command": "prove"} | proof_for(scene, key, due["nonce"]))
    assert await is_welcome(device)


async def test_there_is_one_request_for_each_claim_with_a_code_of_its_own(scene: Scene) -> None:
    owner, key, secret = scene.owner(), new_certificate(), new_secret()
    asks = [("none", None), ("certificate", "certificate"), ("secret", secret.claim), ("other", new_secret().claim)]
    pairs = {}
    for name, claim in asks:
        asked = [await scene.verify(key.fp, email=owner.address, name=name, proof=claim) for _ in range(2)]
        assert asked[0] == asked[1]  # asking again is the same request
        pairs[name] = asked[0]["pair"]
    assert len(set(pairs.values())) == len(asks)
    await owner.log_in()
    page = await owner.page()
    assert all(pair in page for pair in pairs.values())
    await owner.approve(key.fp, pair=pairs["certificate"])
    page = await owner.page()
    assert "proves itself by certificate" in page
    assert not any(pair in page for pair in pairs.values())  # what proves less can't be approved any more


async def test_an_approval_lets_in_only_connections_of_its_claim(scene: Scene) -> None:
    owner, secret, fp = scene.owner(), new_secret(), new_fingerprint()
    await owner.log_in()
    thief, theirs = await dial(scene, owner, new_secret(), fp)
    device, waiting = await dial(scene, owner, secret, fp)
    bare = await scene.connect(fp, email=owner.address)
    assert theirs["pair"] != waiting["pair"] != (await bare.hear())["pair"]
    await owner.approve(fp, pair=waiting["pair"])
    assert (await device.hear())["proof"] == "secret"
    assert (await bare.hear())["proof"] == "secret"  # less is no way in: it is asked for what was approved
    await thief.hears_nothing()
    assert (await prove(scene, bare, new_secret(), ""))["code"] == 401


async def test_verify_tells_a_program_by_its_claim(scene: Scene, key: Key) -> None:
    owner = scene.owner()
    fp = await approved(scene, owner, key)
    here = {"verified": True, "uid": await owner.uid()}
    assert await scene.verify(fp, email=owner.address, proof=claim_of(key)) == here
    assert await scene.verify(fp, email=owner.address) == here
    other = await scene.verify(fp, email=owner.address, proof=new_secret().claim)
    assert other["verified"] is (kind_of(key) == "certificate")


@pytest.mark.parametrize("claim", ["", "secret", "A" * 42, "A" * 64, 7, ["certificate"], {}])
async def test_a_malformed_claim_is_refused_by_verify(scene: Scene, redis: Redis, claim: object) -> None:
    body = {"fp": new_fingerprint(), "email": "you@example.org", "proof": claim}
    answer = await scene.http.post("/verify", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, 400)
    assert await redis.keys("user:*") == []


async def test_a_malformed_claim_is_refused_on_a_socket_after_the_upgrade(scene: Scene, redis: Redis) -> None:
    device = await scene.connect(email="you@example.org", proof="secret")
    assert (await device.hear())["code"] == 400
    assert await device.close_code() == 4408
    await scene.at_rest()
    assert await redis.keys("user:*") == []


# What proves nothing


async def test_wrong_proofs_are_refused_alike_and_the_fifth_ends_the_connection(scene: Scene, redis: Redis) -> None:
    owner, key = scene.owner(), new_certificate()
    fp = await approved(scene, owner, key)
    other, due_there = await dial(scene, owner, key, fp)
    device, due = await dial(scene, owner, key, fp)
    wrong = [
        new_certificate().proof(scene.url, due["nonce"]),  # another certificate
        key.signed(new_certificate().proof(scene.url, due["nonce"])["signature"].encode()),  # another key
        key.proof(scene.url, due_there["nonce"]),  # what was signed for another connection
        key.proof("https://other.example.org", due["nonce"]),  # or for another server
        new_secret().proof(),  # or something less
    ]
    answers = []
    for proof in wrong:
        answers.append(await device.ask({"command": "prove"} | proof))
    assert len({(answer["code"], answer["text"]) for answer in answers}) == 1
    assert answers[0]["code"] == 401
    assert await device.close_code() == 4408
    assert await redis.hlen(f"online:{{{await owner.uid()}}}") == 0
    assert (await prove(scene, other, key, due_there["nonce"]))["code"] == 200  # the device itself lost nothing


async def test_a_known_hash_without_its_secret_proves_nothing(scene: Scene) -> None:
    owner, secret = scene.owner(), new_secret()
    fp = await approved(scene, owner, secret)
    thief, due = await dial(scene, owner, secret, fp)
    assert due["proof"] == "secret"
    for guess in (secret.claim, new_secret().secret, secret.secret[:-1], secret.secret + "x"):
        answer = await thief.ask({"command": "prove", "secret": guess})
        assert (answer["code"], answer["text"]) == (401, "This proves nothing.")


async def test_who_proves_nothing_learns_nothing(scene: Scene, key: Key) -> None:
    owner = scene.owner()
    fp = await approved(scene, owner, key)
    phone = await scene.join(owner, "phone")
    thief, _ = await dial(scene, owner, key, fp)
    for message in (
        {"command": "get_list"},
        {"command": "ice_servers"},
        {"command": "rename", "name": "mine"},
        {"command": "rekey", "fp": new_fingerprint(), "proof": "certificate"},
        {"target": phone.fp, "offer": "x"},
        {"target": new_fingerprint(), "offer": "x"},
    ):
        answer = await thief.ask(message)
        assert answer["code"] == 401
        assert answer.keys() == {"code", "text", "id"}
    await owner.do(f"/peers/{phone.fp}/rename", name="telephone")
    await phone.hear_update(phone.fp)
    await thief.hears_nothing()
    await phone.hears_nothing()  # and nobody heard of it


async def test_who_proves_nothing_does_not_push_the_device_out(scene: Scene, key: Key) -> None:
    owner = scene.owner()
    fp = await approved(scene, owner, key)
    device = await come_in(scene, owner, key, fp)
    for query in ({"email": owner.address}, {"uid": await owner.uid()}, {}):
        await (await scene.connect(fp, **query)).hear()
        await (await scene.connect(fp, proof=claim_of(key), **query)).hear()
    await scene.at_rest()
    assert [peer["online"] for peer in await device.peers()] == [True]


async def test_a_proof_that_is_due_and_does_not_come_ends_the_connection(scene: Scene, key: Key) -> None:
    owner = scene.owner()
    fp = await approved(scene, owner, key)
    scene.context.presence.proof_timeout = 0.05
    device, due = await dial(scene, owner, key, fp)
    assert due["proof"] == kind_of(key)
    assert await device.close_code() == 4408


async def test_a_proof_in_time_stops_the_clock(scene: Scene, key: Key) -> None:
    owner = scene.owner()
    fp = await approved(scene, owner, key)
    device = await come_in(scene, owner, key, fp)
    connection = next(iter(scene.context.connections))
    assert (connection.timer, connection.due) == (None, None)
    assert (await device.ask({"command": "get_list"}))["code"] == 200


async def test_a_proof_that_the_store_could_not_take_may_be_shown_again(
    scene: Scene, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = scene.owner()
    device, due = await dial(scene, owner, key, await approved(scene, owner, key))

    async def fail(*given: Any, **options: Any) -> None:
        raise Unreachable

    with monkeypatch.context() as trouble:
        trouble.setattr(scene.context.books, "admit", fail)
        assert (await prove(scene, device, key, due["nonce"]))["code"] == 503
    await device.say({"command": "prove"} | proof_for(scene, key, due["nonce"]))
    assert await is_welcome(device)


async def test_a_revoked_device_stays_out_whatever_it_proves(scene: Scene, key: Key) -> None:
    owner = scene.owner()
    fp = await approved(scene, owner, key)
    device = await come_in(scene, owner, key, fp)
    late, _ = await dial(scene, owner, key, fp)
    await owner.do(f"/peers/{fp}/revoke")
    assert [await each.close_code() for each in (device, late)] == [4403, 4403]
    again, denied = await dial(scene, owner, key, fp)
    assert denied.keys() == {"code", "text", "nonce"}
    assert await again.close_code() == 4403


# Claims go up, and never down


async def test_a_certificate_turns_the_request_of_a_waiting_device_into_one_that_proves(scene: Scene) -> None:
    owner, key = scene.owner(), new_certificate()
    await owner.log_in()
    device = await scene.connect(key.fp, email=owner.address, name="laptop")
    waiting = await device.hear()
    assert "It will prove itself" not in await owner.page()
    assert (await prove(scene, device, key, waiting["nonce"]))["code"] == 200
    page = await owner.page()
    assert waiting["pair"] in page  # the code on the device stays good
    assert "It will prove itself with its certificate" in page
    await owner.approve(key.fp, pair=waiting["pair"])
    assert await is_welcome(device)
    assert "proves itself by certificate" in await owner.page()
    bare = await scene.connect(key.fp, email=owner.address)
    assert (await bare.hear())["proof"] == "certificate"


async def test_a_rejected_certificate_is_not_let_in_by_way_of_a_bare_request(scene: Scene) -> None:
    owner, key = scene.owner(), new_certificate()
    await owner.log_in()
    asked = await scene.verify(key.fp, email=owner.address, proof="certificate")
    await owner.do(f"/peers/{key.fp}/reject", pair=asked["pair"])
    device = await scene.connect(key.fp, email=owner.address)
    waiting = await device.hear()
    await device.say({"command": "prove"} | key.proof(scene.url, waiting["nonce"]))
    assert await device.close_code() == 4403
    assert waiting["pair"] not in await owner.page()


async def test_a_device_that_is_in_may_show_its_certificate_and_must_from_then_on(scene: Scene) -> None:
    owner, key = scene.owner(), new_certificate()
    device = await scene.join(owner, "laptop", key.fp)
    await scene.mailbox.next_notice(owner.address)
    await device.leave()
    device = await scene.connect(key.fp, email=owner.address)
    welcome = await device.hear()
    assert "peers" in await device.hear()
    assert (await prove(scene, device, key, welcome["nonce"]))["code"] == 200
    assert "proves itself by certificate" in await owner.page()
    assert "laptop proves itself in another way" in await owner.page()
    notice = await scene.mailbox.next_notice(owner.address)
    assert notice["Subject"] == "A device proves itself in another way"
    assert "laptop" in text_of(notice)
    assert (await device.ask({"command": "get_list"}))["code"] == 200  # and goes on as before
    bare = await scene.connect(key.fp, email=owner.address)
    assert (await bare.hear())["proof"] == "certificate"


async def test_a_device_of_a_secret_may_go_up_to_its_certificate(scene: Scene) -> None:
    owner, secret, key = scene.owner(), new_secret(), new_certificate()
    await approved(scene, owner, secret, key.fp)
    device, due = await dial(scene, owner, key, key.fp)
    assert due["proof"] == "certificate"
    await device.say({"command": "prove"} | key.proof(scene.url, due["nonce"]))
    assert await is_welcome(device)
    late, due = await dial(scene, owner, secret, key.fp)
    assert due["proof"] == "certificate"  # and the secret is not enough any more
    assert (await prove(scene, late, secret, due["nonce"]))["code"] == 401


async def test_a_claim_without_its_proof_raises_nothing(scene: Scene) -> None:
    owner, key = scene.owner(), new_certificate()
    device = await scene.join(owner, "laptop", key.fp)
    thief, due = await dial(scene, owner, key, key.fp)
    assert due["proof"] == "certificate"
    assert (await prove(scene, thief, new_certificate(), due["nonce"]))["code"] == 401
    assert "proves itself by certificate" not in await owner.page()
    await device.leave()
    again = await scene.connect(key.fp, email=owner.address)
    assert (await again.hear())["code"] == 200


async def test_a_secret_for_a_device_approved_without_one_is_for_its_owner_to_answer(scene: Scene) -> None:
    owner, secret, fp = scene.owner(), new_secret(), new_fingerprint()
    bare = await scene.join(owner, "laptop", fp)
    device, waiting = await dial(scene, owner, secret, fp)
    assert (waiting["code"], "pair" in waiting) == (401, True)
    assert (await prove(scene, device, secret, waiting["nonce"]))["code"] == 200
    assert (await bare.ask({"command": "get_list"}))["code"] == 200
    await owner.approve(fp, pair=waiting["pair"])
    assert await is_welcome(device)
    # Whoever only names the fingerprint is not this device any more.
    assert (await bare.hear_until(lambda heard: "code" in heard))["proof"] == "secret"


async def test_another_secret_is_for_the_owner_to_answer_and_the_old_one_ends(scene: Scene) -> None:
    owner, old, new = scene.owner(), new_secret(), new_secret()
    fp = await approved(scene, owner, old)
    before = await come_in(scene, owner, old, fp)
    device, waiting = await dial(scene, owner, new, fp)
    await owner.approve(fp, pair=waiting["pair"])
    assert await before.close_code() == 4403
    assert (await device.hear())["proof"] == "secret"
    await device.say({"command": "prove"} | new.proof())
    assert await is_welcome(device)


async def test_a_request_that_proves_less_cannot_be_approved_over_one_that_proves_more(scene: Scene) -> None:
    owner, key = scene.owner(), new_certificate()
    await owner.log_in()
    bare = await scene.verify(key.fp, email=owner.address)
    device, waiting = await dial(scene, owner, key, key.fp)
    await owner.approve(key.fp, pair=waiting["pair"])
    assert (await owner.act(f"/peers/{key.fp}/approve", pair=bare["pair"])).status_code == 404
    assert "proves itself by certificate" in await owner.page()
    assert (await device.hear())["proof"] == "certificate"


async def test_a_device_entered_ahead_binds_its_claim_once_it_has_proved_it(scene: Scene, key: Key) -> None:
    owner, fp = scene.owner(), fingerprint_of(key)
    await owner.log_in()
    await owner.do("/peers", fp=fp, name="doorbell")
    assert (await scene.verify(fp, email=owner.address, proof=claim_of(key)))["verified"] is True
    claimant, due = await dial(scene, owner, key, fp)
    assert due["proof"] == kind_of(key)
    assert "Not seen yet" in await owner.page()  # a claim alone binds nothing
    assert (await prove(scene, claimant, new_secret(), due["nonce"]))["code"] == 401
    await come_in(scene, owner, key, fp)
    assert f"proves itself by {kind_of(key)}" in await owner.page()


# Demanding proof


async def test_where_proof_is_demanded_a_bare_device_is_in_once_it_shows_its_certificate(scene: Scene) -> None:
    owner, key = scene.owner(), new_certificate()
    device = await scene.join(owner, "laptop", key.fp)
    await device.leave()
    await owner.do("/account/require-proof", on="1")
    device = await scene.connect(key.fp, email=owner.address)
    shut_out = await device.hear()
    assert shut_out.keys() == {"code", "text", "nonce"}
    await device.say({"command": "prove"} | key.proof(scene.url, shut_out["nonce"]))
    assert await is_welcome(device)


async def test_devices_that_prove_themselves_do_not_notice_that_it_is_demanded(scene: Scene, key: Key) -> None:
    owner = scene.owner()
    fp = await approved(scene, owner, key)
    device = await come_in(scene, owner, key, fp)
    await owner.do("/account/require-proof", on="1")
    await scene.at_rest()
    assert (await device.ask({"command": "get_list"}))["code"] == 200
    await device.leave()
    await come_in(scene, owner, key, fp)


async def test_a_server_may_demand_proof_for_all_its_books(start: Start) -> None:
    scene = await start(require_proof=True)
    owner, key = scene.owner(), new_certificate()
    await owner.log_in()
    bare = await scene.connect(email=owner.address)
    await owner.approve(bare.fp, pair=(await bare.hear())["pair"])
    await scene.at_rest()
    assert (await bare.ask({"command": "get_list"}))["code"] == 401
    again = await scene.connect(bare.fp)
    assert (await again.hear())["code"] == 401
    page = await owner.page()
    assert "proof is demanded" in page
    assert "This server demands proof" in page
    assert 'action="/account/require-proof"' not in page
    await come_in(scene, owner, key, await approved(scene, owner, key, name="phone"))


# Naming nobody


async def test_a_device_that_proved_itself_in_a_book_may_come_back_naming_nobody(scene: Scene, key: Key) -> None:
    owner = scene.owner()
    fp = await approved(scene, owner, key)
    await (await come_in(scene, owner, key, fp)).leave()
    device = await scene.connect(fp, proof=claim_of(key))
    due = await device.hear()
    assert due["proof"] == kind_of(key)
    await device.say({"command": "prove"} | proof_for(scene, key, due["nonce"]))
    assert await is_welcome(device)


async def test_a_device_that_names_nobody_is_in_once_it_shows_a_certificate_known_here(scene: Scene) -> None:
    owner, key = scene.owner(), new_certificate()
    await (await come_in(scene, owner, key, await approved(scene, owner, key))).leave()
    device = await scene.connect(key.fp)
    due = await device.hear()
    assert due["proof"] == "certificate"
    await device.say({"command": "prove"} | key.proof(scene.url, due["nonce"]))
    assert await is_welcome(device)


async def test_a_device_that_waits_and_names_nobody_may_prove_itself_and_finds_its_book_later(scene: Scene) -> None:
    owner, key = scene.owner(), new_certificate()
    waiting = await scene.connect(key.fp)
    heard = await waiting.hear()
    assert (await prove(scene, waiting, key, heard["nonce"]))["code"] == 200
    fp = await approved(scene, owner, key)
    await scene.at_rest()
    await waiting.hears_nothing()  # this book it has never named
    await (await come_in(scene, owner, key, fp)).leave()
    assert (await prove(scene, waiting, key, heard["nonce"]))["code"] == 200
    assert (await waiting.ask({"command": "get_list"}))["code"] == 200


async def test_a_device_that_is_in_without_naming_its_owner_cannot_raise_its_claim(scene: Scene) -> None:
    owner, key = scene.owner(), new_certificate()
    await (await scene.join(owner, "laptop", key.fp)).leave()
    device = await scene.connect(key.fp)
    welcome = await device.hear()
    assert "peers" in await device.hear()
    assert (await prove(scene, device, key, welcome["nonce"]))["code"] == 400
    assert (await device.ask({"command": "get_list"}))["code"] == 200
    assert "proves itself by certificate" not in await owner.page()


async def test_an_invited_device_proves_itself_like_any_other(scene: Scene, key: Key) -> None:
    owner, fp = scene.owner(), fingerprint_of(key)
    await owner.log_in()
    device = await scene.connect(fp, invite=await new_code(owner), proof=claim_of(key))
    due = await device.hear()
    assert due["proof"] == kind_of(key)
    await device.say({"command": "prove"} | proof_for(scene, key, due["nonce"]))
    assert await is_welcome(device)


# Two processes


async def test_a_claim_that_goes_up_in_one_process_holds_in_the_other(start: Start) -> None:
    here, there = await start(), await start()
    owner, key = here.owner(), new_certificate()
    device = await here.join(owner, "laptop", key.fp)
    far = await there.connect(key.fp, email=owner.address)
    welcome = await far.hear()
    assert welcome["code"] == 200
    assert await device.close_code() == 4409
    assert "peers" in await far.hear()
    assert (await prove(there, far, key, welcome["nonce"]))["code"] == 200
    await eventually(lambda: not here.context.background._tasks)
    bare = await here.connect(key.fp, email=owner.address)
    assert (await bare.hear())["proof"] == "certificate"
