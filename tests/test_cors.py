"""Other sites' pages over HTTP: which may ask what programs ask, and read the answer."""

from collections.abc import Mapping

import httpx
import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from tests.conftest import Start
from tests.support import SECONDS, Scene, new_fingerprint, stored

APP, OTHER, EVIL = "https://app.example.org", "http://localhost:3000", "https://evil.example"
BOOK = "https://book.example.org"
LISTED = (APP, OTHER)
PATHS = ("/verify", "/turn", "/iceservers")
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}

paths = pytest.mark.parametrize("path", PATHS)


def good_body(scene: Scene) -> dict[str, str]:
    return {"fp": new_fingerprint(), "email": scene.owner().address}


def grants(answer: httpx.Response) -> Mapping[str, str]:
    """What the answer says of other origins."""
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-allow-")}


# Where any origin is allowed


@paths
@pytest.mark.parametrize("origin", [None, APP, "null", "http://127.0.0.1:3000"])
async def test_by_default_any_page_may_ask_and_read_the_answer(scene: Scene, path: str, origin: str | None) -> None:
    headers = {"Origin": origin} if origin else {}
    answer = await scene.http.post(path, json=good_body(scene), headers=headers)
    assert answer.status_code == 200
    assert grants(answer) == {"access-control-allow-origin": "*"}
    assert "origin" not in answer.headers.get("vary", "").lower()


@paths
async def test_a_preflight_tells_methods_headers_and_for_how_long(scene: Scene, path: str) -> None:
    answer = await scene.http.options(path, headers=PREFLIGHT | {"Origin": APP})
    assert (answer.status_code, answer.content) == (204, b"")
    assert grants(answer) == {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "content-type",
    }
    assert answer.headers["access-control-max-age"] == "86400"


async def test_a_page_may_read_errors_too_and_when_to_try_again(scene: Scene) -> None:
    for body, status in ((b"no json", 400), (b"x" * 70000, 413)):
        answer = await scene.http.post("/verify", content=body, headers={"Origin": APP})
        assert (answer.status_code, answer.json()["code"]) == (status, status)
        assert grants(answer) == {"access-control-allow-origin": "*"}
        assert answer.headers["access-control-expose-headers"] == "Retry-After"


# Where the allowed ones are listed


@paths
@pytest.mark.parametrize("origin", [*LISTED, BOOK])
async def test_a_page_of_a_listed_origin_or_of_our_own_may_ask_and_read_the_answer(
    start: Start, path: str, origin: str
) -> None:
    scene = await start(allowed_origins=LISTED, base_url=BOOK)
    preflight = await scene.http.options(path, headers=PREFLIGHT | {"Origin": origin})
    answer = await scene.http.post(path, json=good_body(scene), headers={"Origin": origin})
    assert (preflight.status_code, answer.status_code) == (204, 200)
    for each in (preflight, answer):
        assert each.headers["access-control-allow-origin"] == origin
        assert each.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in each.headers


async def test_a_page_of_a_listed_origin_may_read_errors_too(start: Start) -> None:
    scene = await start(allowed_origins=LISTED)
    for accept in ("*/*", "text/html"):
        headers = {"Origin": APP, "Accept": accept}
        answer = await scene.http.post("/verify", content=b"no json", headers=headers)
        assert answer.status_code == 400
        assert grants(answer) == {"access-control-allow-origin": APP}
        assert "Origin" in answer.headers.get_list("vary")


@paths
@pytest.mark.parametrize("origin", [EVIL, "null", "", f"{APP}.evil.example", f"{APP}:8443", "http://app.example.org"])
async def test_a_page_of_another_origin_is_refused_before_anything_is_done(
    start: Start, redis: Redis, path: str, origin: str
) -> None:
    scene = await start(allowed_origins=LISTED)
    preflight = await scene.http.options(path, headers=PREFLIGHT | {"Origin": origin})
    # A simple request goes out without a preflight: not to be read is not enough, it must not act either.
    answer = await scene.http.post(path, json=good_body(scene), headers={"Origin": origin})
    for each in (preflight, answer):
        assert each.status_code == 403
        assert each.json() == {"code": 403, "text": "Pages of this origin may not use this server."}
        assert grants(each) == {}
        assert each.headers["vary"] == "Origin", "a cache must not give this answer to another origin"
    await scene.at_rest()
    assert await stored(redis) == set()
    assert scene.mailbox.mails == []


@paths
async def test_a_program_names_no_origin_and_is_always_allowed(start: Start, path: str) -> None:
    scene = await start(allowed_origins=LISTED)
    answer = await scene.http.post(path, json=good_body(scene))
    assert (answer.status_code, grants(answer), answer.headers["vary"]) == (200, {}, "Origin")


# The socket


async def dial(scene: Scene, origin: str | None) -> int:
    """The status of an upgrade that names that origin."""
    url = f"{scene.url.replace('http', 'ws', 1)}/ws?fp={new_fingerprint()}"
    named = None if origin is None else Origin(origin)
    try:
        async with connect(url, origin=named, proxy=None, open_timeout=SECONDS) as socket:
            return socket.response.status_code if socket.response else 0
    except InvalidStatus as refusal:
        return refusal.response.status_code


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ((), None, 101),
        ((), EVIL, 101),
        ((), "null", 101),
        (LISTED, None, 101),
        (LISTED, APP, 101),
        (LISTED, OTHER, 101),
        (LISTED, BOOK, 101),
        (LISTED, EVIL, 403),
        (LISTED, "null", 403),
        (LISTED, f"{APP}:8443", 403),
        (LISTED, "http://app.example.org", 403),
    ],
)
async def test_a_page_opens_a_socket_where_its_origin_is_allowed(
    start: Start, allowed: tuple[str, ...], origin: str | None, status: int
) -> None:
    scene = await start(allowed_origins=allowed, base_url=BOOK)
    assert await dial(scene, origin) == status


async def test_a_refused_page_is_asked_for_nothing_and_learns_nothing(start: Start, redis: Redis) -> None:
    scene = await start(allowed_origins=LISTED)
    owner = scene.owner()
    device = await scene.join(owner)
    await scene.at_rest()
    before = await stored(redis)
    query = f"fp={device.fp}&email={owner.address}"
    for path in (f"/ws?{query}", f"/ws?fp={new_fingerprint()}&email={owner.address}", "/ws?fp=bad"):
        answer = await scene.http.get(path, headers={"Origin": EVIL, "Upgrade": "websocket"})
        assert (answer.status_code, answer.json()["code"]) == (403, 403)
    await scene.at_rest()
    assert await stored(redis) == before
    await device.hears_nothing()


# Everything else


async def test_files_may_be_loaded_by_any_page(scene: Scene) -> None:
    answer = await scene.http.get(scene.context.assets.url("page.js"), headers={"Origin": EVIL})
    assert (answer.status_code, grants(answer)) == (200, {"access-control-allow-origin": "*"})


async def test_the_owners_pages_are_for_no_other_origin(scene: Scene) -> None:
    owner = scene.owner()
    await owner.log_in()
    paths = {f"/{route.path}" for route in scene.running.app.router.routes} - {*PATHS, "/peers/events"}
    paths = {path for path in paths if not path.startswith("/static/")}
    assert "/peers" in paths
    assert "/account/export" in paths
    for path in paths:
        for method in ("GET", "POST", "OPTIONS"):
            headers = PREFLIGHT | {"Origin": EVIL, "Sec-Fetch-Site": "same-site"}
            answer = await owner.http.request(method, path, headers=headers)
            assert grants(answer) == {}, (method, path)
    assert "Your devices" in await owner.page(), "and nothing of it logged the owner out"
