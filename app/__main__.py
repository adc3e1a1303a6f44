"""`python -m app`: serve, with the settings from the environment."""

import contextlib

from app.embedded import EmbeddedStore
from app.listeners import listen
from app.settings import Settings
from app.startup import complete, run, start


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    return start(_serve)


def _serve(settings: Settings) -> int:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(listener) for listener in listen(settings)]
        store_url = settings.store_url
        if settings.embedded:
            store_url = stack.enter_context(EmbeddedStore(settings.data_dir)).url
        settings = complete(settings, listeners[0].getsockname()[1])
        # A parent of workers does not load what serves, which takes as much memory again.
        if settings.workers > 1:
            from app.supervisor import supervise

            return supervise(listeners, store_url if settings.embedded else None, lambda: _welcome(settings))
        from app.server import serve

        return serve(settings, store_url, listeners[0], lambda: _welcome(settings))


def _welcome(settings: Settings) -> None:
    """Say what was chosen, and what to try next."""
    scheme, _, rest = settings.base_url.partition("://")
    socket_url = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws"
    print(f"peerbook is at {settings.base_url}")
    print(f"  store: {f'built in, data in {settings.data_dir}' if settings.embedded else 'REDIS_URL'}")
    print(f"  mails: {'shown here' if settings.smtp_url is None else settings.smtp_url.host}")
    print("Connect a first device, then open the link in the mail:")
    print(f"  .venv/bin/python -m websockets '{socket_url}?fp={'A1' * 32}&name=laptop&email=you@example.org'")


if __name__ == "__main__":
    run(main)
