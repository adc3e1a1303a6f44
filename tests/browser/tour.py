"""A tour of every page, each in the states that look different."""

import json
import re
from collections.abc import AsyncIterator

from playwright.async_api import Page, expect

from tests.browser.person import Person
from tests.support import link_in, new_fingerprint, text_of


async def tour(person: Person) -> AsyncIterator[tuple[str, Page]]:
    """Every page with its name, as this person sees it."""
    page, scene, owner = person.page, person.scene, person.owner
    await page.goto("/")
    yield "home", page
    await page.locator("form").evaluate("form => form.noValidate = true")
    await page.get_by_label("Your mail address").fill("you@")
    await page.get_by_role("button").click()
    await expect(page.locator(".problem")).to_be_visible()
    yield "home-problem", page
    await page.get_by_label("Your mail address").fill(owner.address)
    await page.get_by_role("button").click()
    await expect(page.get_by_role("heading", name="Check your mail")).to_be_visible()
    yield "mailed", page
    await page.get_by_label("Code from the mail").fill("1")
    await person.press("Open my book")
    await expect(page.locator(".problem")).to_be_visible()
    yield "mailed-problem", page
    mail = await scene.mailbox.next_mail(owner.address)
    link = link_in(mail)
    await page.goto(link)
    yield "link", page
    await person.open_link(link)
    yield "book-empty", page
    await page.goto(link)
    yield "link-gone", page
    stop = re.search(r"https?://\S+/stop/\S+$", text_of(mail), re.M)
    assert stop
    await page.goto(stop[0])
    yield "stop", page
    await person.press("Stop mails")
    await expect(page.get_by_role("heading", name="Mails are stopped")).to_be_visible()
    yield "stopped", page
    await person.press("Allow mails again")
    await page.goto("/nothing/here")
    yield "error", page

    await page.goto("/peers")
    for name, kind in (("laptop", "laptop"), ("phone", "phone"), ("kitchen pi", "pi"), ("old tablet", "tablet")):
        device = await scene.connect(email=owner.address, name=name, kind=kind)
        await device.hear()
        await person.press(f"Approve {name}")
        assert (await device.hear())["code"] == 200
        if kind == "pi":
            await device.leave()
    await person.revoke("old tablet")
    await expect(person.row("old tablet")).to_contain_text("Revoked")
    yield "book", page
    for name, kind in (("work browser", "browser"), ("phone", "phone")):
        await (await scene.connect(email=owner.address, name=name, kind=kind)).hear()
        await expect(person.card(name)).to_be_visible()
    yield "book-requests", page
    field = await person.start_renaming("phone")
    await field.fill("laptop")
    await field.press("Enter")
    await expect(person.row("phone").locator(".problem")).to_be_visible()
    yield "book-problem", page
    await field.press("Escape")
    await person.row("laptop").locator("summary", has_text="Revoke").click()
    yield "book-revoke", page
    await page.keyboard.press("Escape")
    await person.press("Make an invite code")
    for name in ("Ready lines for a device", "Enter a fingerprint ahead", "Import a book", "Delete this account"):
        await person.unfold(name)
    await person.row("laptop").locator(".fp summary").click()
    await page.get_by_label("Select laptop").check()
    yield "book-unfolded", page

    peers = [{"fp": new_fingerprint(), "name": name, "kind": "server"} for name in ("attic", "laptop")]
    export = json.dumps({"format": "peerbook book", "version": 1, "peers": peers}).encode()
    file = {"name": "peerbook.json", "mimeType": "application/json", "buffer": export}
    await page.get_by_label("Exported file").set_input_files(file)  # type: ignore[arg-type]
    await person.press("Look at it")
    await expect(page.get_by_text("attic")).to_be_visible()
    yield "import", page
    notice = await scene.mailbox.next_notice(owner.address)
    sign_out = re.search(r"^https?://\S+/signout/\S+$", text_of(notice), re.M)
    assert sign_out
    await page.goto(sign_out[0])
    yield "sign-out", page
    await person.press("Sign out everywhere")
    await expect(page.get_by_role("heading", name="You are logged out everywhere")).to_be_visible()
    yield "logged-out-everywhere", page
    await person.log_in()
    await person.press("Log out")
    await expect(page.get_by_role("heading", name="You are logged out")).to_be_visible()
    yield "logged-out", page
    await person.log_in()
    await person.unfold("Delete this account")
    await page.get_by_label("Type your mail address").fill(owner.address)
    await person.press("Delete everything")
    await expect(page.get_by_role("heading", name="Your account is deleted")).to_be_visible()
    yield "deleted", page
