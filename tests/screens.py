"""Screenshots of every page at 390 and 1440 px, light and dark, into build/screens: `make screens`."""

from pathlib import Path

import pytest

from tests.browser.conftest import Sit, chromium, sit  # noqa: F401 - fixtures
from tests.browser.tour import tour

FOLDER = Path(__file__).parent.parent / "build/screens"
# The README shows the upper part of these.
README = {
    ("book-requests", 1440, "light"),
    ("book", 1440, "dark"),
    ("book-requests", 390, "dark"),
    ("link", 390, "light"),
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
async def test_screens(sit: Sit, width: int, scheme: str) -> None:  # noqa: F811
    (FOLDER / "readme").mkdir(parents=True, exist_ok=True)
    person = await sit(viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce")
    async for name, page in tour(person):
        file = f"{name}-{width}-{scheme}.png"
        await page.evaluate("document.getElementById('status')?.replaceChildren()")
        await page.screenshot(path=FOLDER / file, full_page=True)
        if (name, width, scheme) in README:
            await page.evaluate("scrollTo(0, 0)")
            await page.screenshot(path=FOLDER / "readme" / file)
    person.forgive("404", "410", "422")
