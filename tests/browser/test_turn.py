"""TURN with a real coturn: peers that may not reach each other directly connect through it, with good credentials only."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser.conftest import OpenTab
from tests.browser.tabs import pair_of
from tests.conftest import Start
from tests.support import eventually
from tests.turn import TURN_SECRET, Turn, coturn

RELAY_ONLY = {"iceTransportPolicy": "relay"}


@pytest.fixture
async def turn(tmp_path: Path) -> AsyncIterator[Turn]:
    async with coturn(tmp_path) as turn:
        yield turn


async def test_two_peers_connect_through_it_and_outlive_a_restart_of_the_server(
    start: Start, open_tab: OpenTab, turn: Turn
) -> None:
    scene = await start(turn_urls=(turn.url,), turn_secret=TURN_SECRET)
    owner = scene.owner()
    phone, home = await pair_of(open_tab, scene, owner, rtc=RELAY_ONLY)
    await phone.connect("home-pi")
    assert await phone.ask("hello") == "home-pi heard hello"
    assert (await phone.see("outcomes"))[0]["result"] == "relay"
    candidates = await phone.see(f"book.connection('{home.fp}').localDescription.sdp.match(/typ [a-z]+/g)")
    assert set(candidates) == {"typ relay"}
    assert turn.allocations >= 2
    await scene.at_rest()
    assert "home-pi</span>: relay" in await owner.page()
    port = scene.running.port
    await scene.stop()
    await start(port=port, turn_urls=(turn.url,), turn_secret=TURN_SECRET)
    await phone.until("states.some(each => each.code === 1001) && book.state === 'in'")
    assert await phone.ask("still here?") == "home-pi heard still here?"
    await phone.renegotiate(home.fp)
    assert await phone.ask("and now?") == "home-pi heard and now?"


@pytest.mark.parametrize("wrong", ["forged", "expired"])
async def test_with_bad_credentials_nobody_does(start: Start, open_tab: OpenTab, turn: Turn, wrong: str) -> None:
    given = {"turn_secret": "some other secret"} if wrong == "forged" else {"turn_ttl": -60}
    scene = await start(**{"turn_urls": (turn.url,), "turn_secret": TURN_SECRET} | given)
    phone, _ = await pair_of(open_tab, scene, scene.owner(), rtc=RELAY_ONLY)
    await phone.see("void (window.connecting = book.connect('home-pi').catch(error => error.code))")
    await eventually(lambda: turn.refusals >= 2)
    await phone.see("book.disconnect('home-pi')")
    assert await phone.see("connecting") == 410
    assert [each["result"] for each in await phone.see("outcomes")] == ["failed"]
    assert turn.allocations == 0
