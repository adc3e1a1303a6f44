"""The lifeline between a parent and a process that it started: each learns when the other is gone or about to go.

It is a socket pair. The child says one byte when it serves, and closes its end when it takes no more connections;
the parent closes its end when the child shall stop. An end that nobody closed is closed by the kernel when its
process is gone, however that came.
"""

import contextlib
import ctypes
import signal
import socket
import sys

READY = b"r"
_PR_SET_PDEATHSIG = 1


class Lifeline:
    """The child's end."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def fileno(self) -> int:
        """Readable as soon as the parent is gone, or wants this process to stop."""
        return self._line.fileno()

    def say_ready(self) -> None:
        """This process serves."""
        with contextlib.suppress(OSError):  # a parent that is gone does not care
            self._line.send(READY)

    def say_retired(self) -> None:
        """This process takes no more connections."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)


def die_with_parent() -> None:
    """Linux: this process gets SIGTERM when the thread that started it ends, however that ends (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
