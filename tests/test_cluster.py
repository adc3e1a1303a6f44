"""What a cluster asks of the store's keys: a script touches those of one user only, and nothing else is atomic over two."""

import ast
import io
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from app import store as store_module
from app.addresses import Address
from app.backups import export_instance, import_instance, read_backup
from app.book import Report
from app.books import Departure
from app.claims import claim_of_secret
from app.context import Context
from app.invites import invite_digest
from app.messages import ReportOutcome
from app.migrations import bring_up_to_date
from app.store import Window
from tests.parts import OWNER, a_device, fingerprint, new_context, verified
from tests.process import free_port, program

STORE = Path(store_module.__file__)
SCRIPTS = {path.stem for path in (STORE.parent / "scripts").glob("*.lua")} - {"common"}

# Redis checks a script's keys only where its text says which dialect it is in.
CHECKED = "#!lua\n"

# The pipelines of the store, with the keys that each may mix. They lie in several slots of a cluster, so none of them
# may count on being done as a whole, or at once.
PIPELINES = {
    "enroll": {"uid"},
    "settle": {"uid"},
    "erase": {"uid", "books", "whatever is in secrets"},
    "keep_invite": {"invite", "secrets"},
    "index": {"books", "wait"},
    "wait_for": {"books", "wait"},
    "keep_link": {"link", "secrets"},
    "keep_code": {"code", "secrets"},
    "keep_session": {"session", "secrets"},
    "session_and_book": {"session", "user", "activity"},
    "end_session": {"session", "secrets"},
    "count": {"limit"},
    "run_all": {"user"},
    "settled_books": {"user", "activity"},
    "stops": set(),
    "uids_of": {"uid"},
    "name_users": {"uid"},
    "reindex": {"books"},
    "drop_old_index": {"books"},
    "keep_stops": {"stop"},
    "_remove_each": set(),
}

# A transaction is done as a whole, so all of it is about one key.
TRANSACTIONS = {"count"}

# What a script says that found nothing to do, and touched next to no key.
IDLE = {"unknown", "nothing", "nobody", "elsewhere", "gone"}

# Reads of many keys at once; a client of a cluster asks each node for its own.
READS_OF_MANY = {"versions", "living"}


@pytest.fixture(scope="module")
async def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A cluster of one node that has all slots."""
    port = free_port()
    options = ("--bind", "127.0.0.1", "--save", "", "--cluster-enabled", "yes")
    folder = tmp_path_factory.mktemp("cluster")
    async with program("redis-server", "--port", str(port), *options, folder=folder) as node:
        await node.line("Ready to accept connections")
        url = f"redis://127.0.0.1:{port}"
        async with Redis.from_url(url) as client:
            await client.cluster("ADDSLOTSRANGE", 0, 16383)
        await node.line("Cluster state changed: ok")
        yield url


@pytest.fixture
async def process(cluster_url: str) -> AsyncIterator[Context]:
    """A process on the cluster, whose scripts are checked."""
    context = new_context(cluster_url)
    context.store._scripts = {name: CHECKED + text for name, text in context.store._scripts.items()}
    try:
        await context.open()
        await context.store.redis.flushall()
        await context.store.open()
        yield context
    finally:
        await context.close()


@pytest.fixture
def ran(process: Context, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The scripts that ran, each with its outcomes."""
    seen: dict[str, set[str]] = {}
    run, run_all = process.store.run, process.store.run_all

    async def note(script: str, uid: str, given: Any) -> Any:
        answer = await run(script, uid, given)
        seen.setdefault(script, set()).add(answer.outcome)
        return answer

    async def note_all(calls: Any) -> Any:
        answers = await run_all(calls)
        for (script, *_), answer in zip(calls, answers, strict=True):
            seen.setdefault(script, set()).add(answer.outcome)
        return answers

    monkeypatch.setattr(process.store, "run", note)
    monkeypatch.setattr(process.store, "run_all", note_all)
    return seen


async def test_the_cluster_refuses_a_script_that_touches_keys_of_two_users(cluster_url: str) -> None:
    text = CHECKED + "redis.call('GET', 'user:{one}') return redis.call('GET', 'user:{two}')"
    async with Redis.from_url(cluster_url) as client:
        with pytest.raises(Exception, match="do not hash to the same slot"):
            await client.eval(text, 1, "user:{one}")


async def test_no_script_touches_keys_of_two_users(process: Context, ran: dict[str, set[str]]) -> None:
    uid = await process.books.enroll(OWNER)
    await _come_and_go(process, uid)
    await _answer_requests(process, uid)
    await _prove(process, uid)
    await _keep_the_account(process, uid)
    await _log_in(process, uid)
    await _move(process, uid)
    await process.books.erase(uid, OWNER)
    assert set(ran) == SCRIPTS
    assert all(said - IDLE for said in ran.values()), ran


async def _come_and_go(process: Context, uid: str) -> None:
    books, laptop = process.books, await verified(process, uid)
    for connection in ("c1", "c2"):
        assert (await books.admit(uid, laptop.fp, laptop.claim, connection, named=True, demanded=False))[0] == "in"
    await books.note_outcome(uid, laptop.fp, ReportOutcome(laptop.fp, "direct", 12))
    await books.leave(uid, laptop.fp, "c2")
    await books.admit(uid, laptop.fp, laptop.claim, "c3", named=True, demanded=False)
    await books.forget(uid, process.process)
    added = fingerprint()
    await books.add(uid, added, "doorbell", "lab")
    assert (await books.admit(uid, added, "none", "c4", named=True, demanded=False))[0] == "in"


async def _answer_requests(process: Context, uid: str) -> None:
    books = process.books
    asking = [a_device(f"device {number}") for number in range(7)]
    for number, device in enumerate(asking):
        await books.ask(uid, None, device, waiter=f"w{number}" if number == 3 else None)
    await books.depart([Departure(asking[3], "w3", asked=uid)])
    await books.reject(uid, asking[4].fp)
    assert await books.ask(uid, None, asking[4]) == "denied"
    await books.approve(uid, asking[5].fp)
    await books.approve(uid, asking[6].fp, replaces=asking[5].fp)
    await books.rename(uid, asking[6].fp, "another name")
    await books.revoke(uid, asking[6].fp)
    await books.approve(uid, asking[6].fp)
    await books.remove(uid, asking[6].fp)
    invite = invite_digest(await books.invite(uid))
    assert await process.store.uid_of_invite(str(invite)) == uid
    assert await books.ask(uid, None, replace(a_device("invited"), invite=invite)) == "invited"


async def _prove(process: Context, uid: str) -> None:
    books, device = process.books, a_device("with a secret", claim_of_secret("the secret of a device"))
    await books.ask(uid, None, device)
    await books.certify(uid, device)
    await books.approve(uid, device.fp)
    assert (await books.admit(uid, device.fp, "certificate", "c5", named=True, demanded=True))[0] == "in"
    await books.rekey(uid, device.fp, fingerprint(), "certificate", proved=True)
    await books.require_proof(uid, True)
    await books.require_proof(uid, False)


async def _keep_the_account(process: Context, uid: str) -> None:
    books = process.books
    await books.import_peers(uid, [(fingerprint(), "imported", "lab")])
    await books.note(uid, "exported")
    assert await books.settle(uid, OWNER, "browser 1", "here") == "settled"
    assert await books.settle(uid, OWNER, "browser 2", "there") == "new browser"
    await books.sign_out(uid)
    assert isinstance(await process.store.load(uid, process.process), Report)
    windows = [Window("login:hour", 5, 3600), Window("login:day", 10, 86400)]
    assert await process.store.take_turn(uid, windows)
    await process.store.give_turn_back(uid, windows)


async def _log_in(process: Context, uid: str) -> None:
    store = process.store
    await store.keep_link("link 1", {"uid": uid}, 60)
    await store.keep_session("session 1", uid, 1, seconds=60, most=600)
    await store.expect_code("browser 1", "address", 60)
    await store.keep_code("browser 1", {"address": "address", "link": "link 1", "code": "code", "uid": uid}, 60)
    assert (await store.try_code("browser 1", 5))[0] == "open"
    session, book, happenings, _ = await store.session_and_book("session 1", uid, 60)
    assert session
    assert book
    assert happenings
    await store.end_session("session 1", uid)
    assert await store.count("ask:somebody", 60) == (1, 60)


async def _move(process: Context, uid: str) -> None:
    store, file = process.store, io.BytesIO()
    await export_instance(store, file, lambda done, total: None)
    file.seek(0)
    backup = read_backup(file)
    file.seek(0)
    await import_instance(store, file, backup, lambda done, total: None)
    await store.become(0)
    assert await bring_up_to_date(store) == 0
    book = await store.load(uid)
    assert book
    assert book.peers


async def test_two_users_with_one_device_share_only_the_index(process: Context) -> None:
    fp = fingerprint()
    uids = {await process.books.enroll(Address(f"owner{number}@example.org")) for number in range(2)}
    for uid in uids:
        await process.books.add(uid, fp, "shared", "lab")
    assert await process.store.books_of(fp) == uids


def test_every_pipeline_is_named_here_with_the_keys_that_it_mixes() -> None:
    assert {name: _keys_in(method) for name, method in _methods().items() if ".pipeline(" in method} == PIPELINES


def test_only_what_is_about_one_key_is_a_transaction() -> None:
    assert {name for name, method in _methods().items() if "transaction=True" in method} == TRANSACTIONS
    assert all(len(PIPELINES[name]) == 1 for name in TRANSACTIONS)


def test_only_two_reads_ask_for_many_keys_in_one_command() -> None:
    several = re.compile(r"\.(mget|mset|rename|copy|sunion|sinter|sdiff|zunion|zinter)\b")
    assert {name for name, method in _methods().items() if several.search(method)} == READS_OF_MANY


def _methods() -> dict[str, str]:
    """The methods of the Store by name, as text without documentation."""
    classes = {each.name: each for each in ast.parse(STORE.read_text()).body if isinstance(each, ast.ClassDef)}
    methods = [each for each in classes["Store"].body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {method.name: "\n".join(map(ast.unparse, method.body)) for method in methods}


def _keys_in(method: str) -> set[str]:
    """The kinds of keys that a method names."""
    kinds = set(re.findall(r"f'([a-z]+):\{", method))
    helpers = {"_index_key(": "books", "_uid_key(": "uid", "_secrets_key(": "secrets", "self._remember(": "secrets"}
    kinds |= {kind for helper, kind in helpers.items() if helper in method}
    if "*opened" in method:
        kinds = kinds - {"secrets"} | {"whatever is in secrets"}
    return kinds
