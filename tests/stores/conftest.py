"""What the tests of stores share."""

from __future__ import annotations

import pytest

from raincheck.stores import postgresql


@pytest.fixture(autouse=True)
def patient_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no PostgreSQL listener for deaf that a machine under load gives no turn.

    Nothing would be heard from then on in this process, and it would have to ask instead.
    """
    monkeypatch.setattr(postgresql, "SELF_TEST", 20.0)
