"""The doctor: looks at everything that a server needs, and says of each thing whether it fits and what to do."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from app.addresses import Address
from app.checkmail import check_mail
from app.checkstore import check_store
from app.checkweb import check_web
from app.context import lone_store
from app.findings import Finding
from app.settings import Settings


async def examine(
    settings: Settings, store_url: str | None, *, release: bool, send_to: Address | None
) -> AsyncIterator[Finding]:
    """One finding after the other. `release`: only what has to fit before a version is released; data are migrated.

    `store_url` is None where another process holds the built-in store.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(lone_store(settings, store_url)) if store_url else None
        if store and store_url:
            async for finding in check_store(store, settings, store_url, release=release):
                yield finding
                if (finding.level, finding.what) == ("fail", "store"):
                    store = None  # out of reach
        if release:
            return
        async for finding in check_mail(settings, send_to):
            yield finding
        async for finding in check_web(settings, store):
            yield finding
