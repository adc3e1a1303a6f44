"""Where a request comes from, coarse enough to be shown and kept: 203.0.113.x, or the first 48 bits of IPv6."""

import ipaddress

from app.context import Request


def place_of(request: Request) -> str:
    """The client's network, as the trusted proxies tell it."""
    try:
        address = ipaddress.ip_address((request.remote_addr or request.ip).strip("[]"))
    except ValueError:
        return "somewhere"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            network = ipaddress.ip_network((address, 48), strict=False)
            return f"{network.network_address}/48"
        address = address.ipv4_mapped
    return f"{str(address).rpartition('.')[0]}.x"


def network_of(request: Request) -> str:
    """The client's network for the limits: an IPv4 address, or the /64 of an IPv6 one."""
    return (request.remote_addr or request.ip).strip("[]")


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
