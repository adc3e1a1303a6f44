"""The demo as a newcomer meets it: `make demo`, a page, and a mail on the terminal. The page is nowhere else."""

import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect

from tests.conftest import Start
from tests.process import ROOT, START_SECONDS, Program, program
from tests.support import Scene

# A step as it looks when its turn has come.
SHOW = """id => {
    const step = document.getElementById(id);
    step.className = "";
    for (const part of step.querySelectorAll("button, input")) part.disabled = false;
    step.previousElementSibling.className = "done";
}"""
LINK = r"^https?://\S+/link/\S+$"


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Program]:
    paths = f"{ROOT}/examples:{ROOT}/examples/python"
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    given = {"PORT": "0", "PYTHONPATH": paths, "TMPDIR": str(tmp_path)}
    async with program(sys.executable, "-m", "demo", environment=environment | given) as running:
        running.url = (await running.line(r"^Open (\S+)/demo$", START_SECONDS))[1]
        yield running


async def test_a_newcomer_is_walked_through(demo: Program, chromium: Browser, tmp_path: Path) -> None:
    context = await chromium.new_context(base_url=demo.url)
    context.set_default_timeout(10000)
    complaints: list[str] = []
    page = await context.new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    await page.goto("/demo")
    await page.get_by_role("button", name="Ask to join").click()
    await expect(page.locator("#pair")).to_have_text(re.compile(r"\d{3}-\d{3}"))

    link = (await demo.line(LINK))[0]
    book = await context.new_page()
    await book.goto(link)
    await book.get_by_role("button", name="Open my book").click()
    card = book.locator(".card[data-name='this tab']")
    await expect(card.locator(".pair")).to_have_text(await page.locator("#pair").inner_text())
    await card.get_by_role("button", name="Approve").click()

    await page.get_by_role("button", name="Connect to home-pi").click()
    await expect(page.locator("#outcome")).to_have_text(re.compile(r"^direct, \d+ ms$"))
    await page.get_by_label("A message to home-pi").fill("hello")
    await page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.locator("#heard")).to_contain_text("home-pi: I heard “hello”.")
    photo = tmp_path / "photo.raw"
    photo.write_bytes(bytes(range(256)) * 5000)
    await page.get_by_label("Or send a file").set_input_files(photo)
    await expect(page.locator("#heard")).to_contain_text("I have photo.raw, 1280000 bytes")
    await expect(book.locator(".row[data-name='this tab'] .outcome")).to_contain_text("home-pi: direct")
    assert complaints == []
    assert all(url.startswith(demo.url) for url in asked), asked
    if shots := os.environ.get("SCREENS"):
        for name, each in (("demo", page), ("demo-book", book)):
            await each.screenshot(path=f"{shots}/{name}.png", full_page=True)
    await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_is_readable_for_all_and_on_a_phone(
    start: Start, chromium: Browser, scheme: Literal["light", "dark"]
) -> None:
    scene = await start(demo=True)
    # Axe is brought into the page by the browser's own tools, which a policy like ours would keep out.
    context = await chromium.new_context(
        base_url=scene.url, viewport={"width": 320, "height": 800}, color_scheme=scheme, bypass_csp=True
    )
    page = await context.new_page()
    await page.goto("/demo")
    for step in ("ask", "approve", "connect", "talk"):
        if step == "approve":
            await page.get_by_role("button", name="Ask to join").click()
            await expect(page.locator("#pair")).to_have_text(re.compile(r"\d{3}-\d{3}"))
        elif step != "ask":
            await page.evaluate(SHOW, step)
        found = (await Axe().run(page)).response["violations"]
        assert found == [], step
        assert await page.evaluate("document.documentElement.scrollWidth") == 320, step
    await context.close()


async def test_the_page_is_not_served_otherwise(scene: Scene) -> None:
    assert (await scene.http.get("/demo")).status_code == 404
