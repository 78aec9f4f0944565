"""Where a page of operations ends and the next begins, the same in every store."""

from __future__ import annotations

from raincheck.operation import Operation

Position = tuple[float, str]  # creation, id


def position(operation: Operation) -> Position:
    """Return an operation's place in the order of creation."""
    return operation.created, operation.id


def to_page(found: list[Operation], limit: int) -> tuple[list[Operation], str | None]:
    """Split off what exceeds the limit, and say where to go on.

    Args:
        found: Operations in order; one more than `limit` if there are more.
    """
    page = found[:limit]
    more = len(found) > limit and page
    return page, f"{page[-1].created!r} {page[-1].id}" if more else None


def parse_cursor(cursor: str) -> Position:
    """Return the position after which a page begins."""
    created, _, operation_id = cursor.partition(" ")
    return float(created), operation_id
