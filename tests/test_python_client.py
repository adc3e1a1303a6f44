"""The Python client: two real devices (aiortc) connect, whatever happens to the server between them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiortc import RTCSessionDescription
from peerbook_client import LinkClosedError, PeerbookError, load_identity
from peerbook_client.descriptions import described, is_honest
from peerbook_client.files import download, list_files, share
from peerbook_client.pauses import REFUSED, Pauses

from tests.conftest import Start
from tests.devices import PythonPeer, answer_on, python_peer
from tests.relays import Forger, forging
from tests.support import Owner, Scene, eventually
from tests.turn import TURN_SECRET, coturn

OpenPeer = Callable[..., Awaitable[PythonPeer]]


@pytest.fixture
async def open_peer(tmp_path: Path) -> AsyncIterator[OpenPeer]:
    async with AsyncExitStack() as stack:

        async def open_one(scene: Scene, owner: Owner, name: str, **options: Any) -> PythonPeer:
            return await stack.enter_async_context(python_peer(scene, tmp_path, owner, name, **options))

        yield open_one


async def pair_of(open_peer: OpenPeer, scene: Scene, owner: Owner, **options: Any) -> tuple[PythonPeer, PythonPeer]:
    phone = await (await open_peer(scene, owner, "phone", **options)).join(owner)
    home = await (await open_peer(scene, owner, "home-pi", **options)).join(owner)
    return phone, home


@pytest.fixture
def owner(scene: Scene) -> Owner:
    return scene.owner()


async def test_two_devices_ask_prove_their_certificates_and_connect(
    scene: Scene, owner: Owner, open_peer: OpenPeer
) -> None:
    phone, home = await pair_of(open_peer, scene, owner)
    assert (await owner.page()).count("proves itself by certificate") == 2
    channel = await phone.book.connect("home-pi")
    assert await answer_on(channel, "hello") == "home-pi heard hello"
    ((fp, result, milliseconds),) = phone.outcomes
    assert (fp, result) == (home.fp, "direct")
    assert 0 <= milliseconds < 20_000
    await scene.at_rest()
    assert "home-pi</span>: direct" in await owner.page()


async def test_a_connection_outlives_a_restart_of_the_server_and_is_renegotiated_after_it(
    scene: Scene, owner: Owner, open_peer: OpenPeer, start: Start
) -> None:
    phone, home = await pair_of(open_peer, scene, owner)
    channel = await phone.book.connect(home.fp)
    port = scene.running.port
    await scene.stop()
    await start(port=port)
    for peer in (phone, home):
        await peer.went_away(1001)
        await peer.be_in()
    assert await answer_on(channel, "still here?") == "home-pi heard still here?"
    for source, target in ((phone, home), (home, phone)):
        await renegotiate(source, target)
    assert await answer_on(channel, "and now?") == "home-pi heard and now?"
    assert (phone.closed, home.closed) == ([], [])


async def renegotiate(source: PythonPeer, target: PythonPeer) -> None:
    """The source adds something, and both agree on it."""
    mine, other = source.book.connection(target.fp), target.book.connection(source.fp)
    assert mine
    assert other
    count = len(mine.getTransceivers()) + 1
    mine.addTransceiver("audio")
    await source.book.negotiate(target.fp)
    await eventually(lambda: len(other.getTransceivers()) == count and mine.signalingState == "stable")


async def test_both_connect_at_once(scene: Scene, owner: Owner, open_peer: OpenPeer) -> None:
    phone, home = await pair_of(open_peer, scene, owner)
    one, other = await asyncio.gather(phone.book.connect("home-pi"), home.book.connect("phone"))
    assert await answer_on(one, "a") == "home-pi heard a"
    assert await answer_on(other, "b") == "phone heard b"
    assert (phone.closed, home.closed) == ([], [])


async def test_an_offline_device_is_offered_to_when_it_comes(scene: Scene, owner: Owner, open_peer: OpenPeer) -> None:
    phone, home = await pair_of(open_peer, scene, owner)
    scene.tell_absences_after(0)
    await home.book.stop()
    await phone.until(lambda: not phone.book.peers[home.fp].online)
    connecting = asyncio.create_task(phone.book.connect("home-pi"))
    again = await open_peer(scene, owner, "home-pi")
    assert await answer_on(await connecting, "hello") == "home-pi heard hello"
    assert again.fp == home.fp, "its certificate was kept"
    assert not any(pair for _, pair, _ in again.states), "and nobody had to be asked"


async def test_a_device_that_was_started_anew_is_connected_to_anew(
    scene: Scene, owner: Owner, open_peer: OpenPeer
) -> None:
    phone, home = await pair_of(open_peer, scene, owner)
    await phone.book.connect("home-pi")
    for link in home.book._links.values():  # it dies, so it takes leave of nobody
        link.over.set()
    home.book._links.clear()
    assert await answer_on(await home.book.connect("phone"), "again") == "phone heard again"
    assert phone.closed == [home.fp]


async def test_whoever_is_revoked_is_cut_off_by_the_others_and_cuts_off_itself(
    scene: Scene, owner: Owner, open_peer: OpenPeer
) -> None:
    phone, home = await pair_of(open_peer, scene, owner)
    await phone.book.connect("home-pi")
    await owner.do(f"/peers/{phone.fp}/revoke")
    await phone.until(lambda: phone.book.state == "stopped")
    await eventually(lambda: (phone.closed, home.closed) == ([home.fp], [phone.fp]))
    assert phone.states[-1][2] == 4403
    with pytest.raises(PeerbookError):
        await phone.book.connect("home-pi")


async def test_a_forged_description_is_refused_by_who_gets_it(scene: Scene, owner: Owner, open_peer: OpenPeer) -> None:
    async with forging(scene) as forger:
        phone = await (await open_peer(scene, owner, "phone")).join(owner)
        home = await (await open_peer(scene, owner, "home-pi", server=forger.url, origin=scene.url)).join(owner)
        for source, target, count in ((phone, "home-pi", 1), (home, "phone", 2)):  # the offer, and the answer
            connecting = asyncio.create_task(source.book.connect(target))
            await eventually(lambda count=count: home.refused == [phone.fp] * count)  # type: ignore[misc]
            source.book.disconnect(target)
            with pytest.raises(LinkClosedError):
                await connecting
        assert [result for _, result, _ in home.outcomes] == ["failed"]
        assert home.channels == []


async def test_a_forged_description_is_refused_by_the_server(scene: Scene, owner: Owner, open_peer: OpenPeer) -> None:
    phone, home = await pair_of(open_peer, scene, owner)
    await phone.book.connect("home-pi")
    connection = phone.book.connection("home-pi")
    assert connection
    for kind in ("offer", "answer"):
        with pytest.raises(PeerbookError) as refusal:
            await phone.book.ask({"target": home.fp, kind: {"sdp": Forger.forge(connection.localDescription.sdp)}})
        assert refusal.value.code == 403
    assert home.refused == []


async def test_a_certificate_is_replaced_and_the_device_stays_itself(
    scene: Scene, owner: Owner, open_peer: OpenPeer, tmp_path: Path
) -> None:
    phone = await (await open_peer(scene, owner, "phone")).join(owner)
    old = phone.fp
    await phone.book.rekey()
    await phone.until(lambda: phone.book.state == "in" and phone.fp in phone.book.peers)
    assert phone.fp != old
    assert [peer.name for peer in phone.book.peers.values()] == ["phone"]
    assert load_identity(tmp_path / "phone.pem").fp == phone.fp


async def test_files_are_listed_and_downloaded(scene: Scene, owner: Owner, open_peer: OpenPeer, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    photo = bytes(range(256)) * 800
    (folder / "photo.raw").write_bytes(photo)
    (folder / "note.txt").write_text("hello")
    (folder / ".hidden").write_text("mine")
    (folder / "way out").symlink_to(tmp_path / "phone.pem")
    phone, home = await pair_of(open_peer, scene, owner)
    share(home.book, folder)
    channel = await phone.book.connect("home-pi", "files")
    assert await list_files(channel) == [{"name": "note.txt", "size": 5}, {"name": "photo.raw", "size": len(photo)}]
    assert await download(channel, "photo.raw") == photo
    for name in (".hidden", "way out", "../phone.pem", str(tmp_path / "phone.pem"), ""):
        with pytest.raises(FileNotFoundError):
            await download(channel, name)


async def test_two_devices_connect_through_coturn_only(start: Start, open_peer: OpenPeer, tmp_path: Path) -> None:
    from aiortc import RTCIceTransportPolicy

    async with coturn(tmp_path) as turn:
        scene = await start(turn_urls=(turn.url,), turn_secret=TURN_SECRET)
        phone, home = await pair_of(
            open_peer, scene, scene.owner(), rtc={"iceTransportPolicy": RTCIceTransportPolicy.RELAY}
        )
        assert await answer_on(await phone.book.connect("home-pi"), "hello") == "home-pi heard hello"
        assert [result for _, result, _ in phone.outcomes] == ["relay"]
        assert turn.allocations == 2
        await asyncio.gather(phone.book.stop(), home.book.stop())  # which ends the allocations, while coturn is there


async def test_a_peer_that_is_unknown_or_gone_is_said_so(scene: Scene, owner: Owner, open_peer: OpenPeer) -> None:
    phone, home = await pair_of(open_peer, scene, owner)
    with pytest.raises(PeerbookError) as refusal:
        await phone.book.connect("nobody")
    assert refusal.value.code == 404
    connecting = asyncio.create_task(phone.book.connect("home-pi"))
    await eventually(lambda: home.fp in phone.book._links)
    phone.book.disconnect("home-pi")
    with pytest.raises(LinkClosedError):
        await connecting


# What it keeps


def test_the_key_is_for_its_owner_only_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key.pem"
    identity = load_identity(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_identity(path).fp == identity.fp
    assert [each.name for each in path.parent.iterdir()] == ["key.pem"]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    load_identity(path)
    path.chmod(0o640)
    with pytest.raises(PermissionError, match="chmod 600"):
        load_identity(path)


# When it comes back


@pytest.mark.parametrize(
    ("codes", "pauses"),
    [
        ([1001], [2.5]),
        ([1013, 1006, 1011, 1006, 1006, 1006], [0.5, 1, 2, 4, 8, 15]),
        ([4401], [90]),
        ([4408], [75]),
        ([4429], [75]),
        ([REFUSED], [75]),
        ([4409, 4409, 4409], [75, 75, None]),
        *(([code], [None]) for code in (4403, 1002, 1007, 1009)),
    ],
)
def test_it_obeys_the_close_codes(codes: list[int], pauses: list[float | None]) -> None:
    mine = Pauses(lambda: 0.5)
    assert [mine.after(code, now=at) for at, code in enumerate(codes)] == pauses


def test_a_device_that_is_replaced_now_and_then_comes_back() -> None:
    mine = Pauses(lambda: 0)
    assert [mine.after(4409, now=300.0 * at) for at in range(9)] == [60] * 2 + [60] * 7


# What it takes

FP = "AB" * 32
LINE = "a=fingerprint:sha-256 " + ":".join(["AB"] * 32)


@pytest.mark.parametrize("sdp", [f"v=0\r\n{LINE}\r\n", f"v=0\n{LINE.lower()}\n", f"{LINE}\r\nm=x\r\n{LINE}\r\n"])
def test_a_description_of_the_senders_is_taken(sdp: str) -> None:
    assert is_honest(sdp, FP)


@pytest.mark.parametrize(
    "sdp",
    [
        "v=0\r\n",
        LINE.replace("AB", "EE", 1),
        f"{LINE}\r\n{LINE.replace('AB', 'EE')}\r\n",
        f"{LINE}\r\na=fingerprint:sha-1 {':'.join(['AB'] * 20)}\r\n",
        f"{LINE}\r\na=FINGERPRINT:sha-256 {':'.join(['EE'] * 32)} \r\n",
        f" {LINE}",
        f"{LINE}:AB",
    ],
)
def test_a_description_that_might_be_another_ones_is_refused(sdp: str) -> None:
    assert not is_honest(sdp, FP)


def test_descriptions_come_as_objects_json_and_base64() -> None:
    import base64

    value = {"type": "offer", "sdp": "v=0\r\n"}
    expected = RTCSessionDescription(**value)
    text = json.dumps(value)
    for wrapped in (value, text, base64.b64encode(text.encode()).decode()):
        assert described(wrapped) == expected
    odds: list[object] = [None, 1, "", "nonsense", "{}", {"type": "offer"}, {"type": "no", "sdp": ""}, []]
    for odd in odds:
        assert described(odd) is None
