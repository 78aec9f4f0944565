"""Who runs an operation elsewhere: what the process that was asked does, and what a worker does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raincheck.runners.by_id import arun_operation, close_applications, run_operation

__all__ = ["arun_operation", "close_applications", "run_operation"]


def __getattr__(name: str) -> Any:
    """Import what workers need when they do: a web process imports this package, too."""
    if name in __all__:
        from raincheck.runners import by_id

        return getattr(by_id, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
