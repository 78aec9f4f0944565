"""Where a page of operations ends and the next begins, the same in every store."""

from __future__ import annotations

from raincheck.operations.operation import Operation
from raincheck.operations.store import Filter

Position = tuple[float, str]  # creation, or expiry; and id


def position(operation: Operation, which: Filter | None = None) -> Position:
    """Return an operation's place in the order that a filter brings: of creation, or of expiry."""
    return _moment(operation, which), operation.id


def to_page(
    found: list[Operation], limit: int, which: Filter | None = None
) -> tuple[list[Operation], str | None]:
    """Split off what exceeds the limit, and say where to go on.

    Args:
        found: Operations in order; one more than `limit` if there are more.
        which: What they were found by.
    """
    page = found[:limit]
    more = len(found) > limit and page
    return page, f"{_moment(page[-1], which)!r} {page[-1].id}" if more else None


def parse_cursor(cursor: str) -> Position:
    """Return the position after which a page begins."""
    moment, _, operation_id = cursor.partition(" ")
    return float(moment), operation_id


def _moment(operation: Operation, which: Filter | None) -> float:
    if which is None or which.expires_before is None or operation.expires is None:
        return operation.created
    return operation.expires
