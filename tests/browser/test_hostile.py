"""Names that want to be more than names stay text, and nothing that they try is even refused by the browser."""

import pytest
from playwright.async_api import expect

from app.peers import clean_name
from tests.browser.person import Person
from tests.support import Scene, eventually

pytestmark = pytest.mark.timeout(120)

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    '" autofocus onfocus=alert(1) x="',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "<iframe src=javascript:alert(1)>",
    "<a href=javascript:alert(1)>click</a>",
    '<base href="http://evil.test/">',
    '<meta http-equiv=refresh content="0;url=//evil.test">',
    "<link rel=stylesheet href=//evil.test/x.css>",
    "<style>*{display:none}</style>",
    "<form action=//evil.test><input name=fp>",
    '<div hx-get="/logout" hx-trigger=load>',
    '" hx-get="/peers" hx-trigger="load',
    "<b hx-on:load=alert(1)>",
    "</div></li></ul></main><h1>Gone</h1>",
    "<!-- ",
    "<![CDATA[ x ]]>",
    "{{ 7*7 }}{% raw %}",
    "${alert(1)}",
    "&lt;b&gt;&amp;amp;",
    "<template><script>alert(1)",
    "<textarea>",
    "data: x event: end",
    "\u202egnp.exe",
    "שלום <b>עולם</b>",
    "W" * 64,
)


async def test_hostile_names_are_shown_as_text(scene: Scene, person: Person) -> None:
    for number, name in enumerate(PAYLOADS):
        device = await scene.connect(email=person.owner.address, name=name, kind=name)
        await device.hear()
        card = person.page.locator(f".card[data-fp='{device.fp}']")
        # The live way: it came by the stream, and its answer comes by htmx.
        await expect(card.locator("h3")).to_have_text(clean_name(name))
        if number % 3 == 0:
            await card.get_by_role("button", name="Ignore").click()
            await expect(card).to_have_count(0)
        else:
            await card.get_by_role("button", name="Approve").click()
            await expect(person.page.locator(f"#peer-{device.fp} h3")).to_have_text(clean_name(name))
        await device.leave()
    await eventually(lambda: not scene.context.background._tasks)
    # And the whole page, as it loads.
    await person.page.reload()
    shown = await person.page.locator(".row h3").all_inner_texts()
    assert set(shown) == {clean_name(name) for number, name in enumerate(PAYLOADS) if number % 3}
    assert await person.page.locator(".row script, .row img, .row iframe, .row h1, .row style").count() == 0
    assert await person.page.evaluate("document.querySelectorAll('script').length") == 2
    assert len(PAYLOADS) == 30
