"""The Go sample (pion) and a Python device (aiortc) connect, whoever begins and whatever happens to the server."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiortc import RTCDataChannel
from peerbook_client import LinkClosedError

from tests.conftest import Start
from tests.devices import PythonPeer, answer_on, python_peer
from tests.process import ROOT, Program, program, run
from tests.relays import forging
from tests.support import Owner, Scene

pytestmark = pytest.mark.timeout(400)  # a first build loads and compiles all of pion
BUILD_SECONDS = 300.0


@pytest.fixture(scope="session")
async def gopher_program() -> str:
    """The built sample."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("not run: the Go sample, since there is no Go toolchain (go) here")
    path = ROOT / "build" / "gopher"
    built = await run(
        go,
        "build",
        "-o",
        str(path),
        ".",
        environment=dict(os.environ),
        folder=ROOT / "examples/go",
        seconds=BUILD_SECONDS,
    )
    if re.search(r"dial tcp|no such host|i/o timeout|module lookup disabled", built.errors):
        pytest.skip("not run: the Go sample, since its modules can't be loaded here")
    assert built.code == 0, built.errors
    return str(path)


class Gopher:
    """A running sample, approved by the code that it shows."""

    def __init__(self, running: Program, fp: str) -> None:
        self.running = running
        self.fp = fp

    async def says(self, pattern: str) -> str:
        """What it says next that fits."""
        return (await self.running.line(pattern))[0]


@asynccontextmanager
async def gopher(
    path: str, scene: Scene, owner: Owner, key: Path, *more: str, server: str = ""
) -> AsyncIterator[Gopher]:
    """The sample as `gopher` in that owner's book."""
    command = (
        path,
        "-server",
        server or scene.url,
        "-origin",
        scene.url,
        "-email",
        owner.address,
        "-key",
        str(key),
        *more,
    )
    async with program(*command) as running:
        yield Gopher(running, (await running.line(r"^fp (\w+)"))[1])


async def join(each: Gopher, owner: Owner) -> None:
    pair = (await each.says(r"^waiting .+")).removeprefix("waiting ")
    await owner.log_in()
    await owner.approve(each.fp, pair=pair)
    await each.says("^in$")


@pytest.fixture
async def home(scene: Scene, owner: Owner, tmp_path: Path) -> AsyncIterator[PythonPeer]:
    async with python_peer(scene, tmp_path, owner, "home-pi") as home:
        yield await home.join(owner)


@pytest.fixture
def owner(scene: Scene) -> Owner:
    return scene.owner()


async def test_pion_connects_to_aiortc(
    gopher_program: str, scene: Scene, owner: Owner, home: PythonPeer, tmp_path: Path
) -> None:
    key = tmp_path / "gopher.pem"
    async with gopher(gopher_program, scene, owner, key, "-connect", "home-pi") as mine:
        await join(mine, owner)
        await mine.says(r"^open home-pi direct \d+$")
        await mine.says("^heard home-pi heard hello$")
        assert (await owner.page()).count("proves itself by certificate") == 2
        await scene.at_rest()
        assert "home-pi</span>: direct" in await owner.page()
        fp = mine.fp
    assert key.stat().st_mode & 0o777 == 0o600
    async with gopher(gopher_program, scene, owner, key, "-connect", "home-pi") as again:
        await again.says("^heard home-pi heard hello$")
        assert again.fp == fp, "its certificate was kept"


async def test_aiortc_connects_to_pion_and_a_restart_of_the_server_does_not_part_them(
    gopher_program: str, scene: Scene, owner: Owner, home: PythonPeer, tmp_path: Path, start: Start
) -> None:
    async with gopher(gopher_program, scene, owner, tmp_path / "gopher.pem", "-name", "gopher") as mine:
        await join(mine, owner)
        channel = await home.book.connect("gopher")
        assert await answer_on(channel, "hello") == "gopher heard hello"
        port = scene.running.port
        await scene.stop()
        await start(port=port)
        await mine.says("^away 1001$")
        await home.went_away(1001)
        await home.be_in()
        await mine.says("^in$")
        assert await answer_on(channel, "still here?") == "gopher heard still here?"
        await home.book.negotiate("gopher")
        await mine.says("^agreed ")
        assert await answer_on(channel, "and now?") == "gopher heard and now?"
        assert home.closed == []


async def test_both_connect_at_once(
    gopher_program: str, scene: Scene, owner: Owner, home: PythonPeer, tmp_path: Path
) -> None:
    async with gopher(gopher_program, scene, owner, tmp_path / "gopher.pem", "-connect", "home-pi") as mine:
        connecting = asyncio.create_task(_when_online(home, mine.fp))
        await join(mine, owner)
        assert await answer_on(await connecting, "hello") == "gopher heard hello"
        await mine.says("^heard home-pi heard hello$")


async def _when_online(home: PythonPeer, fp: str) -> RTCDataChannel:
    await home.until(lambda: fp in home.book.peers)
    return await home.book.connect(fp)


async def test_a_forged_description_is_refused(
    gopher_program: str, scene: Scene, owner: Owner, home: PythonPeer, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        forger = await stack.enter_async_context(forging(scene))
        mine = await stack.enter_async_context(
            gopher(gopher_program, scene, owner, tmp_path / "gopher.pem", server=forger.url)
        )
        await join(mine, owner)
        connecting = asyncio.create_task(home.book.connect("gopher"))
        assert (await mine.says("^refused .+")) == f"refused {home.fp}"
        home.book.disconnect("gopher")
        with pytest.raises(LinkClosedError):
            await connecting
        assert "channel" not in mine.running.output
