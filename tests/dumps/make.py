"""Makes a dump of a store as the program of this revision fills it.

`python -m tests.dumps.make > tests/dumps/<schema>.json`: to be run once for each schema, before it is released; from
then on that dump does not change.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from app.addresses import Address
from app.claims import claim_of_secret
from app.digests import digest
from app.embedded import EmbeddedStore
from app.peers import Device, Fingerprint
from tests.parts import OWNER, new_context

LAPTOP, PHONE, TABLET, DOORBELL, STRANGER, CAMERA = (
    Fingerprint(pair * 32) for pair in ["A1", "B2", "C3", "D4", "E5", "F6"]
)
SECRET = "the secret of a laptop"
BROWSER = digest("the cookie of a browser")
STOPPED = digest("stop somebody@example.org")


async def fill(store_url: str) -> None:
    """One owner with a device of each kind, a stranger who asked an address that never came, and a stop."""
    process = new_context(store_url)
    await process.open()
    books = process.books
    uid = await books.enroll(OWNER)
    await books.settle(uid, OWNER, BROWSER, "Firefox on Linux, 203.0.113.x")
    for fp, name, claim in (
        (LAPTOP, "Laptop", claim_of_secret(SECRET)),
        (PHONE, "STRASSE", "none"),
        (TABLET, "tablet", "none"),
        (STRANGER, "stranger", "none"),
        (CAMERA, "camera", "none"),
    ):
        await books.ask(uid, None, Device(fp, claim, name, "lab", "203.0.113.x"))
    for fp in (LAPTOP, PHONE, TABLET):
        await books.approve(uid, fp)
    await books.rename(uid, PHONE, "Straße")
    await books.revoke(uid, TABLET)
    await books.reject(uid, STRANGER)
    await books.add(uid, DOORBELL, "doorbell", "lab")
    await books.admit(uid, LAPTOP, claim_of_secret(SECRET), "c1", named=True, demanded=False)
    await books.ask(
        await books.enroll(Address("nobody@example.org")), None, Device(CAMERA, "none", "camera", "lab", "198.51.100.x")
    )
    await process.store.keep_stop(STOPPED, 365 * 86400)
    await process.close()


async def dump(store_url: str) -> dict[str, Any]:
    """Every key with its type, its value, and the seconds that it lasts, -1 for ever."""
    async with Redis.from_url(store_url, decode_responses=True) as redis:
        keys = sorted([key async for key in redis.scan_iter()])
        return {key: await _read(redis, key) for key in keys}


async def _read(redis: Any, key: str) -> dict[str, Any]:
    kind = await redis.type(key)
    read = {
        "string": lambda: redis.get(key),
        "hash": lambda: redis.hgetall(key),
        "list": lambda: redis.lrange(key, 0, -1),
        "set": lambda: redis.smembers(key),
        "zset": lambda: redis.zrange(key, 0, -1, withscores=True),
        "stream": lambda: redis.xrange(key),
    }
    value = await read[kind]()
    return {"type": kind, "value": sorted(value) if kind == "set" else value, "ttl": await redis.ttl(key)}


async def make(store_url: str) -> None:
    """Fill the store, and write what it holds to stdout."""
    await fill(store_url)
    sys.stdout.write(json.dumps(await dump(store_url), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, EmbeddedStore(Path(folder)) as store:
        asyncio.run(make(store.url))
