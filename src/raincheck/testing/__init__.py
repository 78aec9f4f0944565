"""Checks for those who extend raincheck; needs `pip install "raincheck[testing]"`.

The author of a store subclasses `StoreContract`. That is all of it:

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, clock, tmp_path):
            with closing(MyStore(tmp_path, clock=clock)) as store:
                yield store

What is tested is in words in `raincheck.contracts.Store`. Each test is given a new `store`, which
must be empty. `clock` is a callable that returns seconds since the epoch, and that tests set; a
store which takes its time from elsewhere overrides that fixture to return None.
"""

from __future__ import annotations

import pytest

# Before they are imported: what a failed assertion compares is shown only then.
for _part in ("body", "find", "keep", "purge", "record", "request", "sharing", "store"):
    pytest.register_assert_rewrite(f"raincheck.testing.{_part}_contract")
pytest.register_assert_rewrite("raincheck.testing.material")

from raincheck.testing.material import Clock  # noqa: E402
from raincheck.testing.store_contract import StoreContract  # noqa: E402

__all__ = ["Clock", "StoreContract"]
