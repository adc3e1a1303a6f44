"""Bad input gets a clear error, and nothing is stored, mailed or lost. Never a 500, never a traceback."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support import SECONDS, Device, Owner, Scene, new_fingerprint

FP = "A1" * 32
EMAIL = "somebody@example.org"
DEEP = "[" * 20_000
LONG = "x" * 70_000


@dataclass
class Inside:
    """A running server with an owner and a laptop that is in."""

    scene: Scene
    owner: Owner
    laptop: Device


@pytest.fixture
async def inside(scene: Scene) -> Inside:
    owner = scene.owner()
    return Inside(scene, owner, await scene.join(owner))


async def everything_in(redis: Redis) -> dict[str, Any]:
    """All keys but leases and limits."""
    kept = [key async for key in redis.scan_iter("*") if not key.startswith(("limit:", "process:"))]
    return {key: await redis.type(key) for key in sorted(kept)}


def shows_nothing_of_the_inside(text: str) -> None:
    for trace in ("Traceback", 'File "', ".py", "redis", "sanic", "msgspec", "Error:"):
        assert trace not in text, text


def body(**members: Any) -> str:
    return json.dumps({"fp": FP, "email": EMAIL} | members)


BODIES = {
    "empty": "",
    "not JSON": "hello",
    "half an object": '{"fp": "A1',
    "an array": "[]",
    "a text": '"fp"',
    "a number": "42",
    "null": "null",
    "NaN": '{"fp": NaN}',
    "a lone surrogate": '{"fp": "\\ud800"}',
    "not UTF-8": b'{"fp": "\xff"}',
    "too deep": DEEP,
    "a deep member": '{"fp": ' + DEEP,
    "no fingerprint": json.dumps({"email": EMAIL}),
    "no owner": json.dumps({"fp": FP}),
    "fingerprint null": body(fp=None),
    "fingerprint a number": body(fp=1),
    "fingerprint a list": body(fp=[FP]),
    "fingerprint too short": body(fp=FP[:-1]),
    "fingerprint too long": body(fp=FP + "A"),
    "fingerprint not hex": body(fp="G" * 64),
    "fingerprint with blanks around": body(fp=f" {FP} "),
    "fingerprint of another hash": body(fp="sha-1 " + ":".join(["A1"] * 20)),
    "fingerprint in full-width digits": body(fp="１" * 64),
    "fingerprint half with colons": body(fp="A1:" + "A1" * 31),
    "address a number": body(email=7),
    "address a list": body(email=[EMAIL]),
    "address empty": body(email=""),
    "address without a host": body(email="somebody@"),
    "address without a name": body(email="@example.org"),
    "two addresses": body(email=f"{EMAIL}, other@example.org"),
    "address with a display name": body(email=f"Somebody <{EMAIL}>"),
    "address with a line break": body(email=f"{EMAIL}\r\nBcc: other@example.org"),
    "address too long": body(email="x" * 250 + "@example.org"),
    "address not ASCII": body(email="jörg@example.org"),
    "address with two dots": body(email="some..body@example.org"),
    "uid a number": body(uid=7),
    "uid with braces": body(uid="}{"),
    "uid too long": body(uid="a" * 65),
    "name a number": body(name=7),
    "name empty": body(name=""),
    "name of what nobody sees": body(name="\u200b\u202e\u2060"),
    "name too long": body(name="x" * 65),
    "name an object": body(name={}),
    "kind a number": body(kind=7),
    "kind empty": body(kind=""),
    "kind too long": body(kind="x" * 33),
    "kind in capitals": body(kind="Phone"),
    "kind with a blank": body(kind="my phone"),
}


@pytest.mark.parametrize("content", BODIES.values(), ids=BODIES.keys())
async def test_a_bad_body_is_400_and_leaves_nothing_behind(scene: Scene, redis: Redis, content: str | bytes) -> None:
    answer = await scene.http.post("/verify", content=content)
    assert answer.status_code == 400
    error = answer.json()
    assert set(error) == {"code", "text"}
    assert error["code"] == 400
    shows_nothing_of_the_inside(answer.text)
    await scene.at_rest()
    assert await everything_in(redis) == {}
    assert scene.mailbox.mails == []


FRAMES = {
    "empty": "",
    "not JSON": "hello",
    "an array": "[]",
    "null": "null",
    "a number": "1",
    "NaN": '{"command": NaN}',
    "too deep": DEEP,
    "a lone surrogate": '{"command": "\\ud800"}',
    "an empty object": "{}",
    "an unknown command": '{"command": "destroy"}',
    "a command that is no text": '{"command": 7}',
    "a command in capitals": '{"command": "GET_LIST"}',
    "nothing to forward": f'{{"target": "{FP}"}}',
    "two kinds at once": f'{{"target": "{FP}", "offer": 1, "answer": 2}}',
    "no target": '{"offer": "x"}',
    "target null": '{"target": null, "offer": "x"}',
    "target a list": f'{{"target": ["{FP}"], "offer": "x"}}',
    "target no fingerprint": '{"target": "laptop", "offer": "x"}',
    "rename without a name": '{"command": "rename"}',
    "rename to a number": '{"command": "rename", "name": 7}',
    "rename to nothing": '{"command": "rename", "name": ""}',
    "rename to too much": f'{{"command": "rename", "name": "{"x" * 65}"}}',
    "an id that is true": '{"command": "get_list", "id": true}',
    "an id that is a half": '{"command": "get_list", "id": 0.5}',
    "an id that is an object": '{"command": "get_list", "id": {}}',
    "an id that is too long": f'{{"command": "get_list", "id": "{"x" * 65}"}}',
    "an id that is too large": f'{{"command": "get_list", "id": {2**70}}}',
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
async def test_a_bad_frame_is_400_and_the_socket_goes_on(inside: Inside, redis: Redis, frame: str) -> None:
    uid = await inside.owner.uid()
    version = await redis.get(f"version:{{{uid}}}")
    await inside.laptop.say(frame)
    error = await inside.laptop.hear()
    assert error["code"] == 400
    shows_nothing_of_the_inside(json.dumps(error))
    assert await redis.get(f"version:{{{uid}}}") == version
    assert [peer["fp"] for peer in await inside.laptop.peers()] == [inside.laptop.fp]


FORMS = {
    "add: no fields": ("/peers", {}, 422),
    "add: bad fingerprint": ("/peers", {"fp": "abc", "name": "x"}, 422),
    "add: no name": ("/peers", {"fp": FP}, 422),
    "add: long name": ("/peers", {"fp": FP, "name": "x" * 65}, 422),
    "add: invisible name": ("/peers", {"fp": FP, "name": "\u200b"}, 422),
    "add: bad kind": ("/peers", {"fp": FP, "name": "x", "kind": "A B"}, 422),
    "add: taken name": ("/peers", {"fp": FP, "name": "LAPTOP"}, 422),
    "add: known device": ("/peers", {"fp": "{laptop}", "name": "x"}, 422),
    "rename: nothing": ("/peers/{laptop}/rename", {}, 422),
    "rename: too much": ("/peers/{laptop}/rename", {"name": "x" * 65}, 422),
    "rename: unknown": (f"/peers/{FP}/rename", {"name": "x"}, 404),
    "rename: no fingerprint": ("/peers/abc/rename", {"name": "x"}, 404),
    "approve: nobody asked": (f"/peers/{FP}/approve", {}, 404),
    "approve: wrong code": ("/peers/{laptop}/approve", {"pair": "000-000"}, 404),
    "approve: already in": ("/peers/{laptop}/approve", {}, 404),
    "approve: replaces nonsense": (f"/peers/{FP}/approve", {"replaces": "abc"}, 422),
    "reject: nobody asked": (f"/peers/{FP}/reject", {}, 404),
    "revoke: unknown": (f"/peers/{FP}/revoke", {}, 404),
    "remove: unknown": (f"/peers/{FP}/remove", {}, 404),
    "revoke all: nonsense": ("/peers/revoke", {"fp": "abc"}, 404),
    "no such act": ("/peers/{laptop}/explode", {}, 404),
    "login: no address": ("/login", {}, 422),
    "login: two addresses": ("/login", {"email": "a@example.org,b@example.org"}, 422),
    "delete: wrong address": ("/account/delete", {"email": "other@example.org"}, 422),
    "import: nothing": ("/account/import", {}, 422),
    "import: nonsense": ("/account/import", {"json": "[1]"}, 422),
    "link: garbage": ("/link/garbage", {}, 410),
    "signout: garbage": ("/signout/garbage", {}, 410),
}


@pytest.mark.parametrize(("path", "fields", "status"), FORMS.values(), ids=FORMS.keys())
async def test_a_bad_form_is_refused_with_a_page_and_changes_nothing(
    inside: Inside, redis: Redis, path: str, fields: dict[str, str], status: int
) -> None:
    uid = await inside.owner.uid()
    before = await redis.get(f"version:{{{uid}}}"), await everything_in(redis)
    fields = {key: value.replace("{laptop}", inside.laptop.fp) for key, value in fields.items()}
    answer = await inside.owner.act(path.replace("{laptop}", inside.laptop.fp), **fields)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    shows_nothing_of_the_inside(answer.text.replace("python -m", ""))
    await inside.scene.at_rest()
    assert (await redis.get(f"version:{{{uid}}}"), await everything_in(redis)) == before


REQUESTS = {
    "no such page": ("GET", "/nowhere", {}, 404),
    "no such method": ("PUT", "/verify", {}, 405),
    "verify by GET": ("GET", "/verify", {}, 405),
    "a body that is too large": ("POST", "/verify", {"content": LONG}, 413),
    "a path out of the folder": ("GET", "/static/../settings.py", {}, 404),
    "a file that is none": ("GET", "/static/abc/settings.py", {}, 404),
    "a socket without a fingerprint": ("GET", "/ws", {}, 400),
    "a socket with a bad one": ("GET", "/ws?fp=abc", {}, 400),
    "a socket that is none": ("GET", f"/ws?fp={FP}", {}, 426),
    "a token that is long": ("GET", "/link/" + "x" * 2000, {}, 410),
    "a token in another script": ("GET", "/link/%F0%9F%92%A9", {}, 410),
    "a token that is broken": ("GET", "/link/%FF%FE", {}, 410),
    "headers that are too large": ("GET", "/", {"headers": {"X-Long": "x" * 20_000}}, 413),
}


@pytest.mark.parametrize(("method", "path", "options", "status"), REQUESTS.values(), ids=REQUESTS.keys())
async def test_a_bad_request_gets_a_clear_error(
    scene: Scene, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    answer = await scene.http.request(method, path, **options)
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == status
    shows_nothing_of_the_inside(answer.text)


async def test_a_cookie_that_is_none_is_no_session(scene: Scene) -> None:
    for cookie in ("x", "x.y", "." * 50, "%00", "a" * 3000, f"{'0' * 32}.secret"):
        answer = await scene.http.get("/peers", headers={"Cookie": f"session={cookie}"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/"), cookie


@pytest.mark.parametrize(
    "head",
    [
        "POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        "POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        "POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        "NONSENSE\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
    ],
    ids=["negative length", "length in words", "two lengths", "no such version", "no request", "no header"],
)
async def test_what_is_no_http_is_400(scene: Scene, head: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.running.port)
    writer.write(head.encode())
    answer = (await asyncio.wait_for(reader.read(), SECONDS)).decode()
    assert answer.startswith("HTTP/1.1 400 ")
    shows_nothing_of_the_inside(answer)
    writer.close()
    await writer.wait_closed()


async def test_a_new_device_is_served_after_all_that(inside: Inside) -> None:
    for frame in FRAMES.values():
        await inside.laptop.say(frame)
    phone = await inside.scene.join(inside.owner, "phone", new_fingerprint())
    assert {peer["name"] for peer in await phone.peers()} == {"laptop", "phone"}
