"""Everything that cannot be read gets its clear refusal, changes nothing, and mails nobody."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support import Device, Owner, Scene, new_fingerprint

FP = "AB" * 32
GOOD = {"fp": FP, "email": "a@example.org"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


@dataclass(frozen=True)
class Bad:
    """One request that must be refused with `status`."""

    status: int
    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def verify(id: str, body: Any) -> Any:
    """A body of /verify that is refused: JSON, or bytes as they are."""
    return pytest.param(
        Bad(400, "POST", "/verify", body if isinstance(body, bytes) else json.dumps(body).encode()), id=id
    )


def request(id: str, status: int, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
    """A request that is refused."""
    return pytest.param(Bad(status, method, path, body, {k.replace("_", "-"): v for k, v in headers.items()}), id=id)


def form(id: str, status: int, path: str, body: bytes, headers: dict[str, str] = FORM) -> Any:
    """A form that is refused."""
    return pytest.param(Bad(status, "POST", path, body, headers), id=id)


BODIES = [
    verify("empty", b""),
    verify("blank", b"  \n"),
    verify("no json", b"fp=AB&email=a@example.org"),
    verify("half json", b'{"fp": "AB'),
    verify("two objects", b"{}{}"),
    verify("trailing comma", b'{"fp": 1,}'),
    verify("single quotes", b"{'fp': 1}"),
    verify("not a number", b'{"fp": NaN}'),
    verify("utf-16", json.dumps(GOOD).encode("utf-16")),
    verify("bad utf-8", b'{"fp": "\xff"}'),
    verify("byte order mark", b"\xef\xbb\xbf" + json.dumps(GOOD).encode()),
    verify("lone surrogate", b'{"fp": "\\ud800", "email": "a@example.org"}'),
    verify("surrogate in the address", json.dumps(GOOD).replace("a@", "\\udc00@").encode()),
    verify("zero byte", b"\x00"),
    verify("an array", [GOOD]),
    verify("a text", "fp"),
    verify("a number", 7),
    verify("a huge number", b"9" * 5000),
    verify("null", b"null"),
    verify("true", True),
    verify("very deep", b"[" * 30000),
    verify("very deep object", b'{"a":' * 10000 + b"1" + b"}" * 10000),
    verify("nothing in it", {}),
    verify("no fingerprint", {"email": "a@example.org"}),
    verify("no owner", {"fp": FP}),
    verify("owner null", {"fp": FP, "email": None}),
]
FINGERPRINTS = [
    verify(f"fingerprint {id}", GOOD | {"fp": fp})
    for id, fp in {
        "empty": "",
        "null": None,
        "number": 7,
        "array": [FP],
        "object": {"fp": FP},
        "short": FP[:-1],
        "long": FP + "A",
        "no hex": "G" * 64,
        "other hash": "sha-1 " + FP,
        "two blanks": "sha-256  " + FP,
        "blank before": " " + FP,
        "newline behind": FP + "\n",
        "mixed colons": "AB:" + FP[2:],
        "wide digits": "\uff21" * 64,
        "wildcard": "*" * 64,
        "key of the store": "}:{" + FP[3:],
    }.items()
]
ADDRESSES = [
    verify(f"address {id}", GOOD | {"email": address})
    for id, address in {
        "empty": "",
        "number": 7,
        "array": ["a@example.org"],
        "no at": "example.org",
        "no local part": "@example.org",
        "no domain": "a@",
        "two ats": "a@b@example.org",
        "two addresses": "a@example.org, b@example.org",
        "named": "A <a@example.org>",
        "quoted": '"a b"@example.org',
        "header": "a@example.org\r\nBcc: b@example.org",
        "newline": "a@example.org\n",
        "zero byte": "a\x00@example.org",
        "blank": "a b@example.org",
        "dots": "a..b@example.org",
        "dot behind": "a@example.org.",
        "underscore host": "a@exa_mple.org",
        "literal host": "a@[127.0.0.1]",
        "beyond ascii": "ä@example.org",
        "host beyond ascii": "a@exämple.org",
        "too long": "a" * 250 + "@example.org",
        "percent": "a%40example.org",
    }.items()
]
WORDS = [
    *[
        verify(f"name {id}", GOOD | {"name": name})
        for id, name in {
            "empty": "",
            "blank": "  ",
            "invisible": "\u200b\u202e",
            "long": "x" * 65,
            "number": 7,
            "array": ["x"],
            "false": False,
        }.items()
    ],
    *[
        verify(f"kind {id}", GOOD | {"kind": kind})
        for id, kind in {
            "empty": "",
            "upper": "Laptop",
            "blank": "a b",
            "long": "x" * 33,
            "number": 7,
            "slash": "a/b",
            "newline": "a\n",
        }.items()
    ],
    *[
        verify(f"uid {id}", {"fp": FP, "uid": uid})
        for id, uid in {
            "empty": "",
            "number": 7,
            "long": "a" * 65,
            "braces": "a}:{b",
            "star": "*",
            "beyond ascii": "é",
            "newline": "a\n",
        }.items()
    ],
]
QUERIES = [
    request(f"ws {id}", 400, "GET", f"/ws{query}")
    for id, query in {
        "nothing": "",
        "empty": "?fp=",
        "short": "?fp=AB",
        "zero byte": f"?fp={FP[:-2]}%00%00",
        "bad utf-8": "?fp=%ff",
        "other name": f"?FP={FP}",
        "encoded twice": f"?fp=sha-256%2520{FP}",
    }.items()
]
REQUESTS = [
    request("unknown path", 404, "GET", "/nowhere"),
    request("unknown path, post", 404, "POST", "/nowhere", b"{}"),
    request("parent folder", 404, "GET", "/static/../server.py"),
    request("parent folder, encoded", 404, "GET", "/static/%2e%2e/%2e%2e/server.py"),
    request("zero byte", 404, "GET", "/%00"),
    request("bad utf-8 in the path", 404, "GET", "/%ff"),
    request("verify by get", 405, "GET", "/verify"),
    request("verify by put", 405, "PUT", "/verify", b"{}"),
    request("delete", 405, "DELETE", "/peers"),
    request("post to the socket", 405, "POST", f"/ws?fp={FP}"),
    request("post to livez", 405, "POST", "/livez"),
    request("trace", 405, "TRACE", "/"),
    request("a body that is too large", 413, "POST", "/verify", b"x" * 70000),
    request("a login that is too large", 413, "POST", "/login", b"email=" + b"x" * 70000),
    request("an expectation", 417, "POST", "/verify", b"{}", Expect="something else"),
]
LINKS = [
    request(f"{door} {id}", 410, method, f"/{door}/{token}")
    for door in ("link", "signout", "stop")
    for method in ("GET", "POST")
    for id, token in {
        f"{method} made up": "x",
        f"{method} long": "x" * 3000,
        f"{method} signed by nobody": "InNlY3JldCI.Z1_abc.c2lnbmF0dXJl",
        f"{method} dots": "...",
        f"{method} beyond ascii": "%C3%A9",
        f"{method} bad utf-8": "%ff",
        f"{method} zero byte": "%00",
    }.items()
]
LOGINS = [
    form("login nothing", 422, "/login", b""),
    form("login no address", 422, "/login", b"email=nobody"),
    form("login two addresses", 422, "/login", b"email=a%40example.org%2Cb%40example.org"),
    form("login newline", 422, "/login", b"email=a%40example.org%0D%0ABcc%3A+b%40example.org"),
    form("login bad utf-8", 422, "/login", b"email=%ff%40example.org"),
    form("login json", 422, "/login", b'{"email": "a@example.org"}', {"Content-Type": "application/json"}),
    form("login broken multipart", 422, "/login", b"--x\r\nContent-Disposition: form-data\r\n\r\na", MULTIPART),
    form("login multipart without boundary", 422, "/login", b"--x", {"Content-Type": "multipart/form-data"}),
    form("code without a cookie", 410, "/login/code", b"code=123456"),
    form("code nothing", 410, "/login/code", b"", FORM | {"Cookie": f"asker={'a' * 32}"}),
    form("code bad utf-8", 410, "/login/code", b"code=%ff", FORM | {"Cookie": f"asker={'a' * 32}"}),
    form("code json", 410, "/login/code", b'{"code": "123456"}', {"Content-Type": "application/json"}),
    form("code with a garbled cookie", 410, "/login/code", b"code=123456", FORM | {"Cookie": "asker={a}:b"}),
    form(
        "login file",
        422,
        "/login",
        b'--x\r\nContent-Disposition: form-data; name="email"; filename="a"\r\n\r\nb\r\n--x--\r\n',
        MULTIPART,
    ),
]


async def stored(redis: Redis) -> set[str]:
    """The names of all that is stored, but for what counts attempts."""
    return {key for key in map(str, await redis.keys()) if not key.startswith("limit:")}


@pytest.mark.parametrize("bad", [*BODIES, *FINGERPRINTS, *ADDRESSES, *WORDS, *QUERIES, *REQUESTS, *LINKS, *LOGINS])
async def test_what_cannot_be_read_is_refused_and_leaves_no_trace(scene: Scene, redis: Redis, bad: Bad) -> None:
    before = await stored(redis)
    answer = await scene.http.request(bad.method, bad.path, content=bad.body or None, headers=bad.headers)
    assert answer.status_code == bad.status, answer.text
    if bad.method != "HEAD" and answer.headers["content-type"] == "application/json":
        assert answer.json().keys() == {"code", "text"}
        assert answer.json()["code"] == bad.status
        assert answer.json()["text"].endswith(".")
    else:
        assert "<h1" in answer.text
    assert "Traceback" not in answer.text
    await scene.at_rest()
    assert await stored(redis) == before
    assert scene.mailbox.mails == []


# The same over a socket that is in


@pytest.fixture
async def laptop(scene: Scene) -> Device:
    return await scene.join(scene.owner())


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(text, id=id)
        for id, text in {
            "empty": "",
            "blank": " ",
            "no json": "hello",
            "half": '{"command":',
            "two": '{"command": "get_list"}{}',
            "array": '[{"command": "get_list"}]',
            "text": '"get_list"',
            "number": "7",
            "null": "null",
            "nan": '{"command": NaN}',
            "lone surrogate": '{"command": "\\ud800"}',
            "deep": "[" * 60000,
            "deep offer": f'{{"target":"{FP}","offer":' + "[" * 20000 + "]" * 20000 + "}",
            "no command": "{}",
            "command null": '{"command": null}',
            "command number": '{"command": 1}',
            "command array": '{"command": ["get_list"]}',
            "command object": '{"command": {"get_list": 1}}',
            "command unknown": '{"command": "GET_LIST"}',
            "target alone": f'{{"target": "{FP}"}}',
            "offer alone": '{"offer": "x"}',
            "target null": '{"target": null, "offer": "x"}',
            "target number": '{"target": 7, "offer": "x"}',
            "target array": f'{{"target": ["{FP}"], "offer": "x"}}',
            "target short": '{"target": "AB", "offer": "x"}',
            "offer and answer": f'{{"target": "{FP}", "offer": "x", "answer": "x"}}',
            "all three": f'{{"target": "{FP}", "offer": 1, "answer": 1, "candidate": 1}}',
            "id true": '{"command": "get_list", "id": true}',
            "id fraction": '{"command": "get_list", "id": 1.5}',
            "id array": '{"command": "get_list", "id": []}',
            "id object": '{"command": "get_list", "id": {}}',
            "id long": '{"command": "get_list", "id": "' + "x" * 65 + '"}',
            "id huge": '{"command": "get_list", "id": ' + "9" * 40 + "}",
            "rename nothing": '{"command": "rename"}',
            "rename number": '{"command": "rename", "name": 1}',
            "rename long": '{"command": "rename", "name": "' + "x" * 65 + '"}',
            "rename invisible": '{"command": "rename", "name": "\\u200b"}',
        }.items()
    ],
)
async def test_a_bad_frame_is_400_and_the_socket_stays_open(laptop: Device, frame: str) -> None:
    await laptop.say(frame)
    answer = await laptop.hear()
    assert answer.keys() == {"code", "text"}
    assert answer["code"] == 400
    assert len(await laptop.peers()) == 1


# The same in the forms of an owner who is logged in


@pytest.fixture
async def owner(scene: Scene) -> Owner:
    owner = scene.owner()
    await scene.join(owner, "phone")
    return owner


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        pytest.param("/peers", {}, 422, id="add nothing"),
        pytest.param("/peers", {"fp": "AB", "name": "x"}, 422, id="add bad fingerprint"),
        pytest.param("/peers", {"fp": FP}, 422, id="add no name"),
        pytest.param("/peers", {"fp": FP, "name": "\u200b"}, 422, id="add invisible name"),
        pytest.param("/peers", {"fp": FP, "name": "phone"}, 422, id="add taken name"),
        pytest.param("/peers", {"fp": FP, "name": "x", "kind": "A B"}, 422, id="add bad kind"),
        pytest.param("/peers/FP/rename", {}, 422, id="rename nothing"),
        pytest.param("/peers/FP/rename", {"name": "x" * 65}, 422, id="rename long"),
        pytest.param("/peers/FP/fly", {}, 404, id="unknown act"),
        pytest.param("/peers/FP/approve", {}, 404, id="approve without a request"),
        pytest.param("/peers/FP/approve", {"replaces": "AB"}, 422, id="replaces bad fingerprint"),
        pytest.param("/peers/FP/approve", {"pair": "000-000"}, 404, id="approve unknown pair"),
        pytest.param("/peers/FP/reject", {"pair": "\x00"}, 404, id="reject bad pair"),
        pytest.param(f"/peers/{FP}/revoke", {}, 404, id="revoke unknown"),
        pytest.param("/peers/x/revoke", {}, 404, id="revoke bad fingerprint"),
    ],
)
async def test_a_form_that_does_not_fit_changes_nothing(
    owner: Owner, redis: Redis, scene: Scene, path: str, fields: dict[str, str], status: int
) -> None:
    (fp,) = [each.fp for each in scene.context.connections if each.device.name == "phone"]
    before = await stored(redis), await owner_book(owner, redis)
    answer = await owner.act(path.replace("FP", fp, 1) if path.startswith("/peers/FP") else path, **fields)
    assert answer.status_code == status, answer.text
    assert "<h1" in answer.text
    assert (await stored(redis), await owner_book(owner, redis)) == before


async def owner_book(owner: Owner, redis: Redis) -> list[Any]:
    """The owner's devices as they are stored."""
    keys = sorted(await redis.keys(f"peer:{{{await owner.uid()}}}:*"))
    return [await redis.hgetall(key) for key in keys]


async def test_a_good_request_would_have_been_served(scene: Scene) -> None:
    assert (await scene.verify(new_fingerprint(), email="a@example.org"))["verified"] is False
