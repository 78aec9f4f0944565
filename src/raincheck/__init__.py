"""Turn slow HTTP handlers into 202 Accepted polling resources, for any WSGI or ASGI application.

This module holds the names that need no framework. The middlewares are in `raincheck.asgi`,
`raincheck.wsgi` and `raincheck.django`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raincheck.errors import (
    ConfigurationError,
    OperationCancelled,
    RaincheckError,
    StoreError,
    StoreUnavailable,
)
from raincheck.handler import (
    CurrentOperation,
    current_operation,
    is_replay,
    is_rerun,
    long_running,
)

if TYPE_CHECKING:
    from raincheck.config.limits import Limits
    from raincheck.stores import open_store

__all__ = [
    "ConfigurationError",
    "CurrentOperation",
    "Limits",
    "OperationCancelled",
    "RaincheckError",
    "StoreError",
    "StoreUnavailable",
    "current_operation",
    "is_replay",
    "is_rerun",
    "long_running",
    "open_store",
]

# Handlers import this module for the decorator, and should not pay for what only set-up needs.
_LATE = {"Limits": "raincheck.config.limits", "open_store": "raincheck.stores"}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
