"""Has the asserts of the shared checks say what they compare."""

from __future__ import annotations

import pytest

CHECKS = (
    *("following", "starting", "monitoring", "replaying", "signing", "choosing", "waiting"),
    *("large_bodies", "keys", "limiting", "rerunning"),
)
pytest.register_assert_rewrite(*(f"tests.gateways.{name}" for name in CHECKS))
