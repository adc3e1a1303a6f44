"""Screenshots of every page at 390 and 1440 px, light and dark, into build/screens: `make screens`."""

from pathlib import Path

import pytest

from tests.browser.conftest import Sit, chromium, sit  # noqa: F401 - fixtures
from tests.browser.tour import tour

FOLDER = Path(__file__).parent.parent / "build/screens"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
async def test_screens(sit: Sit, width: int, scheme: str) -> None:  # noqa: F811
    FOLDER.mkdir(parents=True, exist_ok=True)
    person = await sit(viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce")
    async for name, page in tour(person):
        await page.screenshot(path=FOLDER / f"{name}-{width}-{scheme}.png", full_page=True)
    person.forgive("404", "410", "422")
