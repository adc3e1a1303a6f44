"""The start, as the server and its workers share it: settings, logs, and one sentence where something does not fit."""

import dataclasses
import importlib.util
import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn, TextIO

from app.embedded import EmbeddedError, keep_secret
from app.errors import Unreachable
from app.faults import OneLine
from app.listeners import ListenError
from app.migrations import NewerData
from app.settings import Settings, SettingsError, read_settings


def run(main: Callable[[], int]) -> NoReturn:
    """Run a program to its end, which nothing holds up: an ordinary exit waits for names that are being looked up."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def start(work: Callable[[Settings], int], *, logs: TextIO | None = None) -> int:
    """Do the work with the settings from the environment; returns its exit code, 2 where the settings don't fit.

    It is 1 where the store does not answer. Logs go to stdout unless told otherwise. SIGTERM and SIGINT end the program
    in peace until the work takes them over.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # mails and logs are seen at once through a pipe, too
    if importlib.util.find_spec("uvloop") is None:  # the standard loop does not stop in time with open sockets
        return _refuse("uvloop is missing: install what requirements.txt names.")
    try:
        settings = read_settings()
        _set_up_logs(settings, logs or sys.stdout)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(0))
        return work(settings)
    except (SettingsError, ListenError, EmbeddedError, NewerData, OSError) as error:
        return _refuse(str(error))
    except Unreachable:
        return _refuse("The store does not answer: check REDIS_URL.", code=1)


def complete(settings: Settings, port: int) -> Settings:
    """The settings with the port that was taken, and with the secret that lies beside the built-in store."""
    settings = settings.listening_on(port)
    if settings.embedded and not settings.secret_key:
        settings = dataclasses.replace(settings, secret_key=(keep_secret(settings.data_dir),))
    return settings


def _set_up_logs(settings: Settings, stream: TextIO) -> None:
    log = logging.StreamHandler(stream)
    log.setFormatter(OneLine())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[log])
    logging.getLogger("sanic").setLevel(logging.WARNING)


def _refuse(sentence: str, code: int = 2) -> int:
    print(sentence, file=sys.stderr)
    return code
