"""The headers that every answer has, whatever it answers."""

import asyncio
import re

import httpx
import pytest

from tests.conftest import Start
from tests.support import Scene, new_fingerprint

HTTP, HTTPS = "http://book.example.org", "https://book.example.org"
PUBLIC = "public, max-age=31536000, immutable"

origins = pytest.mark.parametrize("origin", [HTTP, HTTPS])


def assert_has_them(answer: httpx.Response, origin: str, keep: str = "no-store") -> None:
    where = f"{answer.request.method} {answer.request.url.path}: {answer.status_code}"
    policy = [each.split() for each in answer.headers["content-security-policy"].split(";")]
    directives = {name: sources for name, *sources in policy}
    assert directives.pop("default-src") == directives.pop("base-uri") == ["'none'"], where
    assert directives.pop("frame-ancestors") == ["'none'"], where
    assert all(sources == ["'self'"] for sources in directives.values()), where
    assert "form-action" in directives, where  # what default-src does not stand for
    assert answer.headers["x-content-type-options"] == "nosniff", where
    assert answer.headers["cross-origin-opener-policy"] == "same-origin", where
    assert answer.headers["referrer-policy"] == "same-origin", where
    assert answer.headers["cache-control"] == keep, where
    lifetime = "max-age=31536000" if origin == HTTPS else None
    assert answer.headers.get("strict-transport-security") == lifetime, where
    for name in ("content-security-policy", "cache-control", "x-content-type-options"):
        assert len(answer.headers.get_list(name)) == 1, where
    assert "server" not in answer.headers, where


def assert_is_ours_alone(cookie: str, origin: str) -> None:
    """RFC 6265bis, sections 4.1.2 and 4.1.3.2."""
    name, *attributes = [each.strip() for each in cookie.split(";")]
    attributes = [each.lower() for each in attributes if not each.lower().startswith(("max-age=", "expires="))]
    assert sorted(attributes) == sorted(["path=/", "httponly", "samesite=strict"] + ["secure"] * (origin == HTTPS))
    assert name.startswith("__Host-") == (origin == HTTPS)


async def log_in(scene: Scene, origin: str) -> dict[str, str]:
    """The cookies of an owner who logged in, as a header: the client here speaks http, and would keep them back."""
    owner = scene.owner()
    await owner.http.post("/login", data={"email": owner.address})
    link = await owner.mailbox.next_link(owner.address)
    answer = await owner.http.post(link.removeprefix(origin))
    assert_has_them(answer, origin)
    cookies = answer.headers.get_list("set-cookie")
    assert (
        len(cookies) == 4
    )  # the session, the browser, the age of the store, and the end of the code that was not needed
    for cookie in cookies:
        assert_is_ours_alone(cookie, origin)
    return {"Cookie": "; ".join(cookie.partition(";")[0] for cookie in cookies)}


def routes_of(scene: Scene) -> list[tuple[str, str]]:
    """Every method and path that the server knows, those that end a session last; unknown things stand for the known."""
    routes = []
    for route in scene.running.app.router.routes:
        path = re.sub(r"<fp:str>", new_fingerprint(), f"/{route.path}")
        path = re.sub(r"<\w+:str>", "x", path)
        routes += [(method, path) for method in sorted(route.methods)]
    return sorted(routes, key=lambda each: (each[1].startswith("/logout"), each))


async def ask(scene: Scene, method: str, path: str, **headers: str) -> httpx.Response:
    """The head of an answer; a stream would have no end."""
    async with scene.http.stream(method, path, headers=headers) as answer:
        return answer


@origins
async def test_every_route_answers_with_the_headers_to_everybody(start: Start, origin: str) -> None:
    scene = await start(base_url=origin)
    seen = set()
    for accept in ("text/html", "*/*"):
        cookie = await log_in(scene, origin)
        for who in ({}, {"HX-Request": "true"}, {"Sec-Fetch-Site": "cross-site"}, cookie):
            named = {"Accept": accept, "Sec-Fetch-Site": "same-origin"} | who
            for method, path in routes_of(scene):
                answer = await ask(scene, method, path, **named)
                assert_has_them(answer, origin, "no-cache" if path == "/static/peerbook.js" else "no-store")
                for each in answer.headers.get_list("set-cookie"):
                    assert_is_ours_alone(each, origin)
                seen.add(answer.status_code)
    assert seen >= {200, 204, 303, 400, 401, 403, 404, 410, 422}, "all sorts of answers were among them"


@origins
@pytest.mark.parametrize("accept", ["text/html", "*/*"])
async def test_every_error_has_the_headers(start: Start, origin: str, accept: str) -> None:
    scene = await start(base_url=origin)
    fp, headers = new_fingerprint(), {"Accept": accept}
    answers = [
        await scene.http.get("/nowhere", headers=headers),
        await scene.http.delete("/peers", headers=headers),
        await scene.http.get(f"/ws?fp={fp}", headers=headers),
        await scene.http.post("/verify", content=b"x" * 70000, headers=headers),
        await scene.http.post("/verify", content=b"{}", headers=headers | {"Expect": "more"}),
    ]
    scene.context.draining = True
    answers.append(await scene.http.get("/healthz", headers=headers))
    scene.context.draining = False
    scene.context.asking = None  # type: ignore[assignment]
    answers.append(await scene.http.post("/login", data={"email": "a@example.org"}, headers=headers))
    assert [answer.status_code for answer in answers] == [404, 405, 426, 413, 417, 503, 500]
    for answer in answers:
        assert_has_them(answer, origin)


@origins
@pytest.mark.parametrize("head", [b"no http at all\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 20000 + b"\r\n\r\n"])
async def test_what_is_no_request_has_the_headers(start: Start, origin: str, head: bytes) -> None:
    scene = await start(base_url=origin)
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.running.port)
    writer.write(head)
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    writer.close()
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    answer = httpx.Response(int(status.split()[1]), headers=headers, request=httpx.Request("GET", scene.url))
    assert answer.status_code in (400, 413)
    assert_has_them(answer, origin)


@origins
async def test_files_are_kept_for_ever_and_personal_answers_never(start: Start, origin: str) -> None:
    scene = await start(base_url=origin)
    cookie = await log_in(scene, origin)
    assert_has_them(await scene.http.get(scene.context.assets.url("page.js")), origin, keep=PUBLIC)
    for path in ("/peers", "/account/export", "/peers/events"):
        answer = await ask(scene, "GET", path, **cookie)
        assert answer.status_code == 200
        assert_has_them(answer, origin)
