"""The start, as the server and its workers share it: settings, logs, and one sentence where something does not fit."""

import dataclasses
import importlib.util
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn, TextIO

from app.embedded import EmbeddedError, keep_secret
from app.errors import Unreachable
from app.listeners import ListenError
from app.logs import set_up
from app.migrations import NewerData
from app.settings import Settings, SettingsError, Unfinished, read_settings
from app.unfinished import explain


def run(main: Callable[[], int]) -> NoReturn:
    """Run a program to its end, which nothing holds up: an ordinary exit waits for names that are being looked up."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def start(work: Callable[[Settings], int], *, logs: TextIO | None = None, page: bool = False) -> int:
    """Do the work with the settings from the environment; returns its exit code, 2 where the settings don't fit.

    It is 1 where the store does not answer. Logs go to stdout unless told otherwise. Where only BASE_URL is missing on a
    platform, `page` has a page say so. SIGTERM and SIGINT end the program in peace until the work takes them over.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # mails and logs are seen at once through a pipe, too
    if importlib.util.find_spec("uvloop") is None:  # the standard loop does not stop in time with open sockets
        return _refuse("uvloop is missing: install what requirements.txt names.")
    try:
        settings = read_settings()
        set_up(settings.log_level, settings.log_format, logs or sys.stdout)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(0))
        return work(settings)
    except Unfinished as error:
        return explain(error.port, str(error)) if page else _refuse(str(error))
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


def _refuse(sentence: str, code: int = 2) -> int:
    print(sentence, file=sys.stderr)
    return code
