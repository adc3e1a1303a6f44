"""ICE servers: strangers hear of those that need no credentials, peers that are in get short-lived ones for TURN."""

import base64
import hashlib
import hmac
import time

import pytest

from app.iceservers import IceServers, turn_credentials
from app.settings import SettingsError, read_settings
from tests.conftest import Start

STUN = {"urls": ["stun:stun.example.org"]}
TURN = ("turn:turn.example.org", "turns:turn.example.org:443?transport=tcp")
SECRET = "what coturn knows as well"


def test_credentials_are_those_of_coturns_rest_scheme() -> None:
    username, credential = turn_credentials(SECRET, "somebody", 1_800_000_000)
    assert username == "1800000000:somebody"
    expected = hmac.new(SECRET.encode(), username.encode(), hashlib.sha1).digest()
    assert base64.b64decode(credential) == expected


def test_a_peer_gets_credentials_for_an_hour_and_strangers_get_none() -> None:
    servers = IceServers((STUN,), TURN, SECRET, 3600)
    stun, turn = servers.of_user("me", 1000.9)
    assert (stun, turn["urls"], turn["username"]) == (STUN, list(TURN), "4600:me")
    assert servers.public() == [STUN]


def test_without_turn_there_are_no_credentials() -> None:
    assert IceServers((STUN,)).of_user("me", 1000) == [STUN]


async def test_only_a_peer_that_is_in_hears_of_credentials(start: Start) -> None:
    scene = await start(ice_servers=(STUN,), turn_urls=TURN, turn_secret=SECRET, turn_ttl=600)
    owner = scene.owner()
    phone = await scene.join(owner, "phone")
    uid = await owner.uid()
    await phone.say({"command": "ice_servers"})
    stun, turn = (await phone.hear_until(lambda heard: "ice_servers" in heard))["ice_servers"]
    until, name = turn["username"].split(":")
    assert (stun, name) == (STUN, uid)
    assert 0 < int(until) - time.time() <= 600
    assert turn_credentials(SECRET, uid, int(until))[1] == turn["credential"]
    assert (await scene.http.post("/turn")).json() == [STUN]
    waiting = await scene.connect(email="owner@example.org")
    await waiting.hear()
    assert (await waiting.ask({"command": "ice_servers"}))["code"] == 401


def test_turn_has_no_default_secret() -> None:
    settings = read_settings({"TURN_URLS": ", ".join(TURN), "TURN_SECRET": SECRET})
    assert (settings.turn_urls, settings.turn_secret, settings.turn_ttl) == (TURN, SECRET, 3600)
    with pytest.raises(SettingsError, match="TURN_SECRET is missing"):
        read_settings({"TURN_URLS": TURN[0]})
    with pytest.raises(SettingsError, match="TURN_URLS is missing"):
        read_settings({"TURN_SECRET": SECRET})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("TURN_URLS", text)
            for text in (",", "stun:a.b", "turn:", "turn:a b", "turn://a.b", "turn:a?transport=sctp")
        ),
        *(("TURN_SECRET", "short"), ("TURN_TTL", "59"), ("TURN_TTL", "604801")),
    ],
)
def test_what_does_not_fit_stops_the_start(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} "):
        read_settings({"TURN_URLS": TURN[0], "TURN_SECRET": SECRET} | {name: text})
