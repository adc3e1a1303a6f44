"""What a run without a browser says."""

from pathlib import Path

import pytest

from tests.browser.conftest import find_chromium


def test_a_missing_browser_fails_the_run_with_a_sentence_that_names_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="apt install chromium"):
        find_chromium()
