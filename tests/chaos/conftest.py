"""One world for all faults, as each leaves it as it was; and one whose servers reach the store through proxies."""

from collections.abc import AsyncIterator

import pytest

from tests.chaos.world import LONG, World, open_world


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/chaos/" in str(item.path):
            item.add_marker(pytest.mark.timeout(300 if LONG else 60))


@pytest.fixture(scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A world whose servers reach the store directly."""
    async with open_world(tmp_path_factory.mktemp("store")) as world:
        yield world


@pytest.fixture(scope="module")
async def proxied(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A world whose servers reach the store through proxies."""
    async with open_world(tmp_path_factory.mktemp("store"), proxied=True) as world:
        yield world
