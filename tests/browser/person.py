"""An owner at a real browser: what he sees, and what he clicks on."""

import json

from playwright.async_api import BrowserContext, ConsoleMessage, Locator, Page, Request, expect

from tests.support import Owner, Scene


class Person:
    """An owner at a browser. All that the browser complains of is kept, and every host that it asks."""

    def __init__(self, scene: Scene, owner: Owner, context: BrowserContext) -> None:
        self.scene = scene
        self.owner = owner
        self.context = context
        self.page: Page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.expects_outage = False
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", self._see)

    async def open_page(self, path: str = "") -> Page:
        """Another tab, in front from now on."""
        self.page = await self.context.new_page()
        if path:
            await self.page.goto(path)
        return self.page

    async def log_in(self) -> None:
        """Type the address, open the mailed link, press its button."""
        await self.scene.at_rest()
        mailbox = self.scene.mailbox
        mailbox.mails = [(to, mail) for to, mail in mailbox.mails if to != self.owner.address]
        await self.page.goto("/")
        await self.page.get_by_label("Your mail address").fill(self.owner.address)
        await self.page.get_by_role("button", name="Mail me a link").click()
        await expect(self.page.get_by_role("heading", name="Check your mail")).to_be_visible()
        await self.open_link(await self.scene.mailbox.next_link(self.owner.address))

    async def open_link(self, link: str) -> None:
        """Open a mailed link and press its button."""
        await self.page.goto(link)
        await self.page.get_by_role("button", name="Open my book").click()
        await expect(self.page.get_by_role("heading", name="Your devices", exact=True)).to_be_visible()

    def row(self, name: str, page: Page | None = None) -> Locator:
        """The row of a device."""
        return (page or self.page).locator(f".row[data-name={json.dumps(name)}]")

    def card(self, name: str, page: Page | None = None) -> Locator:
        """The card of a request."""
        return (page or self.page).locator(f".card[data-name={json.dumps(name)}]")

    async def press(self, name: str) -> None:
        """Press the button of that name."""
        await self.page.get_by_role("button", name=name, exact=True).click()

    async def unfold(self, name: str) -> None:
        """Open what is folded under that name."""
        await self.page.locator("summary", has_text=name).click()

    async def start_renaming(self, name: str) -> Locator:
        """Open the rename field of a device; the field."""
        await self.row(name).locator(".rename summary").click()
        field = self.row(name).locator(".rename input")
        await expect(field).to_be_focused()
        return field

    async def revoke(self, name: str) -> None:
        """Revoke a device, and confirm it."""
        await self.row(name).locator("summary", has_text="Revoke").click()
        await self.press(f"Yes, revoke {name}")

    def complained_of_nothing(self) -> None:
        """No error, no refused resource, and no request to any other host."""
        assert not self.complaints, self.complaints
        strangers = [url for url in self.asked if not url.startswith((self.scene.url, "blob:", "data:"))]
        assert not strangers, strangers

    def forgive(self, *texts: str) -> None:
        """What the browser complained of so far was to be expected; each complaint has one of the texts."""
        assert all(any(text in complaint for text in texts) for complaint in self.complaints), self.complaints
        self.complaints.clear()

    def _hear(self, message: ConsoleMessage) -> None:
        # Chromium logs a connection that fails; a test that takes the server away expects that.
        outage = self.expects_outage and ("net::ERR" in message.text)
        if message.type in ("error", "warning") and not outage:
            self.complaints.append(f"{message.text} ({message.location['url']})")

    def _see(self, request: Request) -> None:
        self.asked.append(request.url)
