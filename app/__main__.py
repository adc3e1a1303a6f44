"""`python -m app`: serve, or doctor, export and import. The settings come from the environment."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from app.addresses import Address, parse_address
from app.embedded import EmbeddedStore
from app.errors import BadInput
from app.listeners import listen
from app.settings import Settings
from app.startup import complete, run, start


def main(arguments: Sequence[str] = ()) -> int:
    """Serve until told to stop, or do what the arguments say; returns the exit code."""
    given = _parser().parse_args(arguments)
    if given.command is None:
        return start(_serve, page=True)
    # Who serves needs none of this.
    from app import commands

    if given.command == "doctor":
        return commands.doctor(release=given.release, send_to=given.send_to, as_json=given.json)
    if given.command == "export":
        return commands.export_to(given.file)
    return commands.import_from(given.file, yes=given.yes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m app", description="Serve. Settings come from the environment: README.md"
    )
    does = parser.add_subparsers(dest="command", title="instead of serving")
    doctor = does.add_parser("doctor", help="say whether everything fits, and what to do where it does not")
    doctor.add_argument("--release", action="store_true", help="only settings and store; brings older data up to date")
    doctor.add_argument("--send-to", type=_address, metavar="ADDRESS", help="send one mail there")
    doctor.add_argument("--json", action="store_true", help="for programs")
    export = does.add_parser("export", help="write all books to a file")
    export.add_argument("file", nargs="?", type=Path, metavar="FILE", help="stdout if there is none")
    import_ = does.add_parser("import", help="read all books from a file that export wrote")
    import_.add_argument("file", nargs="?", type=Path, metavar="FILE", help="stdin if there is none")
    import_.add_argument("--yes", action="store_true", help="don't ask, though the store holds books already")
    return parser


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except BadInput as error:
        raise argparse.ArgumentTypeError(error.text) from None


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
    run(lambda: main(sys.argv[1:]))
