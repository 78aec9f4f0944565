"""Who owns an operation, as the option says."""

from __future__ import annotations

from typing import Any

import pytest

from raincheck import ConfigurationError
from raincheck.config.options import Settings
from raincheck.engine.start import owner_of


@pytest.mark.parametrize(("given", "owner"), [("ada", "ada"), (" ", " "), (None, None), ("", None)])
def test_an_owner_has_a_name_or_there_is_none(given: str | None, owner: str | None) -> None:
    assert owner_of(Settings(owner=lambda request: given), None) == owner


@pytest.mark.parametrize("given", [7, b"ada", True])
def test_an_owner_that_is_no_text_is_said(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="owner must return a str or None"):
        owner_of(Settings(owner=lambda request: given), None)
