"""The WebSocket as peers meet it: being let in, the list, forwarding, news of others, errors and close codes."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.conftest import Start
from tests.support import Device, Message, Scene, eventually, new_fingerprint

EIGHT = {"name", "fp", "kind", "created_on", "last_seen", "verified_on", "verified", "online"}
SERVER_WORDS = (
    *("code", "text", "pair", "nonce", "proof", "uid", "verified", "peers", "peer_update", "ice_servers"),
    *("command", "source_fp", "source_name", "last_seen"),
)


def has_list(heard: Message) -> bool:
    return "peers" in heard


async def here(scene: Scene, device: Device) -> None:
    """Wait until the server knows that the device is gone."""
    await eventually(lambda: all(each.fp != device.fp for each in scene.context.connections))
    await scene.at_rest()


# Being let in


async def test_a_verified_peer_hears_200_then_the_list_and_nothing_before(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.join(owner)
    again = await scene.connect(device.fp, email=owner.address)
    welcome, listed = await again.hear(), await again.hear()
    assert welcome.keys() == {"code", "text", "nonce"}
    assert (welcome["code"], welcome["text"]) == (200, await owner.uid())
    assert listed.keys() == {"peers", "uid"}
    assert listed["uid"] == welcome["text"]
    await again.hears_nothing()


async def test_nothing_comes_before_the_welcome_while_others_are_talking(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    for _ in range(20):
        for number in range(20):
            await laptop.say({"target": phone.fp, "candidate": number})
        phone = await scene.connect(phone.fp, email=owner.address)
        assert (await phone.hear())["code"] == 200
        assert "peers" in await phone.hear()


async def test_a_new_device_waits_with_a_code_and_is_let_in_the_moment_it_is_approved(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.connect(email=owner.address, name="laptop")
    waiting = await device.hear()
    assert waiting.keys() == {"code", "text", "pair", "nonce"}
    assert waiting["code"] == 401
    await owner.open_link(await scene.mailbox.next_link(owner.address))
    await owner.approve(device.fp, pair=waiting["pair"])
    welcome, listed = await device.hear(), await device.hear()
    assert welcome == {"code": 200, "text": await owner.uid()}
    assert [peer["fp"] for peer in listed["peers"]] == [device.fp]


async def test_a_device_that_was_entered_ahead_is_in_at_once_and_as_its_owner_named_it(scene: Scene) -> None:
    owner, fp = scene.owner(), new_fingerprint()
    await owner.log_in()
    await owner.do("/peers", fp=fp, name="doorbell", kind="bell")
    device = await scene.connect(fp, email=owner.address, name="evil", kind="evil")
    assert (await device.hear())["code"] == 200
    (peer,) = (await device.hear())["peers"]
    assert (peer["name"], peer["kind"], peer["verified"]) == ("doorbell", "bell", True)


async def test_a_waiting_device_is_let_in_when_its_owner_enters_it_ahead(scene: Scene) -> None:
    owner, fp = scene.owner(), new_fingerprint()
    await owner.log_in()
    device = await scene.connect(fp)
    assert (await device.hear())["code"] == 401
    await owner.do("/peers", fp=fp, name="doorbell")
    assert (await device.hear())["code"] == 200


async def test_a_socket_that_names_nobody_waits_and_is_let_in_after_a_verify_and_its_approval(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.connect()
    waiting = await device.hear()
    assert waiting.keys() == {"code", "text", "nonce"}
    await scene.verify(device.fp, email=owner.address)
    await owner.open_link(await scene.mailbox.next_link(owner.address))
    await owner.approve(device.fp)
    assert (await device.hear())["code"] == 200
    assert "peers" in await device.hear()


async def test_two_sockets_of_different_owners_wait_and_each_gets_its_own_book(scene: Scene) -> None:
    mine, other = scene.owner(), scene.owner()
    fp = new_fingerprint()
    first, second = await scene.connect(fp, email=mine.address), await scene.connect(fp, email=other.address)
    await first.hear()
    await second.hear()
    for owner in (mine, other):
        await owner.log_in()
        await owner.approve(fp)
    assert (await first.hear())["text"] == await mine.uid()
    assert (await second.hear())["text"] == await other.uid()


# Which book?


async def test_a_socket_that_names_nobody_enters_the_book_that_has_it(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.join(owner)
    again = await scene.connect(device.fp)
    assert (await again.hear())["text"] == await owner.uid()


async def test_a_socket_that_names_nobody_enters_the_book_that_verified_it_first(scene: Scene, redis: Redis) -> None:
    late, early = scene.owner(), scene.owner()
    fp = new_fingerprint()
    for owner, verified_on in ((late, 2000), (early, 1000)):
        await (await scene.join(owner, fp=fp)).leave()
        await redis.hset(f"peer:{{{await owner.uid()}}}:{fp}", "verified_on", verified_on)
    device = await scene.connect(fp)
    assert (await device.hear())["text"] == await early.uid()


async def test_a_socket_that_names_an_owner_never_enters_another_book(scene: Scene) -> None:
    device = await scene.join(scene.owner())
    for naming in ({"email": scene.owner().address}, {"uid": "0" * 32}, {"uid": "no uid at all"}):
        stray = await scene.connect(device.fp, **naming)
        assert (await stray.hear())["code"] == 401
        assert (await stray.ask({"command": "get_list"}))["code"] == 401


async def test_the_uid_wins_over_the_address(scene: Scene) -> None:
    mine, other = scene.owner(), scene.owner()
    device = await scene.join(mine)
    again = await scene.connect(device.fp, uid=await mine.uid(), email=other.address)
    assert (await again.hear())["text"] == await mine.uid()


async def test_a_bad_address_counts_as_none(scene: Scene) -> None:
    device = await scene.join(scene.owner())
    again = await scene.connect(device.fp, email="no address")
    assert (await again.hear())["code"] == 200


async def test_an_address_that_is_not_served_waits_like_any_other(start: Start) -> None:
    scene = await start(owners=("@example.org",))
    device = await scene.connect(email="somebody@example.com")
    assert (await device.hear()).keys() == {"code", "text", "pair", "nonce"}


async def test_a_bad_name_and_kind_are_cleaned(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.connect(email=owner.address, name="\u202e \x07", kind="!")
    assert (await device.hear())["code"] == 401
    await owner.log_in()
    await owner.approve(device.fp)
    (peer,) = (await device.hear_until(has_list))["peers"]
    assert (peer["name"], peer["kind"]) == ("peer", "peer")


async def test_the_name_and_kind_of_a_known_peer_are_ignored(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.join(owner, "laptop")
    again = await scene.connect(device.fp, email=owner.address, name="evil", kind="evil")
    (peer,) = (await again.hear_until(has_list))["peers"]
    assert (peer["name"], peer["kind"]) == ("laptop", "peer")


# The list


async def test_a_peer_object_has_exactly_eight_members(scene: Scene) -> None:
    device = await scene.join(scene.owner())
    (peer,) = await device.peers()
    assert peer.keys() == EIGHT
    times = [peer["created_on"], peer["last_seen"], peer["verified_on"]]
    assert all(type(time) is int and time > 1_700_000_000 for time in times)
    assert (peer["verified"], peer["online"], peer["fp"]) == (True, True, device.fp)


async def test_the_list_is_sorted_by_name(scene: Scene) -> None:
    owner = scene.owner()
    for name in ("tablet", "phone", "Laptop", "ähre"):
        device = await scene.join(owner, name)
    assert [peer["name"] for peer in await device.peers()] == ["Laptop", "phone", "tablet", "ähre"]


async def test_revoked_peers_are_listed_and_those_entered_ahead_are_not(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await owner.do("/peers", fp=new_fingerprint(), name="doorbell")
    await owner.do(f"/peers/{phone.fp}/revoke")
    peers = {peer["name"]: peer for peer in await laptop.peers()}
    assert peers.keys() == {"laptop", "phone"}
    assert (peers["phone"]["verified"], peers["phone"]["online"]) == (False, False)


async def test_an_asked_list_is_acknowledged_after_it_was_sent(scene: Scene) -> None:
    device = await scene.join(scene.owner())
    await device.say({"command": "get_list", "id": "a"})
    assert (await device.hear()).keys() == {"peers", "uid"}
    assert await device.hear() == {"id": "a", "code": 200}


async def test_the_ice_servers_come_over_the_socket(start: Start) -> None:
    servers = [{"urls": ["stun:stun.example.org:3478"]}]
    scene = await start(ice_servers=tuple(servers))
    device = await scene.join(scene.owner())
    await device.say({"command": "ice_servers"})
    assert await device.hear() == {"ice_servers": servers}


# Forwarding


@pytest.mark.parametrize("kind", ["offer", "answer", "candidate"])
@pytest.mark.parametrize("value", ["eyJ0eXBlIjoib2ZmZXIifQ==", {"sdp": "v=0\r\n"}, [1, None], 0, None, "", 1.5])
async def test_a_signal_reaches_its_target_untouched(scene: Scene, kind: str, value: Any) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await laptop.say({"target": phone.fp, kind: value, "session": 7})
    heard = await phone.hear()
    assert heard == {"source_fp": laptop.fp, "source_name": "laptop", kind: value, "session": 7}


async def test_the_servers_own_words_are_dropped_from_a_signal(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await laptop.say({"target": phone.fp, "offer": "o", "id": "x"} | dict.fromkeys(SERVER_WORDS, "forged"))
    assert await phone.hear() == {"source_fp": laptop.fp, "source_name": "laptop", "offer": "o"}


async def test_a_target_may_be_named_in_every_form(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    colons = ":".join(phone.fp[i : i + 2] for i in range(0, 64, 2)).lower()
    for form in (phone.fp.lower(), colons, f"sha-256 {colons}"):
        assert (await laptop.ask({"target": form, "offer": form}))["code"] == 200
        assert (await phone.hear())["offer"] == form


@pytest.mark.parametrize("message_id", ["", "a" * 64, 0, -1, 2**53, "é"])
async def test_an_id_is_acknowledged_as_it_was_sent(scene: Scene, message_id: str | int) -> None:
    device = await scene.join(scene.owner())
    await device.say({"target": device.fp, "offer": "to myself", "id": message_id})
    assert (await device.hear()).keys() == {"source_fp", "source_name", "offer"}
    assert await device.hear() == {"id": message_id, "code": 200}


async def test_a_message_without_an_id_is_not_acknowledged(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await laptop.hear_update(phone.fp)
    await laptop.hear_update(phone.fp)
    await laptop.say({"target": phone.fp, "offer": "o"})
    await phone.hear()
    await laptop.hears_nothing()


async def test_a_message_as_large_as_may_be_is_forwarded(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    frame = f'{{"target":"{phone.fp}","offer":"%s"}}'
    frame = frame % ("x" * (65536 - len(frame) + 2))
    assert len(frame) == 65536
    await laptop.say(frame)
    assert len((await phone.hear())["offer"]) > 65000


# Errors, in their order


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("not JSON", id="not json"),
        pytest.param("[1]", id="not an object"),
        pytest.param("{}", id="empty"),
        pytest.param('{"command": "fly"}', id="unknown command"),
        pytest.param('{"target": "00", "offer": 1}', id="bad fingerprint"),
        pytest.param('{"offer": 1}', id="no target"),
        pytest.param(f'{{"target": "{"AB" * 32}"}}', id="nothing to forward"),
        pytest.param(f'{{"target": "{"AB" * 32}", "offer": 1, "answer": 1}}', id="offer and answer"),
        pytest.param('{"command": "rename", "name": ""}', id="bad name"),
        pytest.param('{"command": "get_list", "id": true}', id="bad id"),
    ],
)
@pytest.mark.parametrize("is_in", [True, False], ids=["in", "waiting"])
async def test_what_cannot_be_read_is_400_before_anything_else(scene: Scene, message: str, is_in: bool) -> None:
    device = await scene.join(scene.owner()) if is_in else await scene.connect(email=scene.owner().address)
    if not is_in:
        await device.hear()
    await device.say(message)
    heard = await device.hear()
    assert heard["code"] == 400
    assert heard.keys() == {"code", "text"}


async def test_an_error_carries_the_id_of_its_message(scene: Scene) -> None:
    device = await scene.join(scene.owner())
    assert (await device.ask({"command": "fly"}))["code"] == 400
    assert (await device.ask({"target": new_fingerprint(), "offer": 1}))["code"] == 404


@pytest.mark.parametrize(
    "message",
    [
        {"command": "get_list"},
        {"command": "ice_servers"},
        {"command": "rename", "name": "x"},
        {"target": "AB" * 32, "offer": 1},
    ],
    ids=lambda message: str(message.get("command", "offer")),
)
async def test_a_waiting_device_gets_401_whatever_it_asks(scene: Scene, message: Message) -> None:
    device = await scene.connect(email=scene.owner().address)
    await device.hear()
    answer = await device.ask(message)
    assert answer["code"] == 401
    assert answer.keys() == {"code", "text", "id"}


async def test_an_unknown_target_is_404(scene: Scene) -> None:
    device = await scene.join(scene.owner())
    assert (await device.ask({"target": new_fingerprint(), "offer": 1}))["code"] == 404


async def test_a_target_that_is_revoked_is_404(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await owner.do(f"/peers/{phone.fp}/revoke")
    assert (await laptop.ask({"target": phone.fp, "offer": 1}))["code"] == 404


async def test_an_offline_target_is_410_with_the_time_it_was_last_seen(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await phone.leave()
    await here(scene, phone)
    answer = await laptop.ask({"target": phone.fp, "offer": 1})
    assert answer.keys() == {"code", "text", "last_seen", "id"}
    assert answer["code"] == 410
    assert answer["last_seen"] == next(peer for peer in await laptop.peers() if peer["fp"] == phone.fp)["last_seen"]


async def test_a_target_whose_socket_ended_a_moment_ago_is_410(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    connection = next(each for each in scene.context.connections if each.fp == phone.fp)
    scene.context.connections.discard(connection)  # as it is while the store is being told
    assert (await laptop.ask({"target": phone.fp, "offer": 1}))["code"] == 410


async def test_a_target_that_never_connected_since_its_approval_was_last_seen_never(scene: Scene) -> None:
    owner, fp = scene.owner(), new_fingerprint()
    laptop = await scene.join(owner)
    await scene.verify(fp, email=owner.address)
    await owner.approve(fp)
    assert (await laptop.ask({"target": fp, "offer": 1}))["last_seen"] == 0


async def test_a_target_that_reads_too_slowly_is_503_and_served_again_when_it_has_read(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    sent = 0
    while (answer := await laptop.ask({"target": phone.fp, "offer": "x" * 60000}))["code"] == 200:
        sent += 1
        assert sent < 1000, "everything was queued"
    assert answer["code"] == 503
    for _ in range(sent):
        assert "offer" in await phone.hear()
    assert (await laptop.ask({"target": phone.fp, "offer": "small"}))["code"] == 200
    assert (await phone.hear())["offer"] == "small"


async def test_a_binary_frame_is_400_and_the_socket_stays_open(scene: Scene) -> None:
    device = await scene.join(scene.owner())
    await device.say(b'{"command": "get_list"}')
    assert (await device.hear())["code"] == 400
    assert len(await device.peers()) == 1


# News of others


async def test_the_others_hear_of_a_peer_that_comes(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    assert await laptop.hear() == {
        "source_fp": phone.fp,
        "peer_update": {"verified": True, "online": False, "name": "phone"},
    }
    assert await laptop.hear() == {
        "source_fp": phone.fp,
        "peer_update": {"verified": True, "online": True, "name": "phone"},
    }
    await phone.hears_nothing()


async def test_the_others_hear_of_a_peer_that_leaves_after_the_delay(scene: Scene) -> None:
    scene.tell_absences_after(0.01)
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await laptop.hear_until(lambda heard: heard.get("peer_update", {}).get("online") is True)
    await phone.leave()
    assert await laptop.hear_update(phone.fp) == {"verified": True, "online": False, "name": "phone"}


async def test_nobody_hears_of_an_absence_before_the_delay_but_the_list_tells_it_at_once(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await laptop.hear_until(lambda heard: heard.get("peer_update", {}).get("online") is True)
    await phone.leave()
    await here(scene, phone)
    await laptop.hears_nothing()
    assert {peer["name"]: peer["online"] for peer in await laptop.peers()} == {"laptop": True, "phone": False}


async def test_an_absence_that_ends_within_the_delay_is_never_told(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await laptop.hear_until(lambda heard: heard.get("peer_update", {}).get("online") is True)
    await phone.leave()
    await here(scene, phone)
    await scene.join(owner, fp=phone.fp)
    assert (await laptop.hear())["peer_update"]["online"] is True
    await laptop.hears_nothing()
    assert not scene.context.absences._timers


async def test_a_peer_that_is_renamed_hears_it_like_the_others(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await owner.do(f"/peers/{phone.fp}/rename", name="Pixel")
    renamed = {"source_fp": phone.fp, "peer_update": {"verified": True, "online": True, "name": "Pixel"}}
    assert await phone.hear() == renamed
    assert await laptop.hear_until(lambda heard: heard == renamed)


async def test_the_others_hear_of_a_revoked_peer(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await owner.do(f"/peers/{phone.fp}/revoke")
    revoked = {"verified": False, "online": False, "name": "phone"}
    assert await laptop.hear_until(lambda heard: heard.get("peer_update") == revoked)


async def test_the_others_hear_of_a_removed_peer_and_do_not_see_it_any_more(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await owner.do(f"/peers/{phone.fp}/remove")
    removed = {"verified": False, "online": False, "name": "phone"}
    assert await laptop.hear_until(lambda heard: heard.get("peer_update") == removed)
    assert [peer["fp"] for peer in await laptop.peers()] == [laptop.fp]


async def test_a_device_that_was_entered_ahead_shows_when_it_was_seen(scene: Scene) -> None:
    owner, fp = scene.owner(), new_fingerprint()
    laptop = await scene.join(owner)
    await owner.do("/peers", fp=fp, name="doorbell")
    await laptop.hears_nothing()
    await scene.join(owner, fp=fp)
    assert await laptop.hear_until(lambda heard: heard.get("peer_update", {}).get("name") == "doorbell")


async def test_a_peer_shown_online_is_already_listening(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await laptop.hear_until(lambda heard: heard.get("peer_update", {}).get("online") is True)
    await phone.leave()
    await here(scene, phone)
    connecting = asyncio.create_task(scene.connect(phone.fp, email=owner.address))
    await laptop.hear_until(lambda heard: heard.get("peer_update", {}).get("online") is True)
    assert (await laptop.ask({"target": phone.fp, "offer": "now"}))["code"] == 200
    phone = await connecting
    assert [next(iter(await phone.hear())) for _ in range(3)] == ["code", "peers", "source_fp"]


# Renaming


async def test_a_peer_renames_itself(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await phone.say({"command": "rename", "name": " My  Pixel ", "id": 1})
    heard = [await phone.hear(), await phone.hear()]
    update = {"source_fp": phone.fp, "peer_update": {"verified": True, "online": True, "name": "My Pixel"}}
    assert {"id": 1, "code": 200} in heard
    assert update in heard
    assert await laptop.hear_until(lambda message: message == update)


async def test_a_name_that_another_peer_has_is_409_in_any_case(scene: Scene) -> None:
    owner = scene.owner()
    await scene.join(owner, "laptop")
    phone = await scene.join(owner, "phone")
    for name in ("laptop", "LAPTOP"):
        assert (await phone.ask({"command": "rename", "name": name}))["code"] == 409
    assert (await phone.ask({"command": "rename", "name": "PHONE"}))["code"] == 200


@pytest.mark.parametrize("name", ["", "   ", "\u200b", "x" * 65, None, 7, ["x"]])
async def test_a_bad_name_is_400(scene: Scene, name: Any) -> None:
    device = await scene.join(scene.owner())
    assert (await device.ask({"command": "rename", "name": name}))["code"] == 400


async def test_messages_behind_a_rename_are_served_after_it_and_in_order(scene: Scene) -> None:
    device = await scene.join(scene.owner())
    for number in range(5):
        await device.say({"command": "rename", "name": f"name {number}", "id": number})
    await device.say({"command": "get_list", "id": 5})
    ids = []
    while 5 not in ids:
        heard = await device.hear()
        if "id" in heard:
            assert heard["code"] == 200
            ids.append(heard["id"])
        elif "peers" in heard:
            assert heard["peers"][0]["name"] == "name 4"
    assert ids == [0, 1, 2, 3, 4, 5]


# Close codes


async def test_a_request_that_nobody_answers_closes_with_4401(start: Start) -> None:
    scene = await start(wait_timeout=1)
    device = await scene.connect(email=scene.owner().address)
    assert await device.close_code() == 4401


async def test_an_approved_device_is_not_closed_when_its_wait_would_have_ended(start: Start) -> None:
    scene = await start(wait_timeout=1)
    owner = scene.owner()
    await owner.log_in()
    late = await scene.connect(email=scene.owner().address)
    device = await scene.join(owner)
    assert await late.close_code() == 4401
    later = await scene.connect()
    assert await later.close_code() == 4401
    await device.hears_nothing()


async def test_a_rejected_device_is_closed_with_4403(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.connect(email=owner.address)
    pair = (await device.hear())["pair"]
    await owner.log_in()
    await owner.do(f"/peers/{device.fp}/reject", pair=pair)
    assert await device.close_code() == 4403


@pytest.mark.parametrize("act", ["revoke", "remove"])
async def test_a_peer_that_is_shut_out_is_closed_with_4403(scene: Scene, act: str) -> None:
    owner = scene.owner()
    device = await scene.join(owner)
    await owner.do(f"/peers/{device.fp}/{act}")
    assert await device.close_code() == 4403


@pytest.mark.parametrize("act", ["reject", "revoke", "remove"])
async def test_a_denied_device_that_dials_again_gets_401_without_a_code_and_4403(scene: Scene, act: str) -> None:
    owner = scene.owner()
    await owner.log_in()
    device = await scene.connect(email=owner.address)
    await device.hear()
    if act != "reject":
        await owner.approve(device.fp)
    await owner.do(f"/peers/{device.fp}/{act}")
    await device.close_code()
    await scene.at_rest()
    scene.mailbox.mails.clear()
    again = await scene.connect(device.fp, email=owner.address)
    assert (await again.hear()).keys() == {"code", "text", "nonce"}
    assert await again.close_code() == 4403
    await scene.at_rest()
    assert scene.mailbox.mails == []
    assert 'class="pair"' not in await owner.page()


async def test_a_revoked_device_is_let_in_again_when_its_owner_approves_it_again(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.join(owner, "laptop")
    await owner.do(f"/peers/{device.fp}/revoke")
    await device.close_code()
    await owner.approve(device.fp)
    (peer,) = await (await scene.join(owner, fp=device.fp)).peers()
    assert (peer["name"], peer["verified"]) == ("laptop", True)


async def test_the_newest_connection_of_a_fingerprint_wins(scene: Scene) -> None:
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    newer = await scene.join(owner, fp=phone.fp)
    assert await phone.close_code() == 4409
    await here_once(scene, phone.fp)
    assert (await laptop.ask({"target": phone.fp, "offer": 1}))["code"] == 200
    assert (await newer.hear())["offer"] == 1


async def here_once(scene: Scene, fp: str) -> None:
    """Wait until the server holds one connection of that fingerprint."""
    await eventually(lambda: sum(each.fp == fp for each in scene.context.connections) == 1)
    await scene.at_rest()


async def test_the_others_hear_nothing_of_a_replaced_connection(scene: Scene) -> None:
    scene.tell_absences_after(0)
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    await laptop.hear_until(lambda heard: heard.get("peer_update", {}).get("online") is True)
    await scene.join(owner, fp=phone.fp)
    await phone.close_code()
    await here_once(scene, phone.fp)
    await laptop.hears_nothing()


async def test_a_waiting_connection_replaces_nobody(scene: Scene) -> None:
    device = await scene.join(scene.owner())
    stray = await scene.connect(device.fp, email=scene.owner().address)
    assert (await stray.hear())["code"] == 401
    await device.hears_nothing()


async def test_a_server_that_stops_says_1001(scene: Scene) -> None:
    inside = await scene.join(scene.owner())
    waiting = await scene.connect(email=scene.owner().address)
    await scene.stop()
    assert await inside.close_code() == 1001
    assert await waiting.close_code() == 1001


async def test_a_mail_that_was_begun_still_goes_out_when_the_server_stops(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.connect(email=owner.address)
    await device.hear()
    await scene.stop()
    assert [to for to, _ in scene.mailbox.mails] == [owner.address]


async def test_a_message_that_is_too_large_closes_with_1009(scene: Scene) -> None:
    device = await scene.join(scene.owner())
    await device.say("x" * 65537)
    assert await device.close_code() == 1009
