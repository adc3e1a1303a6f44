"""Where a request comes from, coarse enough to be shown and kept: 203.0.113.x, or the first 48 bits of IPv6."""

import ipaddress

from app.context import Request


def place_of(request: Request) -> str:
    """The client's network, as the trusted proxies tell it."""
    try:
        address = ipaddress.ip_address(request.remote_addr or request.ip)
    except ValueError:
        return "somewhere"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            network = ipaddress.ip_network((address, 48), strict=False)
            return f"{network.network_address}/48"
        address = address.ipv4_mapped
    return f"{str(address).rpartition('.')[0]}.x"
