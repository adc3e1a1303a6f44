"""The main job, from the first dial to the last candidate: in this process, and as a program beside either store."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.process import Program, free_port, redis_server, scene_at, server
from tests.support import Device, Mailbox, Message, Owner, Scene, link_in, text_of

CANDIDATES = 1_000


async def let_in(scene: Scene, owner: Owner, name: str, kind: str) -> Device:
    """An unknown device dials; its owner gets a mail, opens the link and approves; the waiting socket is in."""
    device = await scene.connect(email=owner.address, name=name, kind=kind)
    waiting = await device.hear()
    assert waiting["code"] == 401
    assert re.fullmatch(r"\d{3}-\d{3}", waiting["pair"])

    mail = await scene.mailbox.next_mail(owner.address)
    text = text_of(mail)
    assert f"name: {name}\n" in text
    assert f"kind: {kind}\n" in text
    assert re.search(r"asked: \d{1,2} \w+ \d{4}, \d\d:\d\d UTC\n", text)
    assert f"code: {waiting['pair']}\n" in text

    await owner.open_link(link_in(mail))
    page = await owner.page()
    assert name in page
    assert waiting["pair"] in page
    await owner.approve(device.fp, pair=waiting["pair"])

    welcome = await device.hear()
    assert (welcome["code"], welcome["text"]) == (200, await owner.uid())
    listed = await device.hear()
    assert {"name": name, "kind": kind, "online": True}.items() <= peer(listed, device.fp).items()
    return device


def peer(listed: Message, fp: str) -> Message:
    """The peer with that fingerprint in a list."""
    (found,) = (each for each in listed["peers"] if each["fp"] == fp)
    assert isinstance(found, dict)
    return found


def description(kind: str, fp: str) -> Message:
    """An SDP of the device with that fingerprint."""
    colons = ":".join(fp[i : i + 2] for i in range(0, len(fp), 2))
    return {"type": kind, "sdp": f"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 {colons}\r\n"}


async def signal(caller: Device, callee: Device) -> None:
    """Offer, answer, and candidates both ways at once: they come in order, and none is lost."""
    offer, answer = description("offer", caller.fp), description("answer", callee.fp)
    await caller.say({"target": callee.fp, "offer": offer})
    heard = await callee.hear_until(lambda message: "offer" in message)
    assert (heard["source_fp"], heard["offer"]) == (caller.fp, offer)
    await callee.say({"target": caller.fp, "answer": answer})
    heard = await caller.hear_until(lambda message: "answer" in message)
    assert (heard["source_fp"], heard["answer"]) == (callee.fp, answer)

    async def trickle(source: Device, target: Device) -> None:
        for number in range(CANDIDATES):
            await source.say({"target": target.fp, "candidate": candidate(source, number)})

    async def collect(target: Device) -> list[Message]:
        return [await target.hear() for _ in range(CANDIDATES)]

    def candidate(source: Device, number: int) -> str:
        return f"candidate:{number} 1 udp 1 192.0.2.1 {number} typ host ufrag {source.fp[:4]}"

    def expected(source: Device) -> list[tuple[str, str]]:
        return [(source.fp, candidate(source, number)) for number in range(CANDIDATES)]

    *_, by_callee, by_caller = await asyncio.gather(
        trickle(caller, callee), trickle(callee, caller), collect(callee), collect(caller)
    )
    assert [(each["source_fp"], each["candidate"]) for each in by_callee] == expected(caller)
    assert [(each["source_fp"], each["candidate"]) for each in by_caller] == expected(callee)


async def journey(scene: Scene) -> None:
    """Two devices ask, their owner approves each by mail, and they signal."""
    owner = scene.owner()
    laptop = await let_in(scene, owner, "laptop", "lab")
    phone = await let_in(scene, owner, "phone", "handset")
    await laptop.hear_until(lambda heard: heard.get("peer_update", {}).get("online"))
    await signal(laptop, phone)


async def test_two_devices_of_an_owner_signal_after_his_approval(scene: Scene) -> None:
    await journey(scene)


async def test_two_devices_signal_through_a_program_with_its_own_store(mailbox: Mailbox, tmp_path: Path) -> None:
    async with (
        server({"PORT": str(free_port()), "DATA_DIR": str(tmp_path), "SMTP_URL": mailbox.url}) as program,
        scene_at(program.url, mailbox) as scene,
    ):
        await journey(scene)


async def test_two_devices_signal_through_a_program_beside_debians_redis(mailbox: Mailbox, tmp_path: Path) -> None:
    port = str(free_port())
    async with (
        redis_server() as redis_url,
        server(
            {
                "HOST": "127.0.0.1",
                "PORT": port,
                "BASE_URL": f"http://127.0.0.1:{port}",
                "REDIS_URL": redis_url,
                "SECRET_KEY": "k" * 32,
                "SMTP_URL": mailbox.url,
                "DATA_DIR": str(tmp_path / "nothing"),
            }
        ) as program,
        scene_at(program.url, mailbox) as scene,
    ):
        await journey(scene)
    assert not (tmp_path / "nothing").exists(), "a server beside a Redis keeps nothing on its disk"


class Home:
    """A server at one address with one data folder, which can be started again."""

    def __init__(self, mailbox: Mailbox, folder: Path) -> None:
        self.mailbox = mailbox
        self.settings = {"PORT": str(free_port()), "DATA_DIR": str(folder), "SMTP_URL": mailbox.url}
        self.scene: Scene
        self._stack = AsyncExitStack()

    async def start(self) -> Program:
        program = await self._stack.enter_async_context(server(self.settings))
        self.scene = await self._stack.enter_async_context(scene_at(program.url, self.mailbox))
        return program

    async def close(self) -> None:
        await self._stack.aclose()


@pytest.fixture
async def home(mailbox: Mailbox, tmp_path: Path) -> AsyncIterator[Home]:
    home = Home(mailbox, tmp_path)
    yield home
    await home.close()


async def test_a_restart_keeps_the_book_and_devices_come_straight_back(home: Home) -> None:
    program = await home.start()
    owner = home.scene.owner()
    laptop = await let_in(home.scene, owner, "laptop", "lab")
    phone = await let_in(home.scene, owner, "phone", "handset")
    stranger = await home.scene.connect(email=owner.address, name="tablet")
    asked = await stranger.hear()

    assert await program.stop(seconds=5) == 0
    assert [await each.close_code() for each in (laptop, phone, stranger)] == [1001, 1001, 1001]

    await home.start()
    laptop = await home.scene.join(owner, fp=laptop.fp)
    phone = await home.scene.join(owner, fp=phone.fp)
    names = [(each["name"], each["online"]) for each in await phone.peers()]
    assert names == [("laptop", True), ("phone", True)]
    await signal(phone, laptop)
    again = await home.scene.connect(stranger.fp, email=owner.address, name="tablet")
    assert (await again.hear())["pair"] == asked["pair"], "the request and its code outlive the restart"


async def test_a_restart_keeps_open_links_and_sessions(home: Home) -> None:
    program = await home.start()
    owner = home.scene.owner()
    laptop = await home.scene.connect(email=owner.address, name="laptop")
    assert (await laptop.hear())["code"] == 401
    link = await home.mailbox.next_link(owner.address)
    assert await program.stop() == 0

    program = await home.start()
    await owner.open_link(link)
    assert await program.stop() == 0

    await home.start()
    await owner.approve(laptop.fp)
    laptop = await home.scene.connect(laptop.fp)
    assert (await laptop.hear())["code"] == 200


async def test_a_server_with_silent_clients_stops_within_seconds(home: Home) -> None:
    program = await home.start()
    owner = home.scene.owner()
    laptop = await home.scene.join(owner)
    laptop.socket.transport.pause_reading()  # it will neither read the close frame nor answer it
    assert await program.stop(seconds=5) == 0
    laptop.socket.transport.resume_reading()
