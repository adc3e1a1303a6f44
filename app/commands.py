"""The commands beside serving, as a person at a terminal meets them: doctor, export and import."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from app.addresses import Address
from app.backups import Backup, BackupError, export_instance, import_instance, read_backup
from app.context import lone_store
from app.doctor import examine
from app.embedded import EmbeddedError, EmbeddedStore, InUse
from app.findings import Finding, fail, note, ok
from app.migrations import bring_up_to_date
from app.progress import Progress
from app.settings import Settings, SettingsError, Unfinished, read_settings
from app.startup import complete, start
from app.store import SCHEMA, Store

_STORE_SECONDS = 30.0  # a book of ten thousand devices takes its time
_INTERRUPTED = 130  # what shells say of a program that Ctrl-C ended


def doctor(*, release: bool, send_to: Address | None, as_json: bool) -> int:
    """Say of each thing whether it fits; returns 0 where all of them do, else 1."""
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            print(f"{finding.level:<5} {finding.what:<14} {finding.text}", flush=True)

    code = _until_interrupted(lambda: _examine(tell, release=release, send_to=send_to))
    fits = code == 0 and all(finding.level != "fail" for finding in findings)
    if as_json:
        print(json.dumps({"ok": fits, "findings": [asdict(finding) for finding in findings]}))
    return code or int(not fits)


def _examine(tell: Callable[[Finding], None], *, release: bool, send_to: Address | None) -> int:
    try:
        settings = read_settings()
    except (
        Unfinished
    ) as error:  # the platform tells the address after the first release, and until then a page asks for it
        tell((note if release else fail)("settings", str(error)))
        return 0
    except SettingsError as error:
        tell(fail("settings", str(error)))
        return 0
    tell(ok("settings", "complete."))

    async def examine_all(store_url: str | None) -> None:
        async for finding in examine(complete(settings, settings.port), store_url, release=release, send_to=send_to):
            tell(finding)

    try:
        with _store_url(settings) as store_url:
            asyncio.run(examine_all(store_url))
    except InUse:
        tell(note("store", f"built in, and in the hands of the server that runs with {settings.data_dir}."))
        asyncio.run(examine_all(None))
    except EmbeddedError as error:
        tell(fail("store", str(error)))
    return 0


def export_to(path: Path | None) -> int:
    """Write a backup of all books to a file, which is there once it is whole, or to stdout; returns the exit code."""

    def work(settings: Settings) -> int:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(_whole(path)) if path else sys.stdout.buffer
            backup = _with_store(settings, lambda store: _export(store, file, shown=path is not None))
            file.flush()
        _say(f"{_counted(backup)} exported.")
        return 0

    return start(lambda settings: _until_interrupted(lambda: work(settings)), logs=sys.stderr)


async def _export(store: Store, file: BinaryIO, *, shown: bool) -> Backup:
    if await store.schema() not in (SCHEMA, None):
        raise BackupError("The store holds data of another peerbook: export with that one, or start this one first.")
    with Progress(sys.stderr, "Exporting", shown=sys.stderr.isatty() and (shown or not sys.stdout.isatty())) as bar:
        return await export_instance(store, file, bar)


def import_from(path: Path | None, *, yes: bool) -> int:
    """Write all books of a backup from a file, or from stdin, into the store; returns the exit code."""

    def work(settings: Settings) -> int:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("rb") if path else _spooled(sys.stdin.buffer))
            backup = read_backup(file)
            file.seek(0)
            may_ask = path is not None and sys.stdin.isatty()
            _with_store(settings, lambda store: _import(store, file, backup, yes=yes, may_ask=may_ask))
        _say(f"{_counted(backup)} imported.")
        return 0

    return start(lambda settings: _until_interrupted(lambda: work(settings)), logs=sys.stderr)


async def _import(store: Store, file: BinaryIO, backup: Backup, *, yes: bool, may_ask: bool) -> None:
    await bring_up_to_date(store)
    goes_on = await store.open_import() == backup.checksum
    if not yes and not goes_on and await store.has_users():
        told = "The store holds books already; those of the same owners are replaced, others stay."
        if not may_ask:
            raise BackupError(f"{told} Pass --yes if that is what you want.")
        print(f"{told} Go on? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise BackupError("Nothing was imported.")
    with Progress(sys.stderr, "Importing", shown=sys.stderr.isatty()) as bar:
        await import_instance(store, file, backup, bar)


def _with_store(settings: Settings, work: Callable[[Store], Coroutine[Any, Any, Any]]) -> Any:
    async def with_it(store_url: str) -> Any:
        async with lone_store(settings, store_url, seconds=_STORE_SECONDS) as store:
            await store.open()
            return await work(store)

    with _store_url(settings) as store_url:
        return asyncio.run(with_it(store_url))


@contextlib.contextmanager
def _store_url(settings: Settings) -> Iterator[str]:
    """Where the store is. The built-in one runs meanwhile; raises EmbeddedError where it can't."""
    if not settings.embedded:
        yield settings.store_url
        return
    with EmbeddedStore(settings.data_dir) as store:
        yield store.url


def _until_interrupted(work: Callable[[], int]) -> int:
    """Its exit code. Whoever interrupts it is told so by another one than that of a work that was done."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return work()
    except BackupError as error:
        _say(str(error))
        return 1
    except OSError as error:  # a file that is not there, a full disk, a reader that left
        _say(f"Cannot use {error.filename or 'the file'}: {error.strerror}.")
        return 1
    except KeyboardInterrupt:
        _say("Interrupted.")
        return _INTERRUPTED


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file that only its owner can read, and that is there under its name once all of it was written."""
    draft = path.with_name(f"{path.name}.partial")
    try:
        with open(draft, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _spooled(source: BinaryIO) -> Iterator[BinaryIO]:
    """What comes through a pipe, as a file that can be read twice: nothing is written before all of it was checked."""
    with tempfile.TemporaryFile() as file:
        shutil.copyfileobj(source, file)
        file.seek(0)
        yield file


def _counted(backup: Backup) -> str:
    return f"{backup.books} {'book' if backup.books == 1 else 'books'}"


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)
