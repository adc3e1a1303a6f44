"""Export and import of a whole instance: everything that lasts travels, damage is found before anything is written."""

import asyncio
import hashlib
import io
import json
import os
import pty
import re
import signal
import stat
import sys
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from app.backups import Backup, BackupError, export_instance, import_instance, read_backup
from app.claims import claim_of_secret
from app.closecodes import CloseCode
from app.context import Context, lone_store
from app.digests import digest
from app.owners import Uid
from app.settings import Settings
from app.store import Store
from tests.parts import OWNER, STRANGER, Socket, a_device, fingerprint, verified
from tests.process import SERVE, Ended, bare_environment, program, redis_server, run
from tests.support import SECONDS

SECRET = "a secret that a device keeps"
COMMAND_SECONDS = 50.0


def quiet(done: int, total: int) -> None:
    """Nobody looks at the progress."""


async def exported(store: Store) -> bytes:
    file = io.BytesIO()
    await export_instance(store, file, quiet)
    return file.getvalue()


async def imported(store: Store, text: bytes) -> Backup:
    file = io.BytesIO(text)
    backup = read_backup(file)
    file.seek(0)
    await import_instance(store, file, backup, quiet)
    return backup


def lines(text: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def without_date(text: bytes) -> list[dict[str, Any]]:
    """The lines that tell of books and stops."""
    return [line for line in lines(text) if line["line"] not in ("head", "foot")]


def sealed(*told: dict[str, Any]) -> bytes:
    """An export that holds these lines, with a checksum that fits."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in (HEAD, *told))
    books = sum(line["line"] == "book" for line in told)
    foot = {"line": "foot", "books": books, "stops": len(told) - books, "sha256": hashlib.sha256(body).hexdigest()}
    return body + json.dumps(foot).encode() + b"\n"


HEAD = {
    "line": "head",
    "format": "peerbook instance",
    "version": 1,
    "exported_on": "2026-11-22T23:58:00Z",
    "since": 1_700_000_000,
}
PEER = {
    "fp": "A1" * 32,
    "name": "Straße",
    "kind": "lab",
    "state": "verified",
    "claim": claim_of_secret(SECRET),
    "proved": True,
    "created_on": 1_700_000_001,
    "verified_on": 1_700_000_002,
    "last_seen": 1_700_000_003,
}
BOOK = {
    "line": "book",
    "uid": "0123456789abcdef" * 2,
    "address": "You@example.org",
    "created_on": 1_700_000_000,
    "generation": 7,
    "require_proof": True,
    "peers": [
        PEER,
        PEER | {"fp": "B2" * 32, "name": "tablet", "state": "revoked", "claim": "none", "proved": False},
        PEER | {"fp": "C3" * 32, "name": "doorbell", "state": "added", "claim": "none", "proved": False},
    ],
    "denied": {"ab" * 12: 4_000_000_000},
    "activity": [[1_700_000_002, "approved", "Straße", ""], [1_700_000_001, "asked", "Straße", "203.0.113.x"]],
}
STOP = {"line": "stop", "address": digest("stop somebody"), "until": 4_000_000_000}


@pytest.fixture
async def other() -> AsyncIterator[Store]:
    """An empty store elsewhere."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(redis_server())
        store = await stack.enter_async_context(lone_store(Settings(), url))
        await store.open()
        yield store


async def fill(process: Context) -> tuple[str, list[str]]:
    """An owner with devices of every kind; the uid and their fingerprints."""
    books, uid = process.books, await process.books.enroll(OWNER)
    await books.settle(uid, OWNER, "a browser", "Firefox")
    laptop, phone, tablet = [await verified(process, uid, name) for name in ("laptop", "Straße", "tablet")]
    added = fingerprint()
    await books.revoke(uid, tablet.fp)
    await books.add(uid, added, "doorbell", "lab")
    unwanted = a_device("unwanted")
    await books.ask(uid, None, unwanted)
    await books.reject(uid, unwanted.fp)
    await books.require_proof(uid, True)
    await process.store.keep_stop(digest("stop somebody"), 1000)
    return uid, [laptop.fp, phone.fp, tablet.fp, added]


# What travels


async def test_all_that_lasts_is_the_same_in_the_new_store(process: Context, other: Store) -> None:
    uid, fps = await fill(process)
    text = await exported(process.store)
    assert await imported(other, text) == read_backup(io.BytesIO(text))
    here, there = await process.store.load(uid), await other.load(uid)
    assert here
    assert there
    assert (there.owner, there.peers, there.denied) == (here.owner, here.peers, here.denied)
    (_, activity), (_, moved) = [(await store.settled_books([uid]))[0] for store in (process.store, other)]
    assert moved == activity
    assert await other.uid_of(OWNER) == uid
    assert await other.is_stopped(digest("stop somebody"))
    assert [await other.books_of(fp) for fp in there.peers] == [await process.store.books_of(fp) for fp in there.peers]
    assert set(there.peers) == set(fps)
    assert await other.since() == await process.store.since(), "it is as old as the books that it holds"


async def test_every_member_of_a_line_comes_out_as_it_went_in(process: Context) -> None:
    await imported(process.store, sealed(BOOK, STOP))
    book, stop = without_date(await exported(process.store))
    assert book == BOOK
    assert abs(stop.pop("until") - STOP["until"]) <= 2
    assert stop == {"line": "stop", "address": STOP["address"]}


async def test_sessions_links_requests_and_who_is_online_stay_behind(process: Context) -> None:
    uid, _ = await fill(process)
    await process.books.require_proof(uid, False)
    laptop = await Socket(process, await verified(process, uid, "server"), Uid(uid)).come_in()
    await process.books.ask(uid, None, a_device("waiting"))
    link = await process.sessions.issue_link(uid, OWNER)
    login = await process.sessions.redeem_link(link.url.rpartition("/")[2], None, "")
    invite = await process.books.invite(uid)
    text = await exported(process.store)
    for secret in (login.cookie, digest(login.cookie), link.digest, invite, process.process, laptop.connection.id):
        assert secret.encode() not in text
    assert b"waiting" not in b"".join(text.splitlines()[1:2]).partition(b'"activity"')[0]


async def test_a_user_that_only_a_stranger_asked_for_stays_behind(process: Context) -> None:
    await process.books.ask(await process.books.enroll(STRANGER), STRANGER, a_device())
    assert without_date(await exported(process.store)) == []


async def test_a_device_comes_in_where_its_book_was_moved_to(process: Context) -> None:
    await imported(process.store, sealed(BOOK))
    named = a_device(fp=PEER["fp"], claim=PEER["claim"])  # type: ignore[arg-type]
    for owner in (Uid(str(BOOK["uid"])), OWNER, None):
        socket = await Socket(process, named, owner).arrive()
        assert (await socket.hear())["proof"] == "secret"
        await socket.say({"command": "prove", "secret": SECRET})
        assert (await socket.hear())["code"] == 200


# Into a store that holds books already


async def test_a_book_replaces_the_one_that_its_owner_has_there(process: Context) -> None:
    uid = await process.books.enroll(OWNER)
    lost = await verified(process, uid, "lost")
    await imported(process.store, sealed(BOOK))
    assert await process.store.uid_of(OWNER) == BOOK["uid"]
    assert await process.store.load(uid) is None
    assert await process.store.books_of(lost.fp) == set()


async def test_other_books_stay_as_they_are(process: Context) -> None:
    uid = await process.books.enroll(STRANGER)
    await verified(process, uid)
    before = await process.store.load(uid)
    await imported(process.store, sealed(BOOK))
    assert await process.store.load(uid) == before


async def test_who_is_here_and_not_in_the_imported_book_is_out(process: Context) -> None:
    await imported(process.store, sealed(BOOK | {"require_proof": False}))
    uid = str(BOOK["uid"])
    tablet = await Socket(process, await verified(process, uid, "new here"), Uid(uid)).come_in()
    await imported(process.store, sealed(BOOK))
    await process.books.check(tell=False)  # as every process does every nine seconds
    assert await asyncio.wait_for(tablet.closed, SECONDS) == CloseCode.REJECTED


async def test_sessions_of_a_book_that_was_replaced_are_over(process: Context) -> None:
    await imported(process.store, sealed(BOOK))
    link = await process.sessions.issue_link(str(BOOK["uid"]), OWNER)
    login = await process.sessions.redeem_link(link.url.rpartition("/")[2], None, "")
    assert await process.sessions.visit(login.cookie)
    await imported(process.store, sealed(BOOK))
    assert await process.sessions.visit(login.cookie) is None
    (book,) = without_date(await exported(process.store))
    assert book["generation"] == 8


async def test_an_import_that_was_cut_short_is_run_again(process: Context) -> None:
    books = [BOOK | {"uid": f"{number:032x}", "address": f"owner{number}@example.org"} for number in range(250)]
    text = sealed(*books)
    file = io.BytesIO(text)
    backup = read_backup(file)
    file.seek(0)

    def break_down(done: int, total: int) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await import_instance(process.store, file, backup, break_down)
    assert await process.store.open_import() == backup.checksum
    assert 0 < len(without_date(await exported(process.store))) < 250
    await imported(process.store, text)
    assert await process.store.open_import() is None
    assert {line["address"] for line in without_date(await exported(process.store))} == {b["address"] for b in books}


# What is no whole export


def refusal(text: bytes) -> str:
    with pytest.raises(BackupError) as refused:
        read_backup(io.BytesIO(text))
    return str(refused.value)


def test_a_file_that_was_cut_short_is_refused_wherever_it_ends() -> None:
    text = sealed(BOOK, STOP)
    read_backup(io.BytesIO(text))
    for end in range(len(text) - 1):
        assert refusal(text[:end])


def test_a_changed_byte_is_found() -> None:
    text = sealed(BOOK, STOP)
    changed = text.replace(b"tablet", b"tableT")
    assert refusal(changed) == "The checksum does not fit: the file was damaged or changed."


@pytest.mark.parametrize(
    "change",
    [
        {"uid": "../etc"},
        {"uid": "A" * 32},
        {"address": "two@example.org, addresses@example.org"},
        {"generation": 0},
        {"created_on": -1},
        {"denied": {"no id": 1}},
        {"activity": [["now", "a", "b", "c"]]},
        {"peers": [PEER, PEER]},
        {"peers": [PEER | {"fp": "a1" * 32}]},
        {"peers": [PEER | {"name": ""}]},
        {"peers": [PEER | {"kind": "Ein Gerät"}]},
        {"peers": [PEER | {"state": "approved"}]},
        {"peers": [PEER | {"claim": "trust me"}]},
        {"peers": [PEER | {"more": 1}]},
        {"more": 1},
    ],
    ids=lambda change: json.dumps(change, ensure_ascii=True)[:40],
)
def test_what_no_book_can_hold_is_refused_though_the_checksum_fits(change: dict[str, Any]) -> None:
    assert refusal(sealed(BOOK, BOOK | change)).startswith("Line 3 ")


def test_other_files_are_refused_by_name() -> None:
    assert refusal(b"") == refusal(b"hello\n") == "This is not an export of a peerbook instance."
    assert refusal(b'{"format":"peerbook book","version":1,"peers":[]}') == refusal(b"\xff\xfe")


def test_a_later_format_is_refused_in_one_sentence() -> None:
    text = json.dumps(HEAD | {"version": 2}).encode()
    assert refusal(text) == "This export has format version 2, and this peerbook reads 1."


def test_two_exports_in_one_file_are_refused() -> None:
    text = sealed(BOOK)
    assert refusal(text + text).startswith("Line 4 stands behind the end")
    head, book, _ = text.splitlines(keepends=True)
    assert refusal(head + head + book).startswith("Line 2 is a second beginning")


# How much it takes


async def test_memory_stays_flat_however_many_books_there_are(process: Context, tmp_path: Path) -> None:
    few, many = [await _peak(process, tmp_path / "books", count) for count in (150, 600)]
    assert many < few + 200_000, "bytes, where there are four times as many books"


async def _peak(process: Context, path: Path, count: int) -> int:
    """The most memory that an export and an import of so many books take at once."""
    books = (BOOK | {"uid": f"{number:032x}", "address": f"owner{number}@example.org"} for number in range(count))
    path.write_bytes(sealed(*books))  # noqa: ASYNC240 - nobody else waits
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            backup = read_backup(file)
            file.seek(0)
            await import_instance(process.store, file, backup, quiet)
        with path.open("wb") as file:
            assert (await export_instance(process.store, file, quiet)).books == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# The commands


def settings_of(url: str) -> dict[str, str]:
    return bare_environment(REDIS_URL=url, SECRET_KEY="k" * 32, BASE_URL="http://book.test")


async def command(url: str, *arguments: str) -> Ended:
    return await run(*SERVE, *arguments, environment=settings_of(url), seconds=COMMAND_SECONDS)


async def test_an_instance_moves_by_two_commands(tmp_path: Path) -> None:
    file, again = tmp_path / "books", tmp_path / "again"
    file.write_bytes(sealed(BOOK, STOP))
    async with redis_server() as url:
        first = await command(url, "import", str(file))
        assert (first.code, first.output, first.errors) == (0, "", "1 book imported.\n")
        refused = await command(url, "import", str(file))
        assert refused.code == 1
        assert refused.errors.startswith("The store holds books already;")
        assert "--yes" in refused.errors
        assert (await command(url, "import", "--yes", str(file))).code == 0
        out = await command(url, "export", str(again))
        assert (out.code, out.output, out.errors) == (0, "", "1 book exported.\n")
        assert without_date(again.read_bytes())[0] == BOOK | {"generation": 8}
        assert stat.S_IMODE(again.stat().st_mode) == 0o600
        assert {path.name for path in tmp_path.iterdir()} == {"books", "again"}  # noqa: ASYNC240
        piped = await command(url, "export")
        assert without_date(piped.output.encode())[0] == BOOK | {"generation": 8}


async def test_a_damaged_file_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "books"
    file.write_bytes(sealed(BOOK)[:-2])
    async with redis_server() as url, Redis.from_url(url) as redis:
        end = await command(url, "import", str(file))
        assert (end.code, end.output) == (1, "")
        assert end.errors == "Line 3 can't be read: the file was cut short, damaged or changed.\n"
        assert await redis.dbsize() == 0


async def test_a_file_that_cannot_be_written_ends_in_one_sentence(tmp_path: Path) -> None:
    async with redis_server() as url:
        end = await command(url, "export", str(tmp_path / "nowhere" / "books"))
        assert end.code == 1
        assert re.fullmatch(r"Cannot use \S+: No such file or directory\.\n", end.errors)


async def test_who_interrupts_it_is_told_by_the_exit_code(tmp_path: Path) -> None:
    pipe = tmp_path / "books"
    os.mkfifo(pipe)
    async with program(*SERVE, "import", str(pipe), environment=settings_of("redis://127.0.0.1:1")) as running:
        writer = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)  # as soon as it reads
        running.signal_group(signal.SIGINT)
        assert await running.exit_code() == 130
        os.close(writer)
        assert running.output == "Interrupted."


async def test_on_a_terminal_it_asks_and_shows_how_far_it_is(tmp_path: Path) -> None:
    file = tmp_path / "books"
    file.write_bytes(sealed(*(BOOK | {"uid": f"{n:032x}", "address": f"o{n}@example.org"} for n in range(300))))
    async with redis_server() as url:
        assert (await command(url, "import", str(file))).code == 0
        said = await _at_terminal(url, "y\n", "import", str(file))
        assert "others stay. Go on? [y/N]" in said
        assert "Importing [" in said
        assert "300 books imported." in said
        said = await _at_terminal(url, "\n", "import", str(file))
        assert said.rstrip().endswith("Nothing was imported.")


async def _at_terminal(url: str, typed: str, *arguments: str) -> str:
    """What a terminal shows of the command, with what was typed there."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", *arguments, env=settings_of(url), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    try:
        await asyncio.wait_for(process.wait(), COMMAND_SECONDS)
        said = b""
        while True:
            try:
                said += os.read(ours, 65536)
            except OSError:  # there is no more
                return said.decode()
    finally:
        os.close(ours)
