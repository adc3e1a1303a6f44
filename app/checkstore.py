"""The doctor's look at the store: is it reachable, fit to keep books, and near enough?"""

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError

from app.errors import Unreachable
from app.findings import Finding, fail, is_near, note, ok
from app.migrations import NewerData, bring_up_to_date
from app.settings import Settings
from app.store import SCHEMA, Facts, Store

CONNECTIONS = 7
"""Connections that each process takes."""

_OLDEST = 7
_NEAR_SECONDS = 0.05
_CLOCK_SECONDS = 30
_NEARLY_FULL = 0.9


async def check_store(store: Store, settings: Settings, store_url: str, *, release: bool) -> AsyncIterator[Finding]:
    """Everything about the store. `release`: bring an older layout to the present one, unless something does not fit.

    Then the old version goes on, and could not read it.
    """
    where, fits = urlsplit(store_url), True
    try:
        facts = await store.facts()
        yield ok("store", "it answers.")
        if where.scheme == "rediss":
            yield ok("store TLS", f"encrypted, REDIS_TLS_VERIFY={settings.redis_tls_verify}.")
        elif where.scheme == "redis" and not is_near(where.hostname):
            yield note("store TLS", "books go to the store in the clear: use its rediss:// address if it has one.")
        for finding in _judge(facts, settings, release=release):
            fits = fits and finding.level != "fail"
            yield finding
        await store.open()
        async for finding in _check_data(store, migrate=release and fits):
            yield finding
    except Unreachable as error:
        yield fail("store", _explain(error, settings, where.scheme))


def _judge(facts: Facts, settings: Settings, *, release: bool) -> Iterator[Finding]:
    yield _judge_version(facts)
    yield _judge_eviction(facts)
    yield _judge_memory(facts)
    if settings.embedded:  # it is ours, and as it should be
        return
    yield _judge_persistence(facts)
    yield _judge_connections(facts, settings.workers, release=release)
    yield _judge_distance(facts)
    yield _judge_clock(facts)


def _name(facts: Facts) -> str:
    if "valkey_version" in facts.info:
        return f"Valkey {facts.info['valkey_version']}"
    return f"Redis {facts.info.get('redis_version', 'of an unknown version')}"


def _judge_version(facts: Facts) -> Finding:
    major = str(facts.info.get("redis_version", "0")).split(".")[0]  # Valkey says there which Redis it is like
    if not major.isdigit() or int(major) < _OLDEST:
        return fail("store version", f"{_name(facts)} is too old: choose Redis {_OLDEST} or Valkey.")
    return ok("store version", f"{_name(facts)}.")


def _judge_eviction(facts: Facts) -> Finding:
    policy = str(facts.info.get("maxmemory_policy", "unknown"))
    if policy.startswith("allkeys"):
        return fail(
            "eviction", f"{policy} throws books away when the store is full: set maxmemory-policy to noeviction."
        )
    return ok("eviction", f"{policy}.")


def _judge_memory(facts: Facts) -> Finding:
    used, most = int(facts.info.get("used_memory", 0)), int(facts.info.get("maxmemory", 0))
    told = f"{used / 1e6:.1f} of {most / 1e6:.1f} MB used" if most else f"{used / 1e6:.1f} MB used, without a limit"
    if most and used > most * _NEARLY_FULL:
        return fail("memory", f"{told}: a full store takes in no device any more; choose a larger one.")
    return ok("memory", f"{told}.")


def _judge_persistence(facts: Facts) -> Finding:
    if facts.info.get("aof_enabled"):
        return ok("persistence", "every change is written (append-only file).")
    if facts.saves is None:
        return note("persistence", "the store doesn't tell; if its plan keeps nothing, export every day.")
    if facts.saves:
        return ok("persistence", f"snapshots ({facts.saves}).")
    return note("persistence", "a restart of the store loses all books: turn persistence on, or export every day.")


def _judge_connections(facts: Facts, workers: int, *, release: bool) -> Finding:
    most, taken = int(facts.info.get("maxclients", 0)), int(facts.info.get("connected_clients", 0))
    left, needed = most - taken, CONNECTIONS * workers
    if most and left < needed:
        blocks = note if release else fail  # the next version is none the worse for it
        return blocks(
            "connections",
            f"{left} of {most} left, and a restart needs {needed} beside those of the old process: "
            "choose a larger plan, or run fewer processes.",
        )
    return ok(
        "connections", f"{left} of {most} left, a restart needs {needed}." if most else "the store names no limit."
    )


def _judge_distance(facts: Facts) -> Finding:
    told = f"{facts.answers * 1000:.1f} ms"
    if facts.answers > _NEAR_SECONDS:
        return note("round trip", f"{told}: whoever connects waits for several; put server and store into one region.")
    return ok("round trip", f"{told}.")


def _judge_clock(facts: Facts) -> Finding:
    ahead = facts.ahead
    if abs(ahead) > _CLOCK_SECONDS:
        return fail(
            "clock",
            f"this machine is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the store: "
            "have both set by NTP, or links will be refused.",
        )
    return ok("clock", f"{abs(ahead):.1f} s apart from the store's.")


async def _check_data(store: Store, *, migrate: bool) -> AsyncIterator[Finding]:
    schema = await store.schema()
    try:
        if migrate:
            had = await bring_up_to_date(store)
            yield ok("data", f"schema {SCHEMA}." if had is None else f"migrated from schema {had} to {SCHEMA}.")
        elif schema is not None and schema > SCHEMA:
            raise NewerData(schema)
        elif schema not in (SCHEMA, None):
            yield note("data", f"schema {schema}; the next start brings it to {SCHEMA}.")
        else:
            yield ok("data", f"schema {SCHEMA}." if schema else "the store holds no books yet.")
    except NewerData as error:
        yield fail("data", str(error))
        return
    if await store.open_import():
        yield note("import", "an import was cut short: run it again.")


def _explain(error: Unreachable, settings: Settings, scheme: str) -> str:
    """Why the store is out of reach, and what to do. Messages of exceptions quote addresses, so none is shown."""
    causes = list(_causes(error))
    where = "REDIS_TLS_URL" if settings.redis_tls_url else "REDIS_URL"

    def is_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(each, kinds) for each in causes)

    if is_by(ssl.SSLCertVerificationError):
        return (
            "its certificate does not verify: a hosted store that signs its own needs REDIS_TLS_VERIFY=none, "
            "one with another host name REDIS_TLS_VERIFY=ca."
        )
    if is_by(AuthenticationError, NoPermissionError):
        return f"it refuses our user or password: copy {where} anew from where the store is managed."
    if any("max number of clients" in str(each) for each in causes):
        return "it takes no more connections: stop a process, or choose a larger plan."
    if is_by(BusyLoadingError):
        return "it is loading its data: wait a moment."
    if is_by(socket.gaierror):
        return f"nobody knows its host: check {where}."
    if is_by(ConnectionRefusedError):
        return f"nobody listens there: start it, or check the host and port of {where}."
    if is_by(TimeoutError) and scheme == "rediss":
        return f"it does not answer in time, or does not speak TLS there: check host and port in {where}."
    if is_by(TimeoutError):
        return f"it does not answer in time: check the host, port and firewall of {where}."
    if scheme == "rediss":
        return f"it does not speak TLS there: use redis:// in {where}, or its port for TLS."
    # A store that is full says so and hangs up, and we may be cut off before we hear that.
    return f"it ends the connection: it takes no more of them, or it wants TLS; for that use rediss:// in {where}."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
