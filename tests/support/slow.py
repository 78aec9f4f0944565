"""Which values a test sees by default, and which only where the slow tests run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def others_slow(values: Sequence[Any], usual: int = 1) -> list[Any]:
    """Return the parameters of a test: the first few as they are, the others marked `slow`.

    A tuple holds the values of several arguments, as it does for `parametrize`.
    """
    others = (value if isinstance(value, tuple) else (value,) for value in values[usual:])
    return [*values[:usual], *(pytest.param(*value, marks=pytest.mark.slow) for value in others)]
