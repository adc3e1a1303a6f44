"""Listeners: the sockets on which connections come in. Each process that serves has one, all of them on one port."""

import contextlib
import socket

from app.settings import Settings

BACKLOG = 1024


class ListenError(Exception):
    """The address can't be listened on; the message is one sentence for the person who starts the server."""


def listen(settings: Settings) -> list[socket.socket]:
    """A listener for each of the workers; raises ListenError."""
    try:
        return _listen(settings.host, settings.port, settings.workers)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that can't be a name
        reason = getattr(error, "strerror", None) or error
        raise ListenError(f"Cannot listen on {settings.host}:{settings.port}: {reason}.") from None


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
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener
