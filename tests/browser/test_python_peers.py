"""A page in real Chromium and a Python device (aiortc) connect, whoever begins and whatever happens to the server."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp
from peerbook_client.descriptions import sent
from peerbook_client.files import share
from peerbook_client.identity import new_identity
from playwright.async_api import Browser

from tests.browser.conftest import OpenTab
from tests.browser.tabs import Tab, other_site
from tests.conftest import Start
from tests.devices import PythonPeer, answer_on, python_peer
from tests.process import ROOT
from tests.support import Owner, Scene, eventually


@pytest.fixture
async def home(scene: Scene, owner: Owner, tmp_path: Path) -> AsyncIterator[PythonPeer]:
    """A Python device that is in."""
    async with python_peer(scene, tmp_path, owner, "home-pi", kind="server") as home:
        yield await home.join(owner)


@pytest.fixture
async def phone(scene: Scene, owner: Owner, open_tab: OpenTab) -> Tab:
    """A tab that is in."""
    return await (await open_tab("phone")).join(scene, owner)


async def test_a_page_connects_to_a_python_device(scene: Scene, owner: Owner, home: PythonPeer, phone: Tab) -> None:
    await phone.connect("home-pi")
    assert await phone.ask("hello") == "home-pi heard hello"
    assert (await phone.see("outcomes"))[0]["result"] == "direct"
    await scene.at_rest()
    assert "home-pi</span>: direct" in await owner.page()


async def test_a_python_device_connects_to_a_page(home: PythonPeer, phone: Tab) -> None:
    channel = await home.book.connect("phone")
    assert await answer_on(channel, "hello") == "phone heard hello"
    assert [result for _, result, _ in home.outcomes] == ["direct"]


async def test_both_connect_at_once(home: PythonPeer, phone: Tab) -> None:
    channel, _ = await asyncio.gather(home.book.connect("phone"), phone.connect("home-pi"))
    assert await answer_on(channel, "a") == "phone heard a"
    assert await phone.ask("b") == "home-pi heard b"


async def test_a_connection_outlives_a_restart_of_the_server_and_is_renegotiated_after_it(
    scene: Scene, start: Start, home: PythonPeer, phone: Tab
) -> None:
    await phone.connect("home-pi")
    port = scene.running.port
    await scene.stop()
    await start(port=port)
    await home.went_away(1001)
    await home.be_in()
    await phone.until("states.some(each => each.code === 1001) && book.state === 'in'")
    assert await phone.ask("still here?") == "home-pi heard still here?"
    connection = home.book.connection("phone")
    assert connection
    connection.addTransceiver("video")
    await home.book.negotiate("phone")
    await phone.until(f"book.connection('{home.fp}').getTransceivers().length === 1")
    await eventually(lambda: connection.signalingState == "stable")
    await phone.see(f"void book.connection('{home.fp}').addTransceiver('audio')")
    await eventually(lambda: len(connection.getTransceivers()) == 2)
    await phone.until(f"book.connection('{home.fp}').signalingState === 'stable'")
    assert await phone.ask("and now?") == "home-pi heard and now?"
    assert (await phone.see("ended"), home.closed) == (0, [])


async def test_a_restart_of_ice_which_aiortc_cannot_do_ends_in_a_new_connection(home: PythonPeer, phone: Tab) -> None:
    await phone.connect("home-pi")
    await phone.see(f"book.connection('{home.fp}').restartIce()")
    await phone.until("ended === 1")
    await phone.connect("home-pi")
    assert await phone.ask("again") == "home-pi heard again"


async def test_a_program_that_knows_nothing_of_sessions_connects_to_a_page(
    scene: Scene, owner: Owner, phone: Tab
) -> None:
    """As programs in the field do: base64 of JSON, once, with all candidates in it, and nothing beside it."""
    identity = new_identity()
    device = await scene.join(owner, "old program", identity.fp)
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    vars(connection)["_RTCPeerConnection__certificates"] = [identity.rtc]
    channel = connection.createDataChannel("data")
    opened = asyncio.Event()
    channel.on("open", opened.set)
    await connection.setLocalDescription()
    offer = base64.b64encode(json.dumps(sent(connection.localDescription)).encode()).decode()
    await device.say({"target": phone.fp, "offer": offer})
    answer = (await device.hear_until(lambda heard: "answer" in heard))["answer"]
    await connection.setRemoteDescription(RTCSessionDescription(**answer))
    while not opened.is_set():
        heard = await device.hear()
        if "candidate" in heard:
            candidate = candidate_from_sdp(heard["candidate"]["candidate"].removeprefix("candidate:"))
            candidate.sdpMid = heard["candidate"]["sdpMid"]
            await connection.addIceCandidate(candidate)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(opened.wait(), 1)
    assert await answer_on(channel, "hello") == "phone heard hello"
    await connection.close()


async def test_a_page_lists_and_downloads_the_files_of_a_python_device(
    scene: Scene, owner: Owner, home: PythonPeer, chromium: Browser, tmp_path: Path
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    photo = bytes(range(256)) * 1000
    (folder / "photo.raw").write_bytes(photo)
    share(home.book, folder)
    async with other_site((ROOT / "examples/browser/files.html").read_bytes()) as site:
        context = await chromium.new_context()
        page = await context.new_page()
        await page.goto(site)
        await page.get_by_label("Your peerbook").fill(scene.url)
        await page.get_by_label("Your mail address").fill(owner.address)
        await page.get_by_role("button", name="Connect").click()
        await page.get_by_text("if your page shows the same code").wait_for()
        pair = await page.locator("#pair").inner_text()
        book = await scene.context.books.read(await owner.uid())
        assert book
        (request,) = book.requests.values()
        await owner.approve(request.fp, pair=pair)
        async with page.expect_download() as download:
            await page.get_by_role("button", name="photo.raw (256000 bytes, from home-pi)").click()
        assert (await (await download.value).path()).read_bytes() == photo
        await context.close()
