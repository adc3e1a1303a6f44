"""`python -m app.worker`: one of the processes that serve a port together. Its parent (supervisor.py) starts it."""

import socket
import sys
from pathlib import Path

from app.lifeline import Lifeline, die_with_parent
from app.server import serve
from app.settings import Settings
from app.startup import complete, run, start


def main() -> int:
    """Serve until told to stop; returns the exit code.

    The arguments are what the parent made: the descriptors of a listener and of the lifeline, the folder that the
    workers share, and the address of the built-in store if there is one. All else comes from the environment, which is
    the parent's.
    """
    die_with_parent()
    listener, line = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    folder, store_url = Path(sys.argv[3]), "".join(sys.argv[4:])
    parent = Lifeline(line)

    def work(settings: Settings) -> int:
        settings = complete(settings, listener.getsockname()[1])
        return serve(settings, store_url or settings.store_url, listener, parent.say_ready, parent, folder)

    with listener, line:
        return start(work)


if __name__ == "__main__":
    run(main)
