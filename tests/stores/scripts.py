"""What other processes make operations of: `raincheck.testing` imports pytest and Hypothesis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raincheck.operations.operation import Operation, State


def make_operation(id: str = "a", **fields: Any) -> Operation:
    """Return what `raincheck.testing.material.make_operation` returns."""
    default: dict[str, Any] = {
        "state": State.RUNNING,
        "created": 1000.0,
        "updated": 1000.0,
        "retention": 60.0,
        "method": "POST",
        "route": "/reports",
    }
    return Operation(id=id, **(default | fields))


def changed(operation: Operation, **fields: Any) -> Operation:
    """Return the operation's next version."""
    return replace(operation, version=operation.version + 1, **fields)
