"""How long a connection takes, from connect() to the open channel: `python -m bench.connects`, all on this machine.

The server is a process of its own, Chromium another one; the Python devices share this one.
"""

import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import uvloop
from playwright.async_api import Browser, async_playwright

from tests.browser.conftest import FLAGS, find_chromium
from tests.browser.tabs import Tab, other_site
from tests.devices import PythonPeer, python_peer
from tests.process import scene_at, server
from tests.support import Owner, Scene, eventually, open_mailbox

RUNS = 20
CONNECT = """async (peer) => {
    const began = performance.now();
    await book.connect(peer);
    return performance.now() - began;
}"""


class Place:
    """A server, an owner, and a way to bring devices."""

    def __init__(self, scene: Scene, browser: Browser, site: str, folder: Path) -> None:
        self.scene = scene
        self.owner: Owner = scene.owner()
        self._browser = browser
        self._site = site
        self._folder = folder

    async def tab(self, name: str) -> Tab:
        page = await (await self._browser.new_context()).new_page()
        await page.goto(self._site)
        return await Tab(page, name).join(self.scene, self.owner)

    @asynccontextmanager
    async def python(self, name: str) -> AsyncIterator[PythonPeer]:
        async with python_peer(self.scene, self._folder, self.owner, name) as peer:
            yield await peer.join(self.owner)


async def between_tabs(place: Place) -> list[float]:
    phone, home = await place.tab("phone"), await place.tab("home-pi")

    async def connect() -> float:
        taken: float = await phone.page.evaluate(CONNECT, home.fp)
        return taken

    async def part() -> None:
        await phone.see(f"book.disconnect('{home.fp}')")
        await home.until(f"!book.connection('{phone.fp}')")

    return await repeat(connect, part)


async def to_python(place: Place) -> list[float]:
    phone = await place.tab("tablet")
    async with place.python("aiortc") as home:

        async def connect() -> float:
            taken: float = await phone.page.evaluate(CONNECT, home.fp)
            return taken

        async def part() -> None:
            await phone.see(f"book.disconnect('{home.fp}')")
            await eventually(lambda: not home.book._links)

        return await repeat(connect, part)


async def between_python(place: Place) -> list[float]:
    async with place.python("one") as one, place.python("other") as other:

        async def connect() -> float:
            began = time.perf_counter()
            await one.book.connect("other")
            return 1000 * (time.perf_counter() - began)

        async def part() -> None:
            one.book.disconnect("other")
            await eventually(lambda: not other.book._links)

        return await repeat(connect, part)


async def repeat(connect: Callable[[], Awaitable[float]], part: Callable[[], Awaitable[None]]) -> list[float]:
    taken = []
    for _ in range(RUNS):
        taken.append(await connect())
        await part()
    return sorted(taken)


async def main() -> None:
    cases: list[tuple[str, str, Callable[[Place], Awaitable[list[float]]]]] = [
        ("Chromium to Chromium", "<= 250 ms", between_tabs),
        ("Chromium to aiortc", "<= 400 ms", to_python),
        ("aiortc to aiortc", "no target", between_python),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with open_mailbox() as mailbox, async_playwright() as playwright, other_site() as site:
            settings = {"SMTP_URL": mailbox.url, "DATA_DIR": str(folder / "data"), "PORT": "0"}
            browser = await playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
            async with server(settings) as running, scene_at(running.url, mailbox) as scene:
                place = Place(scene, browser, site, folder)
                print(f"From connect() to an open channel, {RUNS} times each:")
                for name, target, measure in cases:
                    taken = await measure(place)
                    spread = f"{taken[0]:.0f} to {taken[-1]:.0f} ms"
                    print(f"  {name:<22} median {median(taken):4.0f} ms  ({spread})  target {target}")
            await browser.close()


if __name__ == "__main__":
    uvloop.run(main())
