"""What settings show when something prints them."""

from __future__ import annotations

from typing import Any

import pytest

from raincheck.config.options import Settings

SECRET = "swordfish"  # noqa: S105 - of these tests
STANDARD = f"whsec_{'A' * 32}"


@pytest.mark.parametrize(
    "options",
    [
        {"store": f"postgresql://ada:{SECRET}@db.test/operations"},
        {"bodies": f"s3://bucket/prefix?key={SECRET}"},
        {"webhook": f"https://hook.test/{SECRET}", "webhook_secret": STANDARD},
    ],
)
def test_no_credential_is_shown(options: dict[str, Any]) -> None:
    shown = repr(Settings(**options))
    assert SECRET not in shown
    assert STANDARD not in shown
