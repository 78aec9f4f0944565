"""Turn slow HTTP handlers into 202 Accepted polling resources, for any ASGI application.

This module holds the names that need no framework. The middleware is in `raincheck.asgi`.
"""

from raincheck.errors import (
    ConfigurationError,
    OperationCancelled,
    RaincheckError,
    StoreError,
    StoreUnavailable,
)
from raincheck.marking import CurrentOperation, current_operation, long_running
from raincheck.policy import Limits
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
    "long_running",
    "open_store",
]
