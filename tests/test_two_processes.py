"""Two servers on one store, as two processes of one deployment are."""

import asyncio

import pytest

from tests.conftest import Start
from tests.support import SECONDS, Device, Owner, Scene

Pair = tuple[Scene, Scene]


@pytest.fixture
async def two(start: Start) -> Pair:
    return await start(), await start()


async def join_both(two: Pair) -> tuple[Owner, Device, Device]:
    """An owner with a laptop on the first process and a phone on the second, both of which know of each other."""
    owner = two[0].owner()
    laptop = await two[0].join(owner, "laptop")
    phone = await two[1].join(owner, "phone")
    await laptop.hear_until(lambda heard: heard.get("peer_update", {}).get("online") is True)
    return owner, laptop, phone


async def test_peers_of_two_processes_see_each_other(two: Pair) -> None:
    _, laptop, phone = await join_both(two)
    for device in (laptop, phone):
        assert {peer["name"]: peer["online"] for peer in await device.peers()} == {"laptop": True, "phone": True}


async def test_signals_go_both_ways_in_order(two: Pair) -> None:
    _, laptop, phone = await join_both(two)
    for number in range(50):
        await laptop.say({"target": phone.fp, "candidate": number})
        await phone.say({"target": laptop.fp, "candidate": number})
    for device in (laptop, phone):
        assert [(await device.hear())["candidate"] for _ in range(50)] == list(range(50))


async def test_a_signal_to_another_process_is_acknowledged(two: Pair) -> None:
    _, laptop, phone = await join_both(two)
    assert (await laptop.ask({"target": phone.fp, "offer": "o"}))["code"] == 200
    assert await phone.hear() == {"source_fp": laptop.fp, "source_name": "laptop", "offer": "o"}


async def test_an_approval_on_one_process_lets_in_a_socket_that_waits_on_the_other(two: Pair) -> None:
    owner = two[0].owner()
    device = await two[1].connect(email=owner.address)
    assert (await device.hear())["code"] == 401
    await owner.log_in()
    await owner.approve(device.fp)
    assert (await device.hear())["code"] == 200
    assert "peers" in await device.hear()


async def test_an_approval_lets_in_a_socket_on_the_other_process_that_names_nobody(two: Pair) -> None:
    owner = two[0].owner()
    device = await two[1].connect()
    assert (await device.hear())["code"] == 401
    await two[0].verify(device.fp, email=owner.address)
    await owner.log_in()
    await owner.approve(device.fp)
    assert (await device.hear())["code"] == 200


async def test_a_device_that_is_entered_ahead_on_one_process_is_let_in_on_the_other(two: Pair) -> None:
    owner = two[0].owner()
    device = await two[1].connect()
    assert (await device.hear())["code"] == 401
    await owner.log_in()
    await owner.do("/peers", fp=device.fp, name="doorbell")
    assert (await device.hear())["code"] == 200


@pytest.mark.parametrize("act", ["revoke", "remove"])
async def test_a_peer_that_is_shut_out_on_one_process_is_closed_on_the_other(two: Pair, act: str) -> None:
    owner, laptop, phone = await join_both(two)
    await owner.do(f"/peers/{phone.fp}/{act}")
    assert await phone.close_code() == 4403
    assert (await laptop.hear_update(phone.fp))["verified"] is False
    assert (await laptop.ask({"target": phone.fp, "offer": 1}))["code"] == 404


async def test_a_rejection_on_one_process_closes_a_socket_that_waits_on_the_other(two: Pair) -> None:
    owner = two[0].owner()
    device = await two[1].connect(email=owner.address)
    await device.hear()
    await owner.log_in()
    await owner.do(f"/peers/{device.fp}/reject")
    assert await device.close_code() == 4403


async def test_the_newest_connection_wins_over_one_on_another_process(two: Pair) -> None:
    owner, laptop, phone = await join_both(two)
    newer = await two[0].join(owner, fp=phone.fp)
    assert await phone.close_code() == 4409
    await two[1].at_rest()
    assert (await laptop.ask({"target": phone.fp, "offer": "o"}))["code"] == 200
    assert (await newer.hear())["offer"] == "o"


async def test_a_rename_on_one_process_is_heard_on_the_other(two: Pair) -> None:
    _, laptop, phone = await join_both(two)
    assert (await phone.ask({"command": "rename", "name": "Pixel"}))["code"] == 200
    assert (await laptop.hear_update(phone.fp))["name"] == "Pixel"
    await phone.say({"target": laptop.fp, "offer": "o"})
    assert (await laptop.hear())["source_name"] == "Pixel"


async def test_a_connection_that_the_other_process_does_not_have_any_more_is_410(two: Pair) -> None:
    _, laptop, phone = await join_both(two)
    (connection,) = two[1].context.connections
    two[1].context.connections.discard(connection)  # gone, and the news of it still on its way
    await laptop.say({"target": phone.fp, "offer": "o", "id": 1})
    answer = await laptop.hear_until(lambda heard: heard.get("code") == 410)
    assert answer.keys() == {"code", "text", "last_seen", "id"}


async def test_the_peers_of_a_process_that_stops_go_offline(two: Pair) -> None:
    two[0].tell_absences_after(0)
    _, laptop, phone = await join_both(two)
    await two[1].stop()
    assert await phone.close_code() == 1001
    assert await laptop.hear_update(phone.fp) == {"verified": True, "online": False, "name": "phone"}
    assert (await laptop.ask({"target": phone.fp, "offer": 1}))["code"] == 410


async def test_a_peer_that_moves_to_another_process_stays_reachable(two: Pair) -> None:
    owner, laptop, phone = await join_both(two)
    await two[1].stop()
    assert await phone.close_code() == 1001
    again = await two[0].join(owner, fp=phone.fp)
    assert (await laptop.ask({"target": phone.fp, "offer": "o"}))["code"] == 200
    assert (await again.hear())["offer"] == "o"


async def test_the_list_on_one_process_tells_that_a_peer_left_the_other(two: Pair) -> None:
    _, laptop, phone = await join_both(two)
    await phone.leave()
    async with asyncio.timeout(SECONDS):
        while {peer["name"]: peer["online"] for peer in await laptop.peers()} != {"laptop": True, "phone": False}:
            pass
    assert (await laptop.ask({"target": phone.fp, "offer": "o"}))["code"] == 410


async def test_a_link_that_one_process_mailed_opens_the_book_on_the_other(two: Pair) -> None:
    owner = two[0].owner()
    await owner.http.post("/login", data={"email": owner.address})
    link = await owner.mailbox.next_link(owner.address)
    other = two[1].owner(owner.address)
    path = link.removeprefix(two[0].url)
    assert (await other.http.post(path)).status_code == 303
    assert (await owner.http.post(path)).status_code == 410
