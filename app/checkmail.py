"""The doctor's look at the mail server: does it take our mails?"""

import ssl
from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

import aiosmtplib

from app.addresses import Address, parse_address
from app.findings import Finding, fail, is_near, note, ok
from app.mailserver import MailServer
from app.settings import Settings

_SECONDS = 10.0


async def check_mail(settings: Settings, send_to: Address | None) -> AsyncIterator[Finding]:
    """Connect, encrypt and log in as the mailer does, and send one mail if asked to."""
    server = settings.smtp_url
    if server is None:
        told = "mails are shown on the terminal: set SMTP_URL to have them sent."
        yield fail("mail", f"nothing was sent, {told}") if send_to else note("mail", told)
        return
    client = aiosmtplib.SMTP(
        hostname=server.host, port=server.port, use_tls=server.tls, start_tls=server.starttls, timeout=_SECONDS
    )
    try:
        async for finding in _check(client, server, settings.mail_from, send_to):
            yield finding
    finally:
        client.close()


async def _check(
    client: aiosmtplib.SMTP, server: MailServer, sender: str, send_to: Address | None
) -> AsyncIterator[Finding]:
    where = f"{server.host}:{server.port}"
    try:
        await client.connect()
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        yield fail("mail", _explain(error, server, where))
        return
    encrypted = client.transport is not None and client.transport.get_extra_info("ssl_object") is not None
    yield ok("mail", f"{where} answers{', encrypted' if encrypted else ''}.")
    if not encrypted and not is_near(server.host):
        yield note("mail TLS", "mails go there in the clear: use smtps://, or a server with STARTTLS.")
    if server.user is not None:
        try:
            await client.login(server.user, server.password or "")
        except aiosmtplib.SMTPAuthenticationError as error:
            yield fail("mail login", f"{where} refuses our user or password ({error.code}): check SMTP_URL.")
            return
        except (aiosmtplib.SMTPException, OSError, TimeoutError):
            yield fail(
                "mail login", f"{where} takes no login: leave user and password out of SMTP_URL, or check its port."
            )
            return
        yield ok("mail login", "taken.")
    if send_to:
        yield await _send(client, sender, send_to)


async def _send(client: aiosmtplib.SMTP, sender: str, to: Address) -> Finding:
    message = EmailMessage()
    message["From"], message["To"] = sender, to.typed
    message["Subject"] = "A mail from your peerbook's doctor"
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain="peerbook.invalid")
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834
    message.set_content("If you read this, mails of your peerbook arrive.\n")
    try:
        await client.sendmail(_bare(sender), [to.typed], message.as_bytes())
    except (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPDataError) as error:
        return fail(
            "mail sent", f"the server refuses it ({error.code}): is MAIL_FROM an address that it knows as ours?"
        )
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        return fail("mail sent", f"the server does not take it for that address ({type(error).__name__}).")
    return ok("mail sent", "the server took it: now look into that mailbox, and its spam folder.")


def _bare(sender: str) -> str:
    return parse_address(sender.rpartition("<")[2].rstrip(">")).typed


def _explain(error: BaseException, server: MailServer, where: str) -> str:
    seen: BaseException | None = error
    while seen:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"the certificate of {where} does not verify: use the host name that it is made for in SMTP_URL."
        if isinstance(seen, ssl.SSLError):
            return f"{where} does not speak TLS from the first byte: use smtp:// in SMTP_URL, or port 465."
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, TimeoutError):
        return f"{where} does not answer in time: check SMTP_URL, and whether mail ports are open to the outside."
    if isinstance(error, aiosmtplib.SMTPConnectError | OSError):
        return f"nobody takes mails at {where}: check host and port in SMTP_URL."
    if server.starttls:
        return f"{where} has no STARTTLS: use smtps://, another port, or ?starttls=0 if it is on this machine."
    return f"{where} does not speak SMTP with us ({type(error).__name__}): check SMTP_URL."
