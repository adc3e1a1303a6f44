"""Who answers for the owner: a person at the page, asked on the terminal, or this program, with the owner's mailbox."""

import asyncio
import mailbox
import re
import time
from collections.abc import Callable
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

_MAIL_SECONDS = 30.0


class Person:
    """Asks for each act, and waits until the person says that it is done."""

    def __init__(self, say: Callable[[str], None], ask: Callable[[str], str] = input) -> None:
        self._say = say
        self._ask = ask

    async def act(self, what: str, fp: str, **fields: str) -> None:
        """Ask for one act."""
        more = ", ".join(f"{key} {value}" for key, value in fields.items())
        self._say(f"  On your page, {what} the device {fp[:4]}…{fp[-4:]}{f' ({more})' if more else ''}.")
        await asyncio.to_thread(self._ask, "  Then press Enter. ")


class Mailbox:
    """Logs in by the link that comes to a Maildir, and posts the forms of the page."""

    def __init__(self, server: str, email: str, maildir: Path) -> None:
        self._server = server.rstrip("/")
        self._email = email
        self._maildir = maildir
        self._opener = build_opener(HTTPCookieProcessor(CookieJar()))
        self._open = False

    async def act(self, what: str, fp: str, **fields: str) -> None:
        """Do one act."""
        await asyncio.to_thread(self._act, what, fp, fields)

    def _act(self, what: str, fp: str, fields: dict[str, str]) -> None:
        if not self._open:
            known = set(self._links())
            self._post("/login", {"email": self._email})
            self._post(self._next_link(known), {})
            self._open = True
        self._post(f"/peers/{fp}/{what}", fields)

    def _post(self, path: str, fields: dict[str, str]) -> None:
        headers = {"Sec-Fetch-Site": "same-origin", "Origin": self._server, "Accept": "text/html"}
        request = Request(f"{self._server}{path}", urlencode(fields).encode(), headers)  # noqa: S310 - the server that the user names
        try:
            self._opener.open(request, timeout=10).close()
        except HTTPError as error:
            raise RuntimeError(f"{path.split('/')[1]} was answered with {error.code}") from None

    def _next_link(self, known: set[str]) -> str:
        deadline = time.monotonic() + _MAIL_SECONDS
        while time.monotonic() < deadline:
            if new := [link for link in self._links() if link not in known]:
                return new[-1]
            time.sleep(0.2)  # a Maildir tells nobody of what comes
        raise RuntimeError("no mail with a link came")

    def _links(self) -> list[str]:
        """The paths of the login links that lie there, oldest first."""
        found = []
        for message in sorted(mailbox.Maildir(self._maildir), key=lambda each: each.get_date()):
            texts = [part for part in message.walk() if part.get_content_type() == "text/plain"]
            for part in texts:
                payload = part.get_payload(decode=True)
                text = payload.decode() if isinstance(payload, bytes) else ""
                found += re.findall(r"^https?://[^/\s]+(/link/\S+)$", text.replace("\r\n", "\n"), re.M)
        return found
