"""A short torture of gunicorn with two kinds of store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.short import MARKS, hold

pytestmark = MARKS


@pytest.mark.parametrize("store", ["redis", "sqlite"])
def test_whatever_happens_no_promise_is_broken(store: str, tmp_path: Path) -> None:
    hold(store, "gunicorn", tmp_path)
