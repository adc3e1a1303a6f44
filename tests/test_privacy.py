"""The log of every other test is read for what must not be there; here the reader itself is tried."""

import logging

import pytest

from tests.privacy import Eavesdropper, found_in
from tests.support import Scene, new_fingerprint

FP = "AB" * 32


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("event=mail_sent to=Some.Body+tag@mail.example.org", "a mail address"),
        ("event=in from=203.0.113.7", "an IPv4 address"),
        ("event=in from=203.0.113.x", "an IPv4 address"),
        ("event=in from=2001:db8:0:1::7", "an IPv6 address"),
        ("event=in from=2001:db8::", "an IPv6 address"),
        (f"event=in peer={FP}", "a whole fingerprint"),
        (f"event=in peer={FP.lower()}", "a whole fingerprint"),
        (f"event=in peer={':'.join(['ab'] * 32)}", "a whole fingerprint"),
        (f"event=visit session={'0f' * 16}.{'x' * 43}", "a session or cookie"),
        ("event=x token=Im5sTWVjTTBybEp1TFc5NkhmMA.awOBvw.7ummfrHzAOeWQnlXIGdNLbzM1VmoV3sCIK", "a signed token"),
        ("event=request_failed path=/link/Im5sTWVj", "the path of a link"),
        ("event=bad_message text=v=0 o=- 1 1", "SDP"),
        ("a=fingerprint:sha-256", "SDP"),
        ('event=bad_message text={"command":1}', "a message"),
        ("Traceback (most recent call last):", "a traceback"),
        ("event=asked pair=123-456", "a pair code"),
        ("event=invited code=ABCDE-01234", "an invite"),
    ],
)
def test_the_reader_finds_everything_that_must_not_be_logged(line: str, what: str) -> None:
    assert what in found_in(line)


@pytest.mark.parametrize(
    "line",
    [
        "event=in peer=ABCDEF01",
        "event=started port=8000",
        "event=mail_refused try=1 code=550",
        "event=request_failed method=POST route=peers/<fp:str>/approve error=ValueError at app/books.py:12",
        "event=bus_lost error=ConnectionError",
        "2026-11-22T23:58:01 INFO peerbook",
    ],
)
def test_and_nothing_in_lines_that_are_as_they_should_be(line: str) -> None:
    assert found_in(line) == []


async def test_it_reads_what_the_server_logs(scene: Scene, eavesdropper: Eavesdropper) -> None:
    before = eavesdropper.lines
    device = await scene.connect(new_fingerprint(), email="you@example.org")
    await device.hear()
    assert eavesdropper.lines > before


def test_it_reads_whatever_is_logged_and_exceptions_tell_nothing(eavesdropper: Eavesdropper) -> None:
    logging.getLogger("peerbook.anything").debug("from %s", "203.0.113.7")
    try:
        raise ValueError("somebody@example.org")
    except ValueError:
        logging.getLogger("sanic.error").exception("it failed")
    leaks, eavesdropper.leaks = eavesdropper.leaks, []
    assert [leak.split(" in: ")[0] for leak in leaks] == [
        "an IPv4 address"
    ]  # of an exception, nothing is told but where
