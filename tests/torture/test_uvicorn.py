"""A short torture of uvicorn with two kinds of store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.short import MARKS, hold

pytestmark = MARKS


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_whatever_happens_no_promise_is_broken(store: str, tmp_path: Path) -> None:
    hold(store, "uvicorn", tmp_path)
