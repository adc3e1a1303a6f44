"""Mails: composed from templates and sent beside everything else, so that no reply ever waits for a mail server."""

import asyncio
import contextlib
import email.policy
import logging
import ssl
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any

import aiosmtplib
import jinja2

from app.addresses import Address, parse_address
from app.background import Background
from app.mailserver import MailServer
from app.stamps import Stamp
from app.tally import Tally

log = logging.getLogger("peerbook.mail")

_TRIES = 3
_FIRST_PAUSE = 2.0  # seconds, twice as long each time
_TIMEOUT = 10.0
_AT_ONCE = 4
_MOST_WAITING = 500
_LONGEST_NAME = 32
# Lines are as long as they may be (RFC 5322, section 2.1.1): Python would fold a link in a header into encoded words, which
# no mail program opens.
_LINES = email.policy.SMTP.clone(max_line_length=998, cte_type="7bit")


def plain(name: str) -> str:
    """A name that a stranger chose, as it may stand in a mail: mail readers turn anything like a host into a link."""
    return "".join(char for char in name if char.isalnum() or char in " -_")[:_LONGEST_NAME].strip() or "unnamed"


class Mailer:
    """Composes and sends; without a mail server, mails go to `show`."""

    def __init__(
        self,
        server: MailServer | None,
        sender: str,
        background: Background,
        tally: Tally,
        *,
        show: Callable[[str], None] = print,
        pause: float = _FIRST_PAUSE,
    ) -> None:
        self._server = server
        self._sender = sender
        self._sender_address = parse_address(sender.rpartition("<")[2].rstrip(">"))
        self._background = background
        self._tally = tally
        self._show = show
        self._pause = pause
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self.is_degraded = False
        """Whether the last mail did not leave, or not at the first try."""
        self._stopping = asyncio.Event()
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("app", "templates/mail"),
            autoescape=jinja2.select_autoescape(["html"]),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            keep_trailing_newline=True,
        )
        self._templates.filters["plain"] = plain

    def post(self, stamp: Stamp, template: str, members: Mapping[str, Any]) -> None:
        """Send the mail `template` beside everything else; its fate is logged, never raised."""
        if self._waiting >= _MOST_WAITING:
            self._tally.add("mails", "dropped")
            log.warning("event=mail_dropped reason=too_many")
            return
        self._waiting += 1
        self._background.start(self._deliver(self._compose(stamp, template, {**members, "stop": stamp.stop}), stamp.to))

    def stop(self) -> None:
        """The server stops: what failed is not tried again, what did not leave yet may go on until it is cancelled."""
        self._stopping.set()

    def _compose(self, stamp: Stamp, template: str, members: Mapping[str, Any]) -> EmailMessage:
        text = self._templates.get_template(f"{template}.txt").render(members)
        subject, _, body = text.partition("\n\n")
        message = EmailMessage(_LINES)
        message["Subject"] = subject
        message["From"] = self._sender
        message["To"] = stamp.to.typed
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._sender_address.domain)
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday replies to this
        message["List-Unsubscribe"] = f"<{stamp.stop}>"  # RFC 2369, section 3.2
        if stamp.stop.startswith("https:"):
            message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"  # RFC 8058, section 3.1
        message.set_content(body)
        message.add_alternative(self._templates.get_template(f"{template}.html").render(members), subtype="html")
        return message

    async def _deliver(self, message: EmailMessage, to: Address) -> None:
        try:
            async with self._turns:
                await self._try(message, to)
        except asyncio.CancelledError:
            self._tally.add("mails", "given_up")
            log.error("event=mail_given_up reason=stopped")
            raise
        finally:
            self._waiting -= 1

    async def _try(self, message: EmailMessage, to: Address) -> None:
        if self._server is None:
            body = message.get_body(("plain",))
            self._show(f"\n--- mail to {to.typed}: {message['Subject']}\n\n{body.get_content() if body else ''}\n---\n")
            return
        for attempt in range(_TRIES):
            if attempt and await self._stops_within(self._pause * 2 ** (attempt - 1)):
                break
            try:
                await self._hand_over(self._server, message, to)
            except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused) as error:
                code, self.is_degraded = _code(error), True
                self._tally.add("mails", "refused")
                log.warning("event=mail_refused try=%d code=%d", attempt + 1, code)
                if code >= 500:  # for good (RFC 5321, section 4.2.1)
                    break
            except (aiosmtplib.SMTPException, OSError, ssl.SSLError, TimeoutError) as error:
                self.is_degraded = True
                self._tally.add("mails", "failed")
                log.warning("event=mail_failed try=%d error=%s", attempt + 1, type(error).__name__)
            else:
                self.is_degraded = attempt > 0
                self._tally.add("mails", "sent")
                log.info("event=mail_sent try=%d", attempt + 1)
                return
        self._tally.add("mails", "given_up")
        log.error("event=mail_given_up")

    async def _stops_within(self, seconds: float) -> bool:
        """Wait so long; True, and at once, where the server stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

    async def _hand_over(self, server: MailServer, message: EmailMessage, to: Address) -> None:
        await aiosmtplib.send(
            message.as_bytes(),
            sender=self._sender_address.typed,
            recipients=[to.typed],
            hostname=server.host,
            port=server.port,
            use_tls=server.tls,
            start_tls=server.starttls,
            username=server.user,
            password=server.password,
            timeout=_TIMEOUT,
        )


def _code(error: aiosmtplib.SMTPResponseException | aiosmtplib.SMTPRecipientsRefused) -> int:
    """What the mail server answered."""
    return error.code if isinstance(error, aiosmtplib.SMTPResponseException) else error.recipients[0].code
