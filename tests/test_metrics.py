"""Metrics: what a Prometheus reads is what happened, over all processes of the port, and not for everybody."""

import re

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Start
from tests.process import redis_server, scene_at, server
from tests.support import Mailbox, Scene, eventually
from tests.test_workers import beside

TOKEN = "a token that only the tests know".replace(" ", "-")

Numbers = dict[tuple[str, str], float]


async def numbers(http: httpx.AsyncClient) -> Numbers:
    """Every sample by its name and the values of its labels."""
    answer = await http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_what_happened_is_counted(start: Start) -> None:
    scene = await start(metrics_token=TOKEN)
    owner = scene.owner()
    laptop, phone = await scene.join(owner, "laptop"), await scene.join(owner, "phone")
    stranger = await scene.connect(email=owner.address)
    await stranger.hear()
    for number in range(10):
        await laptop.say({"target": phone.fp, "candidate": number})
    assert (await laptop.ask({"target": stranger.fp, "candidate": 1}))["code"] == 404
    await phone.hear_until(lambda heard: heard.get("candidate") == 9)
    await owner.act(f"/peers/{phone.fp}/revoke")
    await phone.close_code()
    await scene.at_rest()
    found = await numbers(scene.http)
    expected = {
        ("peerbook_sockets", "in"): 1,
        ("peerbook_sockets", "waiting"): 1,
        ("peerbook_arrivals_total", "arrived"): 3,
        ("peerbook_arrivals_total", "in"): 2,
        ("peerbook_arrivals_total", "left"): 1,
        ("peerbook_decisions_total", "asked"): 3,
        ("peerbook_decisions_total", "approved"): 2,
        ("peerbook_decisions_total", "revoked"): 1,
        ("peerbook_relays_total", "delivered"): 10,
        ("peerbook_relay_seconds_count", ""): 10,
        ("peerbook_relay_seconds_bucket", "+Inf"): 10,
        ("peerbook_refusals_total", "UnknownTarget"): 1,
        ("peerbook_closes_total", "4403"): 1,
        ("peerbook_store_up", ""): 1,
        ("peerbook_store_losses_total", ""): 0,
        ("peerbook_processes", ""): 1,
        ("peerbook_requests_total", "303 /peers/<fp:str>/revoke"): 1,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert found["peerbook_mails_total", "sent"] >= 1
    assert found["peerbook_store_round_trips_total", ""] > 10
    assert 0 < found["peerbook_relay_seconds_sum", ""] < 10
    assert ("peerbook_loop_lag_seconds", "") in found


async def test_a_message_across_processes_is_counted_where_it_came_in(start: Start) -> None:
    here, there = await start(), await start()
    owner = here.owner()
    laptop, phone = await here.join(owner, "laptop"), await there.join(owner, "phone")
    await laptop.hear_until(lambda heard: heard.get("peer_update", {}).get("online") is True)
    await laptop.say({"target": phone.fp, "candidate": 1})
    await phone.hear_until(lambda heard: "candidate" in heard)
    await eventually(lambda: here.context.tally.counts["relays", "handed_over"] == 1)
    assert ("relays", "delivered") not in there.context.tally.counts


async def test_whichever_worker_is_asked_tells_of_all_of_them(mailbox: Mailbox) -> None:
    async with redis_server() as url:
        settings = beside(url) | {"WORKERS": "2", "SMTP_URL": mailbox.url, "METRICS_TOKEN": TOKEN}
        async with server(settings) as started, scene_at(started.url, mailbox) as scene:
            for _ in range(12):
                await (await scene.connect(email="owner@example.org")).hear()

            async def told(key: tuple[str, str]) -> set[float]:
                answers = set[float]()
                for _ in range(8):  # each on a connection of its own, so both workers answer
                    async with httpx.AsyncClient(base_url=started.url) as http:
                        answers.add((await numbers(http)).get(key, 0))
                return answers

            for key, value in {
                ("peerbook_processes", ""): 2,
                ("peerbook_arrivals_total", "arrived"): 12,
                ("peerbook_sockets", "waiting"): 12,
            }.items():
                while await told(key) != {value}:  # within a second or two
                    pass


async def test_with_a_token_whoever_has_it_is_told_and_nobody_else(start: Start) -> None:
    scene = await start(metrics_token=TOKEN)
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
    ):
        assert (await scene.http.get("/metrics", headers=list(headers.items()))).status_code == 404
    assert await numbers(scene.http)


async def test_metrics_tell_nobodys_own(start: Start) -> None:
    scene = await start(metrics_token=TOKEN)
    owner = scene.owner()
    device = await scene.join(owner, "Ada's laptop")
    text = (await scene.http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})).text
    assert not re.search(rf"{device.fp[:8]}|example\.org|Ada|127\.0\.0\.1", text, re.I)


@pytest.mark.parametrize(
    ("given", "named"), [("0a1b2c3d-4e5f", "0a1b2c3d-4e5f"), ('x" forged="1', None), ("short", None), ("x" * 65, None)]
)
async def test_a_request_is_named_in_the_log_as_the_router_named_it(
    scene: Scene, caplog: pytest.LogCaptureFixture, given: str, named: str | None
) -> None:
    from app.logs import Lines

    caplog.handler.setFormatter(Lines())
    caplog.set_level("INFO")
    owner = scene.owner()
    await scene.http.post("/verify", json={"fp": "A1" * 32, "email": owner.address}, headers={"X-Request-ID": given})
    await scene.at_rest()
    lines = [line for line in caplog.text.splitlines() if "event=asked" in line or "event=mail_sent" in line]
    assert len(lines) == 2
    names = {re.findall(r" request=(\S+)", line)[0] for line in lines}
    assert len(names) == 1, "the mail belongs to the request that asked for it"
    assert names == {named} if named else re.fullmatch(r"[0-9a-f]{12}", names.pop())
