"""Admission: a full process refuses before the upgrade, and who waits never takes the place of who is in."""

import sys
from urllib.parse import urlencode

import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from app.admission import Admission
from app.connections import Connection
from app.errors import NoRoom
from app.listeners import room_for
from app.peers import Device as Asker
from tests.conftest import Start
from tests.keys import new_certificate
from tests.parts import fingerprint
from tests.process import bare_environment, run
from tests.support import SECONDS, Device, Scene, eventually, new_fingerprint
from tests.test_proofs import approved, come_in

HOME, CAFE = "198.51.100.1", "203.0.113.9"


async def dial(scene: Scene, network: str = HOME, fp: str = "", **query: str) -> Device:
    """A socket that was opened from that address, as the one trusted proxy tells it. Raises InvalidStatus."""
    fp = fp or new_fingerprint()
    url = f"{scene.url.replace('http', 'ws', 1)}/ws?{urlencode({'fp': fp} | query)}"
    headers = {"X-Forwarded-For": network}
    socket = await connect(url, proxy=None, additional_headers=headers, open_timeout=SECONDS, close_timeout=1)
    scene._sockets.append(socket)
    return Device(socket, fp)


async def wait_at(scene: Scene, network: str, **query: str) -> Device:
    """One that waits."""
    device = await dial(scene, network, **query)
    assert (await device.hear())["code"] == 401
    return device


async def is_refused(scene: Scene, network: str = HOME, **query: str) -> bool:
    """Whether one more is refused before the upgrade, and told when to try again."""
    with pytest.raises(InvalidStatus) as refused:
        await dial(scene, network, **query)
    answer = refused.value.response
    return answer.status_code == 503 and 1 <= int(answer.headers["Retry-After"]) <= 60


# The whole process


async def test_a_full_process_refuses_whoever_comes_and_takes_the_next_when_one_has_left(start: Start) -> None:
    scene = await start(max_sockets=8)
    owner = scene.owner()
    devices = [await scene.join(owner, f"device {n}") for n in range(8)]
    assert await is_refused(scene, fp=devices[0].fp, email=owner.address)
    await devices[7].leave()
    await eventually(lambda: len(scene.context.wheel) < 8)
    await scene.join(owner, fp=devices[7].fp)
    await devices[0].hear_update(devices[7].fp)


async def test_a_quarter_may_wait_and_the_rest_is_for_those_who_are_in(start: Start) -> None:
    scene = await start(max_sockets=8, proxies_count=1)
    owner = scene.owner()
    inside = await scene.join(owner)
    waiting = [await wait_at(scene, f"203.0.113.{n}") for n in range(2)]
    assert await is_refused(scene, "203.0.113.7")
    assert await is_refused(scene, "203.0.113.8", email=owner.address)
    await inside.leave()
    again = await dial(scene, "203.0.113.9", fp=inside.fp, email=owner.address)
    assert (await again.hear())["code"] == 200
    await waiting[0].leave()
    await eventually(lambda: scene.context.admission.waiting < 2)
    await wait_at(scene, "203.0.113.7")


# One network


async def test_five_devices_of_one_home_may_wait_and_the_sixth_is_told_to_come_later(start: Start) -> None:
    scene = await start(proxies_count=1, max_waiting_near=5)
    owner = scene.owner()
    first, *_ = [await wait_at(scene, HOME, email=owner.address, name=f"device {n}") for n in range(5)]
    assert await is_refused(scene, HOME, email=owner.address)
    await wait_at(scene, CAFE, email=owner.address)
    await owner.log_in()
    await owner.approve(first.fp)
    assert (await first.hear())["code"] == 200
    await wait_at(scene, HOME, email=owner.address, name="the sixth")  # who is in waits no more
    assert await is_refused(scene, HOME, email=owner.address)


async def test_the_devices_of_a_book_come_in_whoever_waits_beside_them(start: Start) -> None:
    scene = await start(proxies_count=1, max_waiting_near=1)
    owner = scene.owner()
    laptop = await scene.join(owner)
    await laptop.leave()
    await wait_at(scene, HOME)
    assert await is_refused(scene, HOME)
    named = await dial(scene, HOME, fp=laptop.fp, email=owner.address)
    assert (await named.hear())["code"] == 200
    unnamed = await dial(scene, HOME, fp=laptop.fp)
    assert (await unnamed.hear())["code"] == 200


async def test_one_whose_proof_is_due_takes_no_place_of_those_who_wait(start: Start) -> None:
    scene = await start(proxies_count=1, max_waiting_near=1)
    owner, key = scene.owner(), new_certificate()
    fp = await approved(scene, owner, key)
    await wait_at(scene, HOME)
    due = await dial(scene, HOME, fp=fp, email=owner.address, proof="certificate")
    assert (await due.hear())["proof"] == "certificate"
    assert scene.context.admission.waiting == 1
    await come_in(scene, owner, key, fp)


async def test_one_that_only_turns_out_to_wait_is_told_after_the_upgrade(start: Start) -> None:
    scene = await start(proxies_count=1, max_waiting_near=1)
    await wait_at(scene, HOME)
    late = await dial(scene, HOME, invite="AAAAA-AAAAA")  # it could have been good
    assert await late.hear() == {"code": 503, "text": "No room for another socket right now, try again later."}
    assert await late.close_code() == 1013


async def test_one_that_is_refused_asks_nobody(start: Start) -> None:
    scene = await start(proxies_count=1, max_waiting_near=1)
    owner = scene.owner()
    await wait_at(scene, HOME)
    assert await is_refused(scene, HOME, email=owner.address)
    late = await dial(scene, HOME, email=owner.address, invite="AAAAA-AAAAA")
    assert await late.close_code() == 1013
    await scene.at_rest()
    assert scene.context.admission.waiting == 1


async def test_who_leaves_gives_its_place_back_however_often(start: Start) -> None:
    scene = await start(proxies_count=1, max_waiting_near=1)
    for _ in range(3):
        device = await wait_at(scene, HOME)
        await device.leave()
        await eventually(lambda: scene.context.admission.waiting == 0)
    assert scene.context.admission._near == {}


async def test_one_that_has_to_wait_again_needs_a_place_like_everybody(start: Start) -> None:
    """The owner demands proof: a device that cannot prove itself waits from then on."""
    scene = await start(proxies_count=1, max_waiting_near=1)
    owner = scene.owner()
    laptop = await dial(scene, HOME, email=owner.address)
    assert (await laptop.hear())["code"] == 401
    await owner.log_in()
    await owner.approve(laptop.fp)
    assert (await laptop.hear())["code"] == 200
    await wait_at(scene, HOME)
    await owner.do("/account/require-proof", on="1")
    assert (await laptop.hear_until(lambda heard: "code" in heard))["code"] == 503
    assert await laptop.close_code() == 1013


async def test_after_the_store_came_back_empty_all_who_were_in_may_wait(start: Start, redis: Redis) -> None:
    scene = await start(proxies_count=1, max_waiting_near=1)
    owner = scene.owner()
    devices = list[Device]()
    for _ in range(3):
        device = await dial(scene, HOME, email=owner.address)
        if (await device.hear())["code"] == 401:
            if not devices:
                await owner.log_in()
            await owner.approve(device.fp)
            assert (await device.hear())["code"] == 200
        devices.append(device)
    await redis.flushall()
    await scene.context.presence._refresh()
    for device in devices:
        assert (await device.hear_until(lambda heard: "code" in heard))["code"] == 401


# The rule itself


def a_connection(network: str) -> Connection:
    return Connection(
        Asker(fingerprint(), "none", "laptop", "lab", "", network=network),
        None,
        lambda frame: True,
        lambda code, reason: None,
    )


def test_a_place_is_taken_once_and_given_back_once() -> None:
    admission = Admission([], most=40, most_near=2)
    first, second, third = (a_connection(HOME) for _ in range(3))
    for each in (first, first, second):
        admission.let_wait(each)
    with pytest.raises(NoRoom):
        admission.let_wait(third)
    for _ in range(2):
        admission.leave(first)
    admission.let_wait(third)
    assert (admission.waiting, admission.is_crowded(HOME), admission.is_crowded(CAFE)) == (2, True, False)


def test_without_a_limit_for_each_network_only_the_quarter_holds() -> None:
    admission = Admission([], most=40, most_near=0)
    for _ in range(10):
        admission.let_wait(a_connection(HOME))
    with pytest.raises(NoRoom):
        admission.let_wait(a_connection(CAFE))


def test_a_process_holds_as_many_as_it_may() -> None:
    sockets = [1, 2, 3]
    admission = Admission(sockets, most=4, most_near=0)
    admission.refuse_beyond()
    sockets.append(4)
    with pytest.raises(NoRoom):
        admission.refuse_beyond()


# What the system lets us have

_ROOM = """
import resource, sys
from app.listeners import room_for
soft, hard, sockets = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(room_for(sockets), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "sockets", "room", "then"),
    [
        pytest.param(256, 4096, 1000, 1000, 1564, id="more is asked for"),
        pytest.param(256, 4096, 8000, 3532, 4096, id="all that there is, and fewer sockets"),
        pytest.param(256, 1024, 8000, 512, 1024, id="hardly any"),
        pytest.param(4096, 4096, 1000, 1000, 4096, id="enough"),
    ],
)
async def test_a_process_asks_for_room_and_takes_no_more_than_it_gets(
    soft: int, hard: int, sockets: int, room: int, then: int
) -> None:
    ended = await run(sys.executable, "-c", _ROOM, str(soft), str(hard), str(sockets), environment=bare_environment())
    assert ended.output.split() == [str(room), str(then)], ended.errors


def test_the_sockets_of_the_settings_fit_this_machine() -> None:
    assert room_for(100) == 100
