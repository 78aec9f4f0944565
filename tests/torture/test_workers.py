"""A short torture of workers that run what a server accepts."""

from __future__ import annotations

from pathlib import Path

from tests.torture.short import MARKS, hold

pytestmark = MARKS


def test_whatever_happens_to_workers_no_promise_is_broken(tmp_path: Path) -> None:
    hold("redis", "workers", tmp_path)
