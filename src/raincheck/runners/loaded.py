"""Looking at frameworks without importing them: what nobody has imported handles no request."""

from __future__ import annotations

import sys
from typing import Any


def loaded(module: str, name: str) -> Any:
    """Return what a module has under this name; None if it has not been imported."""
    return getattr(sys.modules.get(module), name, None)


def is_a(found: object, module: str, name: str) -> bool:
    """Tell what something is by its type alone: lazy objects would run to say what they are."""
    kind = loaded(module, name)
    return isinstance(kind, type) and issubclass(type(found), kind)
