"""docs/operations.md, the dashboard and the alerts name what there is, and all of it."""

import json
import re

import pytest

from app.books import _DONE
from app.metrics import _COUNTERS
from tests.process import ROOT

DOCS = ROOT / "docs"
METRICS = (
    {f"peerbook_{name}_total" for name in _COUNTERS}
    | {f"peerbook_relay_seconds{part}" for part in ("", "_bucket")}
    | {f"peerbook_{name}" for name in ("sockets", "store_up", "loop_lag_seconds", "processes")}
)


@pytest.mark.parametrize("name", ["operations.md", "dashboard.json", "alerts.yml"])
def test_every_metric_that_is_named_is_told(name: str) -> None:
    assert set(re.findall(r"peerbook_\w+", (DOCS / name).read_text())) <= METRICS


def test_every_metric_is_in_the_table() -> None:
    assert METRICS - {"peerbook_relay_seconds_bucket"} <= set(
        re.findall(r"peerbook_\w+", (DOCS / "operations.md").read_text())
    )


def test_every_metric_but_one_is_on_the_dashboard() -> None:
    board = json.loads((DOCS / "dashboard.json").read_text())
    shown = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    assert METRICS - set(re.findall(r"peerbook_\w+", shown)) == {"peerbook_relay_seconds"}, "it is shown by its buckets"


def test_every_alert_says_what_to_do() -> None:
    text = (DOCS / "alerts.yml").read_text()
    assert text.count("- alert: ") == text.count(" todo: ") == text.count(" summary: ") == text.count(" expr: ") > 5


def test_every_event_of_the_log_is_in_the_table() -> None:
    written = {
        name for path in (ROOT / "app").rglob("*.py") for name in re.findall(r'event=(\w+)[ "]', path.read_text())
    }
    noted = re.findall(r'_note\("(\w+)"', (ROOT / "app/presence.py").read_text())
    text = (DOCS / "operations.md").read_text()
    table = set(re.findall(r"`(\w+)`", text))
    events = written | set(noted) | set(_DONE.values())
    assert {event for event in events - table if not event.endswith("_failed")} == set()
