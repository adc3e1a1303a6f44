"""Findings: what the doctor says of one thing, and what to do about it."""

import ipaddress
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's. `note`: it works, and is worth knowing. `fail`: it does not; the text says what to do."""

    level: Level
    what: str
    text: str


def ok(what: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding("ok", what, text)


def note(what: str, text: str) -> Finding:
    """It works, and is worth knowing."""
    return Finding("note", what, text)


def fail(what: str, text: str) -> Finding:
    """It does not work."""
    return Finding("fail", what, text)


def is_near(host: str | None) -> bool:
    """Whether what goes to that host stays within the machine, or a network that has no public addresses."""
    if not host or host == "localhost" or ("." not in host and ":" not in host):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host.endswith((".local", ".internal"))
