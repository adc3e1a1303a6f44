"""The files that pages load: each under the hash of its content, kept for ever, from no other host, and small."""

import gzip
import hashlib
import re
from importlib.resources import files

import pytest

from app.assets import Assets
from tests.support import Scene, new_fingerprint

NAMES = ["favicon.svg", "mark.svg", "page.js", "peerbook.js", "peerbook.css", "htmx.min.js"]
MOST_ON_THE_WIRE = 80_000


def url_of(name: str) -> str:
    return Assets().url(name)


def loaded_by(page: str) -> set[str]:
    """The addresses of all that a page loads."""
    tags = re.findall(r"<(?:link|script|img|source|iframe|object|embed)\b[^>]*>", page)
    return {address for tag in tags for address in re.findall(r'(?:src|href|data|srcset)="([^"]*)"', tag)}


@pytest.mark.parametrize("name", NAMES)
async def test_a_file_stands_under_the_hash_of_its_content(scene: Scene, name: str) -> None:
    url = url_of(name)
    answer = await scene.http.get(url)
    assert answer.status_code == 200
    assert url == f"/static/{hashlib.sha256(answer.content).hexdigest()[:12]}/{name}"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("favicon.svg", "image/svg+xml"), ("page.js", "text/javascript"), ("peerbook.css", "text/css")],
)
async def test_a_file_is_kept_for_ever_and_taken_for_what_it_is(scene: Scene, name: str, content_type: str) -> None:
    headers = (await scene.http.get(url_of(name))).headers
    assert headers["cache-control"] == "public, max-age=31536000, immutable"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-type"].partition(";")[0] == content_type
    assert "accept-encoding" in headers["vary"].lower()
    assert "set-cookie" not in headers


@pytest.mark.parametrize("name", NAMES)
async def test_a_file_travels_compressed_where_the_browser_can(scene: Scene, name: str) -> None:
    small = await scene.http.get(url_of(name), headers={"Accept-Encoding": "gzip, br"})
    plain = await scene.http.get(url_of(name), headers={"Accept-Encoding": "identity"})
    assert small.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert small.content == plain.content
    assert int(small.headers["content-length"]) < len(plain.content)


@pytest.mark.parametrize(
    "path",
    [
        *("/static/000000000000/page.js", "/static/page.js", "/static//page.js", "/static/x/../page.js"),
        *(
            "/static/000000000000/nothing.js",
            "/static/000000000000/..%2Fserver.py",
            "/static/000000000000/%2e%2e/server.py",
        ),
    ],
)
async def test_an_address_of_other_content_is_none(scene: Scene, path: str) -> None:
    assert (await scene.http.get(path)).status_code == 404


async def test_htmx_is_the_one_of_the_package(scene: Scene) -> None:
    package = (files("js_lib_htmx") / "static/htmx/htmx.min.js").read_bytes()
    assert (await scene.http.get(url_of("htmx.min.js"))).content == package
    assert b'version:"2.' in package


async def test_a_page_loads_nothing_but_our_own_files(scene: Scene) -> None:
    owner = scene.owner()
    await owner.log_in()
    for path in ("/", "/peers", "/link/nonsense", "/nothing"):
        loaded = loaded_by((await owner.http.get(path)).text)
        assert loaded
        assert all(address.startswith("/static/") for address in loaded), loaded
        for address in loaded:
            assert (await scene.http.get(address)).status_code == 200


async def test_the_first_load_of_the_device_page_is_small(scene: Scene) -> None:
    owner = scene.owner()
    await owner.log_in()
    for number in range(10):
        await owner.do("/peers", fp=new_fingerprint(), name=f"device {number}", kind="laptop")
    page = await owner.http.get("/peers", headers={"Accept-Encoding": "gzip"})
    answers = [page, *[await scene.http.get(address) for address in loaded_by(page.text)]]
    assert len(answers) >= 5
    sizes = {str(answer.url): on_the_wire(dict(answer.headers)) for answer in answers}
    assert sum(sizes.values()) <= MOST_ON_THE_WIRE, sizes


def on_the_wire(headers: dict[str, str]) -> int:
    """The bytes of an answer: its head about, and its body as it travels."""
    head = sum(len(name) + len(value) + 4 for name, value in headers.items())
    return head + int(headers["content-length"])


async def test_a_page_travels_compressed_where_the_browser_can(scene: Scene) -> None:
    owner = scene.owner()
    await owner.log_in()
    async with owner.http.stream("GET", "/peers", headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert b"Your devices" in gzip.decompress(raw)
    plain = await owner.http.get("/peers", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert "Your devices" in plain.text


async def test_the_browser_client_stands_where_any_site_finds_it_and_is_small(scene: Scene) -> None:
    headers = {"Accept-Encoding": "gzip", "Origin": "https://elsewhere.example.org"}
    answer = await scene.http.get("/static/peerbook.js", headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.content == (await scene.http.get(url_of("peerbook.js"))).content
    assert int(answer.headers["content-length"]) <= 8192
    assert b"import " not in answer.content.replace(b" *     import ", b""), "it depends on nothing"


async def test_the_browser_client_is_asked_for_again_and_sent_when_it_changed(scene: Scene) -> None:
    first = await scene.http.get("/static/peerbook.js")
    assert first.headers["cache-control"] == "no-cache"
    again = await scene.http.get("/static/peerbook.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert (await scene.http.get("/static/peerbook.js", headers={"If-None-Match": 'W/"0"'})).status_code == 200
