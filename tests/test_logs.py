"""Logs: one line for each event, which a person and a program can read, and which tells nobody's own."""

import json
import logging
from typing import Any

import pytest

from app.faults import fault
from app.logs import Lines, request_id


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    raised = (type(error), error, None) if error else None
    made = logging.LogRecord("peerbook.mail", logging.WARNING, "x.py", 1, message, arguments, raised)
    made.created = 1795392000.25
    return made


def test_an_event_is_one_line_of_logfmt() -> None:
    line = Lines().format(record("event=mail_failed try=%d error=%s", 2, "SMTPConnectError"))
    assert line == (
        "at=2026-11-23T00:00:00.250Z level=warning logger=peerbook.mail event=mail_failed try=2 error=SMTPConnectError"
    )


def test_an_event_is_an_object_of_json() -> None:
    line = Lines(as_json=True).format(record("event=request_failed error=%s", "ValueError at app/a.py:1, app/b.py:2"))
    assert json.loads(line) == {
        "at": "2026-11-23T00:00:00.250Z",
        "level": "warning",
        "logger": "peerbook.mail",
        "event": "request_failed",
        "error": "ValueError at app/a.py:1, app/b.py:2",
    }


def test_what_has_blanks_is_quoted() -> None:
    line = Lines().format(record("event=request_failed error=%s route=/x", "ValueError at app/a.py:1, app/b.py:2"))
    assert line.endswith('event=request_failed error="ValueError at app/a.py:1, app/b.py:2" route=/x')


@pytest.mark.parametrize("as_json", [True, False])
def test_what_a_library_says_stays_one_line(as_json: bool) -> None:
    line = Lines(as_json=as_json).format(record("it %s", 'failed\nevent="forged"'))
    assert "\n" not in line
    assert 'failed\\nevent=\\"forged\\"' in line


@pytest.mark.parametrize("as_json", [True, False])
def test_an_exception_that_a_library_logs_is_told_without_its_message(as_json: bool) -> None:
    with pytest.raises(ValueError, match="somebody") as raised:
        raise ValueError("somebody@example.org")
    told = record("it failed", error=raised.value)
    line = Lines(as_json=as_json).format(told)
    assert fault(raised.value) in line
    assert "example.org" not in line
    assert told.exc_info  # other handlers see the record as it was


def test_what_is_done_for_a_request_has_its_id() -> None:
    token = request_id.set("0a1b2c3d4e5f")
    try:
        fields: dict[str, Any] = json.loads(Lines(as_json=True).format(record("event=mail_sent try=1")))
    finally:
        request_id.reset(token)
    assert fields["request"] == "0a1b2c3d4e5f"
