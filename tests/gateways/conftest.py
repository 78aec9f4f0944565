"""Has the asserts of the shared checks say what they compare."""

from __future__ import annotations

import pytest

CHECKS = ("following", "starting", "monitoring", "replaying", "choosing", "waiting", "large_bodies")
pytest.register_assert_rewrite(*(f"tests.gateways.{name}" for name in CHECKS))
