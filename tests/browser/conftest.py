"""Fixtures: a real browser, and owners who sit at one."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from playwright.async_api import Browser, async_playwright, expect

from tests.browser.person import Person
from tests.browser.tabs import Tab, other_site
from tests.support import Owner, Scene

Sit = Callable[..., Awaitable[Person]]
OpenTab = Callable[[str], Awaitable[Tab]]

_PATIENCE = 8000  # milliseconds
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-features=WebRtcHideLocalIpsWithMdns"]

expect.set_options(timeout=_PATIENCE)


def find_chromium() -> str:
    """The path of Chromium; the run fails where there is none, since what was not tried is not known to work."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not path:
        pytest.fail("The browser tests need Chromium; on Debian: apt install chromium", pytrace=False)
    return path


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    path = find_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def sit(chromium: Browser, scene: Scene) -> AsyncIterator[Sit]:
    """Puts an owner in front of a browser of his own. What the browser complained of fails the test at its end."""
    people: list[Person] = []
    async with AsyncExitStack() as stack:

        async def sit_down(owner: Owner | None = None, at: Scene = scene, **options: Any) -> Person:
            context = await chromium.new_context(base_url=at.url, **options)
            stack.push_async_callback(context.close)
            context.set_default_timeout(_PATIENCE)
            person = Person(at, owner or at.owner(), context)
            await person.open_page()
            people.append(person)
            return person

        yield sit_down
        for person in people:
            person.complained_of_nothing()


@pytest.fixture
async def person(sit: Sit) -> Person:
    """An owner in front of the device page, whose book is empty."""
    person = await sit()
    await person.log_in()
    return person


@pytest.fixture
async def site() -> AsyncIterator[str]:
    async with other_site() as site:
        yield site


@pytest.fixture
async def open_tab(chromium: Browser, site: str) -> AsyncIterator[OpenTab]:
    """Opens a page of another site in a browser profile of its own. What goes wrong in it unseen fails the test."""
    errors: list[str] = []
    async with AsyncExitStack() as stack:

        async def open_one(name: str) -> Tab:
            context = await chromium.new_context()
            stack.push_async_callback(context.close)
            context.set_default_timeout(15000)
            page = await context.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            await page.goto(site)
            return Tab(page, name)

        yield open_one
    assert errors == []


@pytest.fixture
def owner(scene: Scene) -> Owner:
    return scene.owner()
