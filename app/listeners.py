"""Listeners: the sockets on which connections come in. Each process that serves has one, all of them on one port."""

import contextlib
import logging
import resource
import socket

from app.lobby import MOST
from app.settings import Settings

log = logging.getLogger("peerbook")

BACKLOG = 1024

_KERNEL_BUFFER = 64 * 1024
"""Bytes that the system shall keep for a connection each way; by itself it keeps megabytes of what nobody reads."""

_BESIDE = MOST + 64  # what this process holds open beside WebSockets: HTTP, the store, mails, files


class ListenError(Exception):
    """The address can't be listened on; the message is one sentence for the person who starts the server."""


def listen(settings: Settings) -> list[socket.socket]:
    """A listener for each of the workers; raises ListenError."""
    try:
        return _listen(settings.host, settings.port, settings.workers)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that can't be a name
        reason = getattr(error, "strerror", None) or error
        raise ListenError(f"Cannot listen on {settings.host}:{settings.port}: {reason}.") from None


def room_for(sockets: int) -> int:
    """Ask the system for so many sockets and what stands open beside them; returns how many sockets it lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sockets + _BESIDE
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft >= wanted:
        return sockets
    fewer = max(soft - _BESIDE, soft // 2)
    log.warning("event=few_descriptors sockets=%d", fewer)
    return fewer


def _listen(host: str, port: int, count: int) -> list[socket.socket]:
    """The first one takes the port for us alone. Only then is it shared, so no other server has a part."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(_bind(host, port, shared=False))
        listeners = [first]
        if count > 1:
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # All by the port's number: one that was given any free port would lose it whenever it does not listen.
            port = first.getsockname()[1]
            listeners = [stack.enter_context(_bind(host, port, shared=True)) for _ in range(count)]
        for listener in listeners:
            listener.listen(BACKLOG)
        stack.pop_all()
    if first not in listeners:
        first.close()
    return listeners


def _bind(host: str, port: int, *, shared: bool) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for way in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # connections have what their listener has
            listener.setsockopt(socket.SOL_SOCKET, way, _KERNEL_BUFFER)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener
