"""Every page, light and dark, narrow and wide: readable for all, and never wider than the window."""

import pytest
from axe_playwright_python.async_playwright import Axe

from tests.browser.conftest import Sit
from tests.browser.tour import tour

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_on_any_page(sit: Sit, scheme: str) -> None:
    # Axe is brought into the page by the browser's own tools, which a policy like ours would keep out.
    person = await sit(color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    axe, found = Axe(), []
    async for name, page in tour(person):
        results = await axe.run(page)
        assert results.response["passes"], name
        found += [f"{name}: {each['id']}: {each['nodes'][0]['html']}" for each in results.response["violations"]]
    assert found == []
    person.forgive("404", "410", "422")


@pytest.mark.parametrize("width", [320, 720, 1440])  # 720 is 1440 at 200 % zoom
async def test_no_page_is_wider_than_its_window(sit: Sit, width: int) -> None:
    person = await sit(viewport={"width": width, "height": 800}, reduced_motion="reduce")
    too_wide = []
    async for name, page in tour(person):
        if await page.evaluate("document.documentElement.scrollWidth") > width:
            too_wide.append(name)
    assert too_wide == []
    # The pages that say no are 4xx, which Chromium logs for the page itself.
    person.forgive("404", "410", "422")
