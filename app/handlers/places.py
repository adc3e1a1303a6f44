"""Where a request comes from, as the trusted proxies tell it: the network that limits count, and a place to show."""

import ipaddress

from app.context import Request

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MARK = "192.0.2.1"
"""What the doctor writes into X-Forwarded-For: an address that nobody has (RFC 5737)."""

_UNKNOWN = "somewhere"


def network_of(request: Request) -> str:
    """The client's network, by which limits count: an IPv4 address, or the 64 bits of IPv6 that one household has."""
    address = _client_of(request)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address or _UNKNOWN)


def place_of(request: Request) -> str:
    """The client's network, coarse enough to be shown and kept: 203.0.113.x, or the first 48 bits of IPv6."""
    address = _client_of(request)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 48), strict=False))
    return f"{str(address).rpartition('.')[0]}.x" if address else _UNKNOWN


def proxies_before(request: Request) -> int:
    """How many proxies stand before this server, by what they wrote behind the doctor's MARK; all, where it is gone."""
    hops = _hops(request)
    return hops[::-1].index(MARK) if MARK in hops else len(hops)


def _client_of(request: Request) -> _Address | None:
    """The client's address, None where the server does not listen on IP.

    Each proxy appends the address that it was called from to X-Forwarded-For, so with n trusted ones the n-th from the
    right is the client's; further left stands whatever the client wrote. With none, with fewer entries, or where that
    one is no address, the client is who opened the connection.
    """
    count = request.app.ctx.settings.proxies_count
    hops = _hops(request)
    named = hops[-count] if 0 < count <= len(hops) else ""
    return _read_address(named) or _read_address(request.ip)


def _hops(request: Request) -> list[str]:
    """Who called whom on the way here, the last of them on the right."""
    lines = request.headers.getall("x-forwarded-for", [])
    return [hop.strip() for line in lines for hop in line.split(",") if hop.strip()]


def _read_address(text: str) -> _Address | None:
    """An address, without its zone (RFC 4007); IPv4 that came over IPv6 is IPv4 (RFC 4291, section 2.5.5.2)."""
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


def browser_of(request: Request) -> str:
    """The browser and system as a person would call them, from a User-Agent (RFC 9110, section 10.1.5) that may lie."""
    agent = request.headers.get("user-agent", "")
    browser = next((name for mark, name in _BROWSERS if mark in agent), "a browser")
    system = next((name for mark, name in _SYSTEMS if mark in agent), "")
    return f"{browser} on {system}" if system else browser


# The first mark that fits: every browser calls itself many names.
_BROWSERS = (("Firefox", "Firefox"), ("Edg", "Edge"), ("OPR", "Opera"), ("Chrome", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("Linux", "Linux"),
)
