"""`python -m app`: serve, with the settings from the environment."""

import contextlib
import dataclasses
import io
import logging
import sys

from app.embedded import EmbeddedError, EmbeddedStore, keep_secret
from app.errors import Unreachable
from app.faults import OneLine
from app.server import listen, serve
from app.settings import Settings, SettingsError, read_settings


def main() -> int:
    """Serve until told to stop; returns the exit code, 2 where the settings don't fit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # mails and logs are seen at once through a pipe, too
    try:
        settings = read_settings()
    except SettingsError as error:
        return _refuse(str(error))
    log = logging.StreamHandler(sys.stdout)
    log.setFormatter(OneLine())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[log])
    logging.getLogger("sanic").setLevel(logging.WARNING)
    try:
        listener = listen(settings)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that can't be a name
        reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        return _refuse(f"Cannot listen on {settings.host}:{settings.port}: {reason}.")
    settings = settings.listening_on(listener.getsockname()[1])
    with contextlib.ExitStack() as stack:
        stack.callback(listener.close)
        store_url = settings.store_url
        try:
            if settings.embedded:
                store_url = stack.enter_context(EmbeddedStore(settings.data_dir)).url
                settings = dataclasses.replace(
                    settings, secret_key=settings.secret_key or (keep_secret(settings.data_dir),)
                )
            serve(settings, store_url, listener, lambda: _welcome(settings))
        except (EmbeddedError, OSError) as error:
            return _refuse(str(error))
        except Unreachable:
            return _refuse("The store does not answer: check REDIS_URL.", code=1)
    return 0


def _welcome(settings: Settings) -> None:
    """Say what was chosen, and what to try next."""
    scheme, _, rest = settings.base_url.partition("://")
    socket_url = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws"
    print(f"peerbook is at {settings.base_url}")
    print(f"  store: {f'built in, data in {settings.data_dir}' if settings.embedded else 'REDIS_URL'}")
    print(f"  mails: {'shown here' if settings.smtp_url is None else settings.smtp_url.host}")
    print("Connect a first device, then open the link in the mail:")
    print(f"  .venv/bin/python -m websockets '{socket_url}?fp={'A1' * 32}&name=laptop&email=you@example.org'")


def _refuse(sentence: str, code: int = 2) -> int:
    print(sentence, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
