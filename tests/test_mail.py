"""Mails: what they say, how they get to a mail server, and that nobody ever waits for one."""

import asyncio
import email
import email.policy
import logging
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from hypothesis import given, settings
from hypothesis import strategies as st

import app.mailer
from app.addresses import Address, parse_address
from app.background import Background
from app.errors import BadInput
from app.mailer import Mailer, plain
from app.mailserver import parse_mail_server
from app.peers import Device as AskingDevice
from app.peers import Fingerprint
from app.stamps import Stamp
from app.tally import Tally
from tests.conftest import Start
from tests.process import free_port, scene_at, server
from tests.support import (
    SECONDS,
    Mailbox,
    Scene,
    SilentMailServer,
    code_in,
    eventually,
    link_in,
    new_fingerprint,
    text_of,
)

OWNER = "owner@example.org"
LINK = "https://book.example.org/link/abc.def"
STOP = "https://book.example.org/stop/abc.def"
LOGIN = {"link": LINK, "code": "123 456", "minutes": 10}

HEADERS = {"Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"}
HEADERS |= {"List-Unsubscribe", "List-Unsubscribe-Post"}

User = tuple[str, str]


class Post:
    """A mailbox behind a mail server of some sort, that also keeps who logged in and how many times it was dialled."""

    def __init__(self) -> None:
        self.mailbox = Mailbox()
        self.port = 0
        self.dialled = 0
        self.users: list[User] = []
        self.over_tls: list[bool] = []
        self.relents = False

    @asynccontextmanager
    async def open(self, *, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator["Post"]:
        """Serve, over TLS from the first byte where `tls` is given; the other options are aiosmtpd's."""
        loop = asyncio.get_running_loop()

        def answer() -> SMTP:
            self.dialled += 1
            return SMTP(self, loop=loop, hostname="mail.test", **options)

        listener = await loop.create_server(answer, "127.0.0.1", 0, ssl=tls)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()

    def accept(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.users.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password == b"open:sesame", handled=False)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        assert server.transport
        self.over_tls.append(server.transport.get_extra_info("ssl_object") is not None)
        answer = await self.mailbox.handle_RCPT(server, session, envelope, address, options)
        if self.relents:
            self.mailbox.refuse = ""
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return await self.mailbox.handle_DATA(server, session, envelope)


class Sender:
    """A Mailer and the end of its work."""

    def __init__(self, url: str) -> None:
        self.background = Background()
        server = parse_mail_server(url) if url else None
        self.shown: list[str] = []
        self.tally = Tally()
        self.mailer = Mailer(
            server, "Peerbook <book@example.org>", self.background, self.tally, show=self.shown.append, pause=0.01
        )

    async def send(self, template: str = "login", to: str = OWNER, **members: Any) -> None:
        """Post a mail, and wait until its fate is sealed."""
        self.mailer.post(Stamp(Address(to), STOP), template, LOGIN | members)
        await self.done()

    async def done(self) -> None:
        """Wait until the fate of all mails is sealed."""
        await eventually(lambda: not self.background._tasks)


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], ssl.SSLContext]:
    """Makes the certificate of a mail server whose authority this machine trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return partial(context_of, authority)


def context_of(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
    return context


def fates(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of mails."""
    return [record.getMessage() for record in caplog.records if record.name == "peerbook.mail"]


def request_members(name: str = "laptop", kind: str = "lab") -> dict[str, Any]:
    device = AskingDevice(Fingerprint(new_fingerprint()), "none", name, kind, "192.0.2.x")
    return {"device": device, "pair": "123-456", "asked": "1 May 2026, 12:00 UTC"}


def _mailer() -> Mailer:
    """A mailer that shows what it composes."""
    return Sender("").mailer


@pytest.fixture(autouse=True)
def _listen_to_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


# What a mail says


async def asked(scene: Scene, **query: str) -> tuple[EmailMessage, str]:
    """The mail about a device that dials, and its pair code."""
    device = await scene.connect(email=OWNER, **query)
    pair = (await device.hear())["pair"]
    return await scene.mailbox.next_mail(OWNER), pair


async def test_a_request_mail_names_device_kind_time_and_pair(scene: Scene) -> None:
    mail, pair = await asked(scene, name="laptop", kind="lab")
    html = mail.get_body(("html",))
    assert html
    for text in (text_of(mail), html.get_content()):
        assert "laptop" in text
        assert "lab" in text
        assert pair in text
        assert re.search(r"\d{1,2} \w+ \d{4}, \d\d:\d\d UTC", text)
        assert "good for 10 minutes" in text
        assert link_in(mail) in text


async def test_a_mail_is_one_text_and_one_html_part(scene: Scene) -> None:
    mail, _ = await asked(scene)
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


async def test_the_headers_are_those_of_a_machine_that_writes_to_one_person(scene: Scene) -> None:
    mail, _ = await asked(scene)
    assert mail["Subject"] == "A device asks to join your book"
    assert (mail["From"], mail["To"]) == ("book@example.org", OWNER)
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"].endswith("@example.org>")
    assert mail["Date"].datetime
    assert {"Cc", "Bcc", "Reply-To"}.isdisjoint(mail.keys())


async def test_the_link_has_a_line_of_its_own_however_long_the_origin(start: Start) -> None:
    scene = await start(base_url=f"https://{'a' * 60}.{'b' * 60}.example.org")
    mail, _ = await asked(scene)
    assert len(link_in(mail)) > 200
    assert link_in(mail).startswith(scene.context.settings.base_url)


async def test_a_login_mail_holds_one_link_and_names_no_device(scene: Scene) -> None:
    owner = scene.owner()
    await owner.http.post("/login", data={"email": owner.address})
    mail = await scene.mailbox.next_mail(owner.address)
    assert mail["Subject"] == "Your link to peerbook"
    assert text_of(mail).count("/link/") == 1
    await owner.open_link(link_in(mail))


async def test_a_mail_says_how_long_its_link_is_good(start: Start) -> None:
    mail, _ = await asked(await start(link_ttl=1800))
    assert "good for 30 minutes" in text_of(mail)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Zoë's laptop", "Zoës laptop"),
        ("http://evil.example/x?y=z", "httpevilexamplexyz"),
        ("you@evil.example", "youevilexample"),
        ("<b>bold</b>", "bboldb"),
        ("my-old_phone 2", "my-old_phone 2"),
        ("x" * 64, "x" * 32),
        ("evil。example", "evilexample"),
        ("...", "unnamed"),
        ("{{ link }}", "link"),
        ("laptop\r\nBcc: all@example.org", "laptop Bcc allexampleorg"),
    ],
)
async def test_a_name_shows_letters_and_digits_only(scene: Scene, name: str, shown: str) -> None:
    mail, _ = await asked(scene, name=name)
    assert f"  name: {shown}\n" in text_of(mail)
    html = mail.get_body(("html",))
    assert html
    assert f"<td>{shown}</td>" in html.get_content()
    assert mail["Subject"] == "A device asks to join your book"
    assert {"Bcc", "Cc"}.isdisjoint(mail.keys())


STRANGERS_WORDS = [
    "http://evil.example/x",
    "evil.example",
    "all@evil.example",
    "laptop\r\nBcc: all@evil.example\r\n\r\nhttp://evil.example",
    "laptop\n\n.\n\nMAIL FROM:<all@evil.example>",
    "=?utf-8?q?=0D=0ABcc=3A_all=40evil=2Eexample?=",
    "<a href='http://evil.example'>open</a>",
    "{{ link }}{% include 'login.txt' %}",
    "\u202eelpmaxe.live//:ptth",
    "evil\u3002example/\u2028Bcc: all@evil\uff0eexample",
    "\x00\x1b]8;;http://evil.example\x07",
    "x" * 5000,
]
TEMPLATES = {
    "request": "A device asks to join your book",
    "approved": "A device joined your book",
    "proof": "A device proves itself in another way",
}


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("words", STRANGERS_WORDS)
def test_what_a_stranger_chose_is_never_in_the_subject_and_makes_no_link(template: str, words: str) -> None:
    members = {"name": words, "sign_out": LINK} | LOGIN | request_members(words, words)
    message = _mailer()._compose(Stamp(Address(OWNER), STOP), template, members | {"stop": STOP})
    assert message["Subject"] == TEMPLATES[template]
    assert set(message.keys()) == HEADERS
    for kind in ("plain", "html"):
        part = message.get_body((kind,))
        assert part
        text = part.get_content()
        ours = text.count(LINK) + text.count(STOP)
        assert text.count("http") - ours == plain(words).count("http") * (2 if template == "request" else 1)
        for sign in ("evil.example", "@evil", "://evil", "\u202e", "\u2028", "\x1b", "\x00", "<a href='"):
            assert sign not in text
        assert "x" * 33 not in text


def test_no_subject_has_a_place_for_what_somebody_chose() -> None:
    mails = Path(app.mailer.__file__).parent / "templates" / "mail"
    subjects = {path.stem: path.read_text().splitlines()[0] for path in mails.glob("*.txt") if path.stem != "stop"}
    assert subjects.keys() > TEMPLATES.keys()
    assert not [subject for subject in subjects.values() if "{" in subject]


async def test_a_browser_that_lies_about_itself_writes_nothing_into_the_notice(start: Start) -> None:
    scene = await start(proxies_count=1)
    await scene.owner(OWNER).log_in()
    owner = scene.owner(OWNER)
    owner.http.headers["User-Agent"] = "http://evil.example <b>Firefox</b> {{ 7*7 }}"
    owner.http.headers["X-Forwarded-For"] = "http://evil.example"
    await owner.log_in()
    notice = await scene.mailbox.next_notice(owner.address)
    assert "opened your peerbook: Firefox, 127.0.0.x\n" in text_of(notice)
    assert "evil" not in notice.as_string()


def test_a_plain_name_is_never_empty_and_never_long() -> None:
    assert plain("") == plain("  ") == plain("///") == "unnamed"
    assert len(plain("ab " * 64)) <= 32


async def test_a_kind_that_looks_like_a_host_makes_no_link(scene: Scene) -> None:
    mail, _ = await asked(scene, kind="evil.example.org")
    assert "  kind: evilexampleorg\n" in text_of(mail)
    assert "evil.example" not in mail.as_string()


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("owner@example.org\r\nBcc: all@example.org", id="header"),
        pytest.param("owner@example.org\nBcc: all@example.org", id="header after a bare line feed"),
        pytest.param("owner@example.org\rBcc: all@example.org", id="header after a bare return"),
        pytest.param("owner@example.org\x00all@example.org", id="zero byte"),
        pytest.param("owner@example.org\u2028all@example.org", id="line separator"),
        pytest.param("owner@example.org, other@example.org", id="two"),
        pytest.param("owner@example.org;other@example.org", id="two, semicolon"),
        pytest.param("owner@example.org other@example.org", id="two, blank"),
        pytest.param("Owner <owner@example.org>", id="named"),
        pytest.param("owner@example.org><other@example.org", id="brackets"),
        pytest.param("us: owner@example.org, other@example.org;", id="group"),
        pytest.param("owner(other@example.net)@example.org", id="comment"),
        pytest.param('"owner, other@example.net"@example.org', id="quoted local part"),
        pytest.param("@example.org:owner@example.net", id="route"),
        pytest.param("owner@example.org%0aBcc:all@example.org", id="percent"),
        pytest.param("=?utf-8?q?owner=2C_other=40example=2Enet?=@example.org", id="encoded word"),
        pytest.param("=?utf-8?q?owner=0D=0ABcc=3A_all=40example=2Enet?=@example.org", id="encoded header"),
        pytest.param("=?utf-8?b?b3duZXIsb3RoZXI=?=@example.org", id="encoded in base64"),
        pytest.param("öwner@example.org", id="beyond ascii"),
        pytest.param("owner@ex\u0430mple.org", id="host beyond ascii"),
        pytest.param("owner\uff20example.org", id="wide at"),
        pytest.param("owner@[127.0.0.1]", id="literal host"),
    ],
)
async def test_an_address_that_is_more_than_one_is_refused_and_nobody_is_mailed(scene: Scene, address: str) -> None:
    answer = await scene.http.post("/verify", json={"fp": new_fingerprint(), "email": address})
    assert answer.status_code == 400
    assert (await scene.http.post("/login", data={"email": address})).status_code == 422
    device = await scene.connect(email=address)
    assert "pair" not in await device.hear(), "a socket counts it as none, so nobody is asked"
    await scene.at_rest()
    assert scene.mailbox.mails == []


@pytest.mark.parametrize(
    "address", ["o'neil+tag=x@example.org", "`id`|a&b@example.org", "-f%x!{{y}}@example.org", "a=b?c@d"]
)
async def test_an_odd_address_is_one_recipient_and_stands_alone_in_the_header(scene: Scene, address: str) -> None:
    await scene.http.post("/login", data={"email": address})
    await scene.at_rest()
    ((recipient, mail),) = scene.mailbox.mails
    assert recipient == address
    assert [each.addr_spec for each in mail["To"].addresses] == [address]


@given(st.from_regex(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,30}@[a-z]{1,9}\.[a-z]{2}", fullmatch=True))
@settings(deadline=None)
def test_whatever_is_taken_for_an_address_stands_alone_in_the_header(text: str) -> None:
    try:
        address = parse_address(text)
    except BadInput:
        return
    message = _mailer()._compose(Stamp(address, STOP), "login", LOGIN | {"stop": STOP})
    sent = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert [each.addr_spec for each in sent["To"].addresses] == [text]
    assert set(sent.keys()) == HEADERS


async def test_a_mail_goes_to_the_address_as_it_was_first_typed(scene: Scene) -> None:
    await scene.verify(new_fingerprint(), email="First.Typed@Example.ORG")
    assert await scene.mailbox.next_mail("First.Typed@Example.ORG")
    await scene.verify(new_fingerprint(), email="first.typed@example.org")
    assert await scene.mailbox.next_mail("First.Typed@Example.ORG")


# How it gets to a mail server


async def test_a_plain_server_gets_it() -> None:
    async with Post().open() as post:
        await Sender(f"smtp://127.0.0.1:{post.port}").send()
        assert link_in(await post.mailbox.next_mail(OWNER)) == LINK
        assert (post.over_tls, post.users) == ([False], [])


async def test_tls_from_the_first_byte_is_used_where_the_url_says_so(
    certificates: Callable[[], ssl.SSLContext],
) -> None:
    async with Post().open(tls=certificates()) as post:
        await Sender(f"smtps://localhost:{post.port}").send()
        assert await post.mailbox.next_mail(OWNER)
        assert post.over_tls == [True]


async def test_starttls_is_taken_where_it_is_offered(certificates: Callable[[], ssl.SSLContext]) -> None:
    async with Post().open(tls_context=certificates(), require_starttls=True) as post:
        await Sender(f"smtp://localhost:{post.port}").send()
        assert await post.mailbox.next_mail(OWNER)
        assert post.over_tls == [True]


async def test_starttls_is_insisted_on_where_the_url_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with Post().open() as post:
        await Sender(f"smtp://localhost:{post.port}?starttls=1").send()
        assert post.mailbox.mails == []
        assert fates(caplog)[-1] == "event=mail_given_up"


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_user_and_password_go_out_encrypted(certificates: Callable[[], ssl.SSLContext], scheme: str) -> None:
    post = Post()
    tls = {"tls": certificates()} if scheme == "smtps" else {"tls_context": certificates()}
    async with post.open(**tls, authenticator=post.accept, auth_require_tls=scheme == "smtp"):
        await Sender(f"{scheme}://me%40example.org:open%3Asesame@localhost:{post.port}").send()
        assert await post.mailbox.next_mail(OWNER)
        assert set(post.users) == {("me@example.org", "open:sesame")}
        assert post.over_tls == [True]


async def test_a_password_never_goes_out_in_the_clear(caplog: pytest.LogCaptureFixture) -> None:
    post = Post()
    async with post.open(authenticator=post.accept, auth_require_tls=False):
        await Sender(f"smtp://me:open%3Asesame@localhost:{post.port}").send()
        assert (post.users, post.mailbox.mails) == ([], [])
        assert post.dialled > 0
        assert fates(caplog)[-1] == "event=mail_given_up"


async def test_a_password_for_a_local_server_without_tls_goes_out_when_the_url_says_so() -> None:
    post = Post()
    async with post.open(authenticator=post.accept, auth_require_tls=False):
        await Sender(f"smtp://me:open%3Asesame@localhost:{post.port}?starttls=0").send()
        assert await post.mailbox.next_mail(OWNER)


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize("fault", ["another name", "another authority"])
async def test_a_server_with_a_wrong_certificate_gets_neither_mail_nor_password(
    certificates: Callable[..., ssl.SSLContext], scheme: str, fault: str
) -> None:
    wrong = certificates("mail.example.org") if fault == "another name" else context_of(trustme.CA())
    post = Post()
    tls = {"tls": wrong} if scheme == "smtps" else {"tls_context": wrong}
    async with post.open(**tls, authenticator=post.accept, auth_require_tls=False):
        await Sender(f"{scheme}://me:open%3Asesame@localhost:{post.port}").send()
        assert (post.users, post.mailbox.mails) == ([], [])
        assert post.dialled > 0


async def test_a_wrong_password_is_tried_once(caplog: pytest.LogCaptureFixture) -> None:
    post = Post()
    async with post.open(authenticator=post.accept, auth_require_tls=False):
        await Sender(f"smtp://me:wrong@localhost:{post.port}?starttls=0").send()
        assert post.mailbox.mails == []
        assert post.dialled == 1
        assert fates(caplog) == ["event=mail_refused try=1 code=535", "event=mail_given_up"]


# When the mail server is in trouble


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        ("550 no such user", ["event=mail_refused try=1 code=550", "event=mail_given_up"]),
        (
            "450 greylisted",
            [
                "event=mail_refused try=1 code=450",
                "event=mail_refused try=2 code=450",
                "event=mail_refused try=3 code=450",
                "event=mail_given_up",
            ],
        ),
    ],
)
async def test_a_refusal_for_now_is_tried_three_times_and_one_for_good_once(
    caplog: pytest.LogCaptureFixture, refusal: str, expected: list[str]
) -> None:
    async with Post().open() as post:
        post.mailbox.refuse = refusal
        await Sender(f"smtp://127.0.0.1:{post.port}").send()
        assert fates(caplog) == expected
        assert post.mailbox.mails == []


async def test_a_mail_that_was_refused_for_now_arrives_once_later(caplog: pytest.LogCaptureFixture) -> None:
    async with Post().open() as post:
        post.mailbox.refuse = "450 greylisted"
        post.relents = True
        await Sender(f"smtp://127.0.0.1:{post.port}").send()
        assert await post.mailbox.next_mail(OWNER)
        assert post.mailbox.mails == []
        assert fates(caplog) == ["event=mail_refused try=1 code=450", "event=mail_sent try=2"]


async def test_a_server_that_is_down_is_tried_three_times(caplog: pytest.LogCaptureFixture) -> None:
    await Sender(f"smtp://127.0.0.1:{free_port()}").send()
    assert [fate.partition(" error=")[0] for fate in fates(caplog)] == [
        "event=mail_failed try=1",
        "event=mail_failed try=2",
        "event=mail_failed try=3",
        "event=mail_given_up",
    ]


async def test_a_server_that_hangs_up_is_tried_three_times(caplog: pytest.LogCaptureFixture) -> None:
    dialled = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dialled
        dialled += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as rude:
        await Sender(f"smtp://127.0.0.1:{rude.sockets[0].getsockname()[1]}").send()
    assert dialled == 3
    assert fates(caplog)[-1] == "event=mail_given_up"


async def test_nobody_waits_for_a_mail_server_that_says_nothing(start: Start, silent: SilentMailServer) -> None:
    scene = await start(smtp_url=parse_mail_server(silent.url))
    owner = scene.owner()
    laptop = new_fingerprint()
    pair = (await scene.verify(laptop, email=owner.address))["pair"]
    await asyncio.wait_for(silent.called.wait(), SECONDS)
    # The mail server holds the mail in its hands and still says nothing: all of this is answered meanwhile.
    for _ in range(20):
        assert (await scene.verify(new_fingerprint(), email=f"o{_}@example.org"))["verified"] is False
    assert (await scene.verify(laptop, email=owner.address))["pair"] == pair
    device = await scene.connect(laptop, email=owner.address)
    assert (await device.hear())["pair"] == pair
    assert (await scene.http.post("/login", data={"email": owner.address})).status_code == 200
    assert (await scene.http.get("/healthz")).status_code == 200
    silent.release()
    await scene.at_rest()


@pytest.mark.parametrize("url", ["down", "refusing"])
async def test_a_mail_server_in_trouble_changes_no_answer(start: Start, mailbox: Mailbox, url: str) -> None:
    mailbox.refuse = "550 closed"
    address = mailbox.url if url == "refusing" else f"smtp://127.0.0.1:{free_port()}"
    scene = await start(smtp_url=parse_mail_server(address))
    fp = new_fingerprint()
    assert set(await scene.verify(fp, email=OWNER)) == {"verified", "pair"}
    device = await scene.connect(fp, email=OWNER)
    assert (await device.hear())["code"] == 401
    await device.hears_nothing()


async def test_when_too_many_mails_wait_one_more_is_dropped(
    silent: SilentMailServer, caplog: pytest.LogCaptureFixture
) -> None:
    sender = Sender(silent.url)
    for _ in range(600):
        sender.mailer.post(Stamp(Address(OWNER), STOP), "login", LOGIN)
    assert fates(caplog) == ["event=mail_dropped reason=too_many"] * 100
    silent.release()
    await sender.done()
    caplog.clear()
    await sender.send()
    assert "event=mail_dropped reason=too_many" not in fates(caplog), "there is room again"


async def test_a_mail_server_in_trouble_keeps_no_server_from_stopping(silent: SilentMailServer, tmp_path: Path) -> None:
    settings = {"PORT": str(free_port()), "SMTP_URL": silent.url, "DATA_DIR": str(tmp_path)}
    async with server(settings) as program, scene_at(program.url, Mailbox()) as scene:
        await scene.verify(new_fingerprint(), email=OWNER)
        await asyncio.wait_for(silent.called.wait(), SECONDS)
        assert await program.stop(seconds=8) == 0
        assert "Traceback" not in program.output


# How often


async def log_in(scene: Scene) -> None:
    """Ask for a link."""
    assert (await scene.http.post("/login", data={"email": OWNER})).status_code == 200


async def subjects(scene: Scene) -> list[str]:
    """The subjects of the mails that came until now, taken out of the box."""
    await scene.at_rest()
    mails, scene.mailbox.mails = scene.mailbox.mails, []
    return [mail["Subject"] for _, mail in mails]


LOGIN_MAIL = "Your link to peerbook"
REQUEST_MAIL = "A device asks to join your book"


async def test_a_second_login_mail_within_the_interval_is_not_sent(start: Start) -> None:
    scene = await start(mail_interval=60)
    for _ in range(3):
        await log_in(scene)
    assert await subjects(scene) == [LOGIN_MAIL]


async def test_a_second_request_mail_is_not_sent_but_its_device_stands_on_the_page(start: Start) -> None:
    scene = await start(mail_interval=60)
    owner = scene.owner(OWNER)
    first = await scene.connect(email=OWNER, name="laptop")
    await first.hear()
    await owner.open_link(await scene.mailbox.next_link(OWNER))
    second = await scene.connect(email=OWNER, name="tablet")
    assert (await second.hear())["code"] == 401
    assert await subjects(scene) == []
    page = await owner.page()
    assert "laptop" in page
    assert "tablet" in page


async def test_strangers_never_use_up_the_login_mail(start: Start) -> None:
    scene = await start(mail_interval=60)
    for _ in range(3):
        await scene.verify(new_fingerprint(), email=OWNER)
    await log_in(scene)
    assert sorted(await subjects(scene)) == [REQUEST_MAIL, LOGIN_MAIL]


async def test_a_login_mail_never_holds_back_the_news_of_a_device(start: Start) -> None:
    scene = await start(mail_interval=60)
    await log_in(scene)
    await scene.verify(new_fingerprint(), email=OWNER)
    assert sorted(await subjects(scene)) == [REQUEST_MAIL, LOGIN_MAIL]


async def test_one_owner_mailed_often_is_no_reason_to_keep_another_waiting(start: Start) -> None:
    scene = await start(mail_interval=60)
    for address in (OWNER, OWNER, "other@example.org"):
        await scene.verify(new_fingerprint(), email=address)
    await scene.at_rest()
    assert [to for to, _ in scene.mailbox.mails] == [OWNER, "other@example.org"]


async def test_request_mails_wait_ten_times_as_long_as_login_mails(start: Start) -> None:
    scene = await start(mail_interval=60)
    redis = scene.context.store.redis

    async def waits(what: str) -> list[int]:
        return [await redis.ttl(key) async for key in redis.scan_iter(f"limit:*:{what}:interval")]

    await scene.verify(new_fingerprint(), email=OWNER)
    await log_in(scene)
    await scene.at_rest()
    assert [590 <= seconds <= 600 for seconds in await waits("request")] == [True]
    assert [50 <= seconds <= 60 for seconds in await waits("login")] == [True]


async def test_the_interval_ends(start: Start) -> None:
    scene = await start(mail_interval=1)

    async def second_mail() -> None:
        while await subjects(scene) != [LOGIN_MAIL]:
            await log_in(scene)

    for _ in range(2):
        await asyncio.wait_for(second_mail(), SECONDS)


# What is logged


async def test_no_log_holds_an_address_a_token_or_a_whole_fingerprint(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fp = new_fingerprint()
    owner = scene.owner("private.person@example.org")
    laptop = await scene.connect(fp, email=owner.address, name="laptop")
    waiting = await laptop.hear()
    link = await scene.mailbox.next_link(owner.address)
    await owner.open_link(link)
    await owner.approve(fp)
    scene.mailbox.refuse = "550 private.person@example.org is unknown"
    await owner.http.post("/login", data={"email": owner.address})
    await scene.at_rest()
    cookies = [str(cookie.value) for cookie in owner.http.cookies.jar if cookie.name != "store"]  # a date
    assert len(cookies) == 3
    scene.mailbox.refuse = ""
    await owner.http.post("/login", data={"email": owner.address})
    mail = await scene.mailbox.next_mail(owner.address)
    code, stop = code_in(mail), str(mail["List-Unsubscribe"])[1:-1]
    await owner.http.post("/login/code", data={"code": "wrong", "email": owner.address})
    await owner.http.post("/login/code", data={"code": code})
    await owner.http.post(httpx.URL(stop).path)
    await owner.http.post("/login", data={"email": owner.address})
    await scene.at_rest()
    # The clients and the mail server of this test log as well.
    ours = "\n".join(caplog.handler.format(each) for each in caplog.records if not each.name.startswith(_TOOLS))
    assert "event=mail_sent" in ours
    assert "event=mail_refused" in ours
    assert "event=mail_stopped" in ours
    tokens = [each.rpartition("/")[2] for each in (link, link_in(mail), stop)]
    for secret in ("private", *tokens, fp, fp.lower(), waiting["pair"], *cookies, code, code.replace(" ", "")):
        assert secret not in ours


_TOOLS = ("mail.", "httpx", "httpcore", "websockets", "asyncio")


async def test_without_a_mail_server_mails_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    sender = Sender("")
    await sender.send("request", **request_members())
    (shown,) = sender.shown
    assert f"mail to {OWNER}: A device asks to join your book\n" in shown
    assert f"\n{LINK}\n" in shown
    assert "123-456" in shown
    assert fates(caplog) == [], "and nothing of it is logged"
