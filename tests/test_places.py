"""Where a request comes from: the address that exactly the trusted proxies tell, whatever the client writes itself."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from sanic.compat import Header
from sanic.request import Request as SanicRequest

from app.context import Request
from app.handlers.places import network_of, place_of
from app.settings import Settings
from tests.conftest import Start
from tests.support import Scene, new_fingerprint

PROXY = "10.0.0.1"


def request_from(socket: str, proxies: int, *forwarded: str, **headers: str) -> Request:
    """A request to a server that trusts so many proxies: who opened its connection, its X-Forwarded-For, line by line."""
    lines = [("x-forwarded-for", line) for line in forwarded] + list(headers.items())
    app = cast(Any, SimpleNamespace(ctx=SimpleNamespace(settings=Settings(proxies_count=proxies))))
    request = SanicRequest(b"/", Header(lines), "1.1", "GET", cast(Any, None), app)
    request.conn_info = cast(Any, SimpleNamespace(client_ip=socket))
    return cast(Request, request)


@pytest.mark.parametrize(
    ("proxies", "forwarded", "network"),
    [
        # No proxy is trusted: the header is anybody's.
        (0, [], PROXY),
        (0, ["203.0.113.7"], PROXY),
        (0, ["203.0.113.7, 198.51.100.1"], PROXY),
        # One: the last entry.
        (1, [], PROXY),
        (1, ["203.0.113.7"], "203.0.113.7"),
        (1, ["192.0.2.66, 203.0.113.7"], "203.0.113.7"),
        (1, ["192.0.2.66", "203.0.113.7"], "203.0.113.7"),
        (1, ["192.0.2.66, 192.0.2.67", "192.0.2.68, 203.0.113.7"], "203.0.113.7"),
        (1, ["192.0.2.66,203.0.113.7"], "203.0.113.7"),
        (1, [", ,203.0.113.7"], "203.0.113.7"),
        (1, ["x" * 4000 + ", 203.0.113.7"], "203.0.113.7"),
        # Two: the last but one.
        (2, ["192.0.2.66, 203.0.113.7, 198.51.100.1"], "203.0.113.7"),
        (2, ["192.0.2.66, 203.0.113.7", "198.51.100.1"], "203.0.113.7"),
        (2, ["203.0.113.7, 198.51.100.1"], "203.0.113.7"),
        (3, ["203.0.113.7, 198.51.100.1, 198.51.100.2"], "203.0.113.7"),
        # Fewer entries than proxies: somebody came past them.
        (2, ["203.0.113.7"], PROXY),
        (2, [" , 203.0.113.7"], PROXY),
        (3, ["203.0.113.7, 198.51.100.1"], PROXY),
        (10, ["203.0.113.7"], PROXY),
        # Garbage where the address should be is no address; garbage further left is not looked at.
        (1, [""], PROXY),
        (1, [","], PROXY),
        (1, ["unknown"], PROXY),
        (1, ["_hidden"], PROXY),
        (1, ["203.0.113.7, garbage"], PROXY),
        (1, ["203.0.113.256"], PROXY),
        (1, ["203.0.113"], PROXY),
        (1, ["203.0.113.07"], PROXY),
        (1, ["203.0.113.7:4711"], PROXY),
        (1, ["3405803783"], PROXY),
        (1, ["2001:db8::g"], PROXY),
        (1, ["203.0.113.7/24"], PROXY),
        (1, ["\u0662\u0660\u0663.0.113.7"], PROXY),
        (1, ["for=203.0.113.7"], PROXY),
        (1, ["garbage, 203.0.113.7"], "203.0.113.7"),
        # IPv6 counts by the 64 bits that one household has.
        (1, ["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        (1, ["2001:DB8:1:2::ffff"], "2001:db8:1:2::/64"),
        (1, ["[2001:db8:1:2::1]"], "2001:db8:1:2::/64"),
        (1, ["2001:db8:1:3::1"], "2001:db8:1:3::/64"),
        (1, ["fe80::1%evil.example"], "fe80::/64"),
        (1, ["::1"], "::/64"),
        # IPv4 that came over IPv6 is IPv4.
        (1, ["::ffff:203.0.113.7"], "203.0.113.7"),
        (1, ["::ffff:cb00:7107"], "203.0.113.7"),
    ],
)
def test_the_client_is_whom_the_outermost_trusted_proxy_was_called_by(
    proxies: int, forwarded: list[str], network: str
) -> None:
    assert network_of(request_from(PROXY, proxies, *forwarded)) == network


@pytest.mark.parametrize("proxies", [0, 1, 2])
@pytest.mark.parametrize("header", ["Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP"])
def test_no_other_header_names_the_client(proxies: int, header: str) -> None:
    value = "for=203.0.113.7" if header == "Forwarded" else "203.0.113.7"
    assert network_of(request_from(PROXY, proxies, **{header: value})) == PROXY


@pytest.mark.parametrize(
    ("socket", "network", "place"),
    [
        ("203.0.113.7", "203.0.113.7", "203.0.113.x"),
        ("::ffff:203.0.113.7", "203.0.113.7", "203.0.113.x"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
        ("", "somewhere", "somewhere"),
    ],
)
def test_without_a_proxy_the_client_is_who_opened_the_connection(socket: str, network: str, place: str) -> None:
    request = request_from(socket, 0)
    assert (network_of(request), place_of(request)) == (network, place)


@pytest.mark.parametrize(
    ("proxies", "forwarded", "place"),
    [
        (0, "198.51.100.9", "127.0.0.x"),
        (1, "198.51.100.9, 203.0.113.7", "203.0.113.x"),
        (2, "198.51.100.9, 203.0.113.7", "198.51.100.x"),
        (2, "198.51.100.9", "127.0.0.x"),
        (1, "<script>alert(1)</script>", "127.0.0.x"),
    ],
)
async def test_the_owner_sees_the_place_that_the_trusted_proxies_tell(
    start: Start, proxies: int, forwarded: str, place: str
) -> None:
    scene: Scene = await start(proxies_count=proxies)
    owner = scene.owner()
    body = {"fp": new_fingerprint(), "email": owner.address}
    await scene.http.post("/verify", json=body, headers={"X-Forwarded-For": forwarded})
    await (await scene.connect(email=owner.address)).hear()
    await owner.log_in()
    visit = await scene.context.sessions.visit(owner.http.cookies["session"], prolong=False)
    assert visit
    places = {str(request.fp): request.place for request in visit.book.requests.values()}
    assert places.pop(body["fp"]) == place
    assert set(places.values()) == {"127.0.0.x"}, "a socket without the header came past the proxies"
