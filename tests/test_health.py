"""Health: a platform is told the truth of the store, and a store or mail server in trouble never gets the process killed."""

import asyncio
from pathlib import Path

from tests.chaos.parts import open_store
from tests.process import free_port, scene_at, server
from tests.support import Mailbox, eventually
from tests.test_workers import beside

HEALTH_SECONDS = 10


async def test_a_store_that_stalls_is_told_soon_and_the_process_stays_alive(tmp_path: Path, mailbox: Mailbox) -> None:
    async with (
        open_store(tmp_path) as store,
        server(beside(store.url)) as started,
        scene_at(started.url, mailbox) as scene,
    ):
        assert (await scene.http.get("/healthz")).json() == {"status": "ok"}
        with store.stopped():
            answer = await scene.http.get("/healthz", timeout=HEALTH_SECONDS)
            assert (answer.status_code, answer.json()["code"]) == (503, 503)
            asked = [scene.http.get(path) for path in ["/healthz", "/livez"] * 10]
            codes = [answer.status_code for answer in await asyncio.gather(*asked)]
            assert codes == [503, 200] * 10, "at once, since it is known by now"
        while (await scene.http.get("/healthz", timeout=HEALTH_SECONDS)).status_code != 200:
            pass


async def test_a_mail_server_in_trouble_says_nothing_about_health(tmp_path: Path, mailbox: Mailbox) -> None:
    async with open_store(tmp_path) as store:
        settings = beside(store.url) | {"SMTP_URL": f"smtp://127.0.0.1:{free_port()}"}
        async with server(settings) as started, scene_at(started.url, mailbox) as scene:
            await (await scene.connect(email="owner@example.org")).hear()
            await eventually(lambda: "event=mail_failed" in started.output)
            answer = await scene.http.get("/healthz")
            assert (answer.status_code, answer.json()) == (200, {"status": "ok", "mail": "degraded"})
