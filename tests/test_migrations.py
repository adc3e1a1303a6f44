"""Migrations: data of every version that was there come to the present layout, once, and are as good as new there."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from app.claims import claim_of_secret
from app.context import Context, lone_store
from app.errors import NameTaken, Unreachable
from app.migrations import NewerData, bring_up_to_date
from app.owners import Uid
from app.settings import Settings
from app.store import SCHEMA, Store
from tests.conftest import OpenProcess
from tests.dumps.make import BROWSER, DOORBELL, LAPTOP, PHONE, SECRET, STOPPED, STRANGER, TABLET
from tests.parts import OWNER, Socket, a_device
from tests.process import SERVE, bare_environment, redis_server, run

DUMPS = sorted((Path(__file__).parent / "dumps").glob("*.json"), key=lambda path: int(path.stem))
dumps = pytest.mark.parametrize("dump", DUMPS, ids=lambda path: f"schema {path.stem}")

# What the present layout has of each kind of key, as store.py tells it.
TYPES = {
    **dict.fromkeys(("user", "peer", "request", "denied", "online", "session", "code", "invites"), "hash"),
    **dict.fromkeys(("book", "requests", "books", "browsers", "secrets"), "zset"),
    **dict.fromkeys(("version", "uid", "link", "process", "invite", "stop", "limit", "schema", "since"), "string"),
    **dict.fromkeys(("interest", "wait"), "set"),
    "activity": "list",
}


async def load(redis: Redis, dump: Path) -> None:
    """Fill the store with a dump."""
    pipeline: Any = redis.pipeline()
    write: dict[str, Any] = {
        "string": lambda key, value: pipeline.set(key, value),
        "hash": lambda key, value: pipeline.hset(key, mapping=value),
        "list": lambda key, value: pipeline.rpush(key, *value),
        "set": lambda key, value: pipeline.sadd(key, *value),
        "zset": lambda key, value: pipeline.zadd(key, dict(value)),
        "stream": lambda key, value: [pipeline.xadd(key, fields, id=number) for number, fields in value],
    }
    for key, held in json.loads(dump.read_text()).items():  # noqa: ASYNC240 - it is small
        write[held["type"]](key, held["value"])
        if held["ttl"] > 0:
            pipeline.expire(key, held["ttl"])
    await pipeline.execute()


async def contents(redis: Any) -> dict[str, Any]:
    """All keys with what they hold, as bytes."""
    return {key: await redis.dump(key) for key in await redis.keys("*")}


@pytest.fixture
async def store(store_url: str, redis: Redis) -> AsyncIterator[Store]:
    """The store of a process that has not begun."""
    async with lone_store(Settings(), store_url) as store:
        await store.open()
        yield store


def test_there_is_a_dump_of_every_schema() -> None:
    assert [int(path.stem) for path in DUMPS] == list(range(SCHEMA + 1))


# Every dump, walked to the present layout and used


@pytest.fixture(params=DUMPS, ids=lambda path: f"schema {path.stem}")
async def process(request: pytest.FixtureRequest, redis: Redis, open_process: OpenProcess) -> Context:
    """A process that began on a dump."""
    await load(redis, request.param)
    return await open_process()


async def uid_of(process: Context) -> str:
    uid = await process.store.uid_of(OWNER)
    assert uid
    return uid


async def test_a_start_brings_a_store_to_the_present_layout(process: Context, redis: Redis) -> None:
    assert await redis.get("schema") == str(SCHEMA)
    kinds = {str(key): await redis.type(key) for key in await redis.keys("*")}
    assert {key: kind for key, kind in kinds.items() if TYPES[key.partition(":")[0]] != kind} == {}
    assert all(len(key) == len("books:") + 32 for key in kinds if key.startswith("books:"))


async def test_all_devices_are_there(process: Context) -> None:
    book = await process.books.read(await uid_of(process))
    assert book
    assert {peer.fp: (peer.name, peer.state) for peer in book.peers.values()} == {
        LAPTOP: ("Laptop", "verified"),
        PHONE: ("Straße", "verified"),
        TABLET: ("tablet", "revoked"),
        DOORBELL: ("doorbell", "added"),
    }


async def test_the_activity_is_there_in_its_order(process: Context) -> None:
    await process.store.keep_session("a session", await uid_of(process), 1, seconds=60, most=60)
    _, _, activity, since = await process.store.session_and_book("a session", await uid_of(process), None)
    assert [each.what for each in activity][-2:] == ["asked", "login"]
    assert {"approved", "renamed", "revoked", "rejected", "added"} <= {each.what for each in activity}
    assert [each.at for each in activity] == sorted((each.at for each in activity), reverse=True)
    assert activity[0].at > 1_700_000_000
    assert since > 1_700_000_000


async def test_names_that_look_the_same_are_still_one(process: Context) -> None:
    for name in ("laptop", "STRASSE", "Doorbell"):
        with pytest.raises(NameTaken):
            await process.books.rename(await uid_of(process), TABLET, name)


async def test_a_known_browser_is_known_and_another_is_not(process: Context) -> None:
    uid = await uid_of(process)
    assert await process.books.settle(uid, OWNER, BROWSER, "here") == "settled"
    assert await process.books.settle(uid, OWNER, "another", "there") == "new browser"


async def test_devices_that_name_nobody_find_their_book(process: Context) -> None:
    for fp in (PHONE, DOORBELL):
        await Socket(process, a_device(fp=fp)).come_in()


async def test_a_device_proves_its_claim(process: Context) -> None:
    device = a_device(fp=LAPTOP, claim=claim_of_secret(SECRET))
    laptop = await Socket(process, device, Uid(await uid_of(process))).arrive()
    assert (await laptop.hear())["proof"] == "secret"
    await laptop.say({"command": "prove", "secret": SECRET})
    assert (await laptop.hear())["code"] == 200


async def test_whom_the_owner_did_not_want_is_still_unwanted(process: Context) -> None:
    uid = await uid_of(process)
    assert await process.books.ask(uid, None, a_device(fp=TABLET)) == "denied"
    assert await process.books.ask(uid, None, a_device(fp=STRANGER)) == "denied"
    assert await process.store.is_stopped(STOPPED)


async def test_what_ends_by_itself_still_does(process: Context, redis: Redis) -> None:
    lasting = {str(key) for key in await redis.keys("*") if await redis.ttl(key) < 0}
    assert {key.partition(":")[0] for key in lasting} <= {*TYPES} - {"process", "request", "stop", "limit"}
    uid = await redis.get("uid:nobody@example.org")
    assert uid
    assert not [key for key in lasting if str(uid) in key]


# How the walk goes


async def test_of_several_that_start_at_once_one_migrates(
    redis: Redis, store_url: str, open_process: OpenProcess
) -> None:
    await load(redis, DUMPS[0])
    await redis.config_resetstat()
    await asyncio.gather(*(open_process() for _ in range(4)))
    stats = await redis.info("commandstats")
    assert stats["cmdstat_xrevrange"]["calls"] == 2, "one for each user"
    assert await redis.exists("migrating") == 0


async def test_a_walk_that_was_cut_short_is_walked_to_its_end(store: Store, redis: Redis) -> None:
    await load(redis, DUMPS[0])
    uid = str(await store.uid_of(OWNER))
    await store.run("migrate_1", uid, {})
    assert await bring_up_to_date(store) == 0
    once = await contents(redis)
    await store.become(0)
    assert await bring_up_to_date(store) == 0
    assert await contents(redis) == once


async def test_who_takes_too_long_is_replaced_and_stops(store: Store, redis: Redis) -> None:
    async with store.alone() as still_alone:
        await still_alone()
        await redis.set("migrating", "another process")
        with pytest.raises(Unreachable):
            await still_alone()
    assert await redis.get("migrating") == "another process", "its lock is not ours to take away"


async def test_an_empty_store_begins_in_the_present_layout(redis: Redis, open_process: OpenProcess) -> None:
    await open_process()
    began, _ = await redis.time()
    assert await redis.get("schema") == str(SCHEMA)
    assert began - 60 <= int(await redis.get("since") or 0) <= began


async def test_a_second_start_leaves_the_age_of_the_store_as_it_is(redis: Redis, open_process: OpenProcess) -> None:
    await redis.set("since", 1_000_000_000)
    await open_process()
    assert await redis.get("since") == "1000000000"


async def test_a_store_that_came_back_empty_is_dated_with_the_next_lease(process: Context, redis: Redis) -> None:
    await redis.flushall()
    await process.store.keep_lease(process.process, 30)
    assert await redis.get("schema") == str(SCHEMA)
    assert int(await redis.get("since") or 0) > 1_700_000_000


async def test_data_of_a_newer_program_are_left_alone(store: Store, redis: Redis) -> None:
    await load(redis, DUMPS[-1])
    await redis.set("schema", SCHEMA + 1)
    before = await contents(redis)
    with pytest.raises(NewerData):
        await bring_up_to_date(store)
    assert await contents(redis) == before


async def test_data_of_a_newer_program_end_the_start_in_one_sentence() -> None:
    async with redis_server() as url:
        async with Redis.from_url(url) as client:
            await client.set("schema", SCHEMA + 1)
        settings = {"REDIS_URL": url, "SECRET_KEY": "k" * 32, "BASE_URL": "http://127.0.0.1", "PORT": "0"}
        end = await run(*SERVE, environment=bare_environment(**settings))
    assert (end.code, end.output) == (2, "")
    assert re.fullmatch(
        rf"The store holds data of a newer peerbook \(schema {SCHEMA + 1}, this one knows {SCHEMA}\): [^\n]+\.\n",
        end.errors,
    )
