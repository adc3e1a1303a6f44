"""Long floods take their time."""

import pytest

from tests.floods.world import LONG


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/floods/" in str(item.path):
            item.add_marker(pytest.mark.timeout(300 if LONG else 60))
