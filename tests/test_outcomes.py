"""How connections went: a peer says so, and its owner's page shows the latest of each device."""

import re
import time

import pytest

from app.bookview import view_book
from app.connections import Connection
from app.messages import BadMessage, ReportOutcome, parse_message
from tests.conftest import OpenProcess
from tests.parts import OWNER, STRANGER, Socket, a_device, fingerprint, verified
from tests.support import Message, Scene
from tests.test_messages import frame

PHONE = fingerprint()


def outcome(target: str, result: object = "direct", ms: object = 312) -> Message:
    return {"command": "outcome", "target": target, "result": result, "ms": ms}


@pytest.mark.parametrize("result", ["direct", "relay", "failed"])
@pytest.mark.parametrize("ms", [0, 312, 86_400_000])
def test_a_report_is_understood(result: str, ms: int) -> None:
    command, _ = parse_message(frame(**outcome(PHONE, result, ms)))
    assert command == ReportOutcome(PHONE, result, ms)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "members",
    [
        *({"result": bad} for bad in (None, "", "Direct", 1, ["direct"], [])),
        *({"ms": bad} for bad in (None, -1, 86_400_001, 1.5, "312", True, [1])),
        *({"target": bad} for bad in (None, "", "AB", 1)),
    ],
)
def test_a_malformed_report_is_refused(members: Message) -> None:
    with pytest.raises(BadMessage):
        parse_message(frame(**outcome(PHONE) | members))


async def test_the_page_shows_the_latest_connection_of_each_device(scene: Scene) -> None:
    owner = scene.owner()
    phone, home = await scene.join(owner, "phone"), await scene.join(owner, "home-pi")
    assert (await phone.ask(outcome(home.fp, "failed", 9000)))["code"] == 200
    assert (await phone.ask(outcome(home.fp)))["code"] == 200
    said = re.findall(r'<p class="outcome[^>]*>(.*?)</p>', await owner.page())
    assert [re.sub("<[^>]*>", "", line) for line in said] == ["→ home-pi: direct, 0.3 s, just now"]
    await owner.do(f"/peers/{home.fp}/rename", name="attic")
    assert "attic</span>: direct" in await owner.page()
    await owner.do(f"/peers/{home.fp}/remove")
    assert 'class="outcome' not in await owner.page()


async def test_a_report_is_kept_with_its_time_and_counted(open_process: OpenProcess) -> None:
    process = await open_process()
    uid = await process.books.enroll(OWNER)
    phone = await Socket(process, await verified(process, uid, "phone"), OWNER).come_in()
    home = await verified(process, uid, "home-pi")
    assert (await phone.ask(outcome(home.fp, "relay", 40)))["code"] == 200
    book = await process.books.read(uid)
    assert book
    kept = book.peers[phone.fp].outcome
    assert kept
    assert (kept.target, kept.result, kept.milliseconds) == (home.fp, "relay", 40)
    assert abs(kept.at - time.time()) < 60
    assert process.tally.counts["outcomes", "relay"] == 1
    (row,) = (row for row in view_book(book, {}, [], 0).rows if row.fp == phone.fp)
    assert row.target == "home-pi"


async def test_it_stays_with_a_device_that_takes_another_fingerprint(open_process: OpenProcess) -> None:
    process = await open_process()
    uid = await process.books.enroll(OWNER)
    phone, home, new = await verified(process, uid, "phone"), await verified(process, uid, "home-pi"), fingerprint()
    await process.books.note_outcome(uid, phone.fp, ReportOutcome(home.fp, "direct", 12))
    await process.books.rekey(uid, phone.fp, new, "certificate", proved=True)
    book = await process.books.read(uid)
    assert book
    kept = book.peers[new].outcome
    assert kept
    assert (kept.target, kept.milliseconds) == (home.fp, 12)


async def test_a_report_about_a_strangers_device_looks_like_one_about_none(open_process: OpenProcess) -> None:
    process = await open_process()
    uid, other = await process.books.enroll(OWNER), await process.books.enroll(STRANGER)
    phone = await Socket(process, await verified(process, uid, "phone"), OWNER).come_in()
    foreign = await verified(process, other, "tablet")
    heard = [await phone.ask(outcome(fp)) for fp in (foreign.fp, fingerprint())]
    assert [{**each, "id": 0} for each in heard] == [{"code": 404, "text": heard[0]["text"], "id": 0}] * 2
    assert not [what for what, _ in process.tally.counts if what == "outcomes"]


async def test_a_device_that_waits_reports_nothing(open_process: OpenProcess) -> None:
    process = await open_process()
    waiting = await Socket(process, a_device(), OWNER).arrive()
    await waiting.hear()
    assert (await waiting.ask(outcome(PHONE)))["code"] == 401
    assert isinstance(waiting.connection, Connection)
