"""Migrations: what brings a store of an older layout to the present one. Forward only, and by one process at a time.

Each is a script that is run for every user, `migrate_<n>.lua` from schema n-1 to n, and does nothing to a user of whom
it is done already: a walk that was cut short begins anew. No script that was released once may change.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from app.book import Report
from app.store import SCHEMA, Store

log = logging.getLogger("peerbook.migrations")

Afterwards = Callable[[Store, Sequence[Report]], Awaitable[None]]

_AT_ONCE = 100


class NewerData(Exception):
    """The store holds what only a newer program can read; the message is one sentence for who starts the server."""

    def __init__(self, schema: int) -> None:
        super().__init__(
            f"The store holds data of a newer peerbook (schema {schema}, this one knows {SCHEMA}): "
            "start that version, or a later one."
        )


async def bring_up_to_date(store: Store) -> int | None:
    """Bring the store to the present layout; returns the one that it had where it was another.

    Of several processes that start at once, one does it and the others wait. Raises NewerData, and Unreachable.
    """
    if await _older(store) is None:
        return None
    async with store.alone() as still_alone:
        had = await _older(store)  # another process may have been here while this one waited
        if had is None:
            return None
        for number in range(had + 1, SCHEMA + 1):
            count = await _migrate(store, number, still_alone)
            await store.become(number)
            log.info("event=migrated schema=%d users=%d", number, count)
    return had


async def _older(store: Store) -> int | None:
    """The store's schema where it is older than the present one."""
    schema = await store.schema()
    if schema is not None and schema > SCHEMA:
        raise NewerData(schema)
    return None if schema == SCHEMA else schema


async def _migrate(store: Store, number: int, still_alone: Callable[[], Awaitable[None]]) -> int:
    """Walk all users to that schema; returns how many there were."""
    count = 0
    async for uids in store.uids():
        for start in range(0, len(uids), _AT_ONCE):
            some = uids[start : start + _AT_ONCE]
            answers = await store.run_all([(f"migrate_{number}", uid, {}) for uid in some])
            reports = [answer.report for answer in answers if answer.report]
            if number in _AFTERWARDS:
                await _AFTERWARDS[number](store, reports)
            count += len(reports)
        await still_alone()
    return count


async def _index_by_halves(store: Store, reports: Sequence[Report]) -> None:
    """To schema 1: the index from a fingerprint to its books is named by half of it, and is a sorted set."""
    await store.drop_old_index(reports)
    await store.reindex(reports)


# What lies outside of a user's own keys, and so outside of the script.
_AFTERWARDS: Mapping[int, Afterwards] = {1: _index_by_halves}
