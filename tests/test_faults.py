"""Faults: a log says where something went wrong, and nothing of whose data it was."""

import json

import pytest

from app.faults import fault


def failing(secret: str) -> None:
    json.loads("{" + secret)


def test_a_fault_is_told_by_its_kind_and_place_and_never_by_its_message() -> None:
    with pytest.raises(ValueError, match="Expecting") as raised:
        failing("somebody@example.org")
    told = fault(raised.value)
    assert told.startswith("JSONDecodeError at tests/test_faults.py:")
    assert "json/decoder.py:" in told.split(", ")[-1]
    assert "example.org" not in told
    assert "\n" not in told


def test_a_deep_fault_is_told_by_its_innermost_places() -> None:
    def dive(depth: int) -> None:
        if depth:
            dive(depth - 1)
        raise KeyError("somebody@example.org")

    with pytest.raises(KeyError) as raised:
        dive(50)
    assert fault(raised.value).count(":") == 6


def test_a_fault_that_was_never_raised_has_no_place() -> None:
    assert fault(ValueError("somebody@example.org")) == "ValueError at nowhere"
