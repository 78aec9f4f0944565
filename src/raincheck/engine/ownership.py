"""Whose an operation is: asked again while it is nobody's, and before its response can be read.

What is recorded before its handler runs is often recorded before authentication has. The owner is
asked for when the operation is recorded, when the handler is reached, and when its response begins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from raincheck.engine.engine import Engine
from raincheck.errors import Overloaded, StoreError
from raincheck.operations.operation import Operation, Reason

logger = logging.getLogger("raincheck")
Ask = Callable[[], str | None]


def find_owner(
    engine: Engine, operation: Operation, ask: Ask | None, *, is_last: bool
) -> Reason | None:
    """Ask whose an operation is, if it is nobody's; may block.

    Args:
        ask: Names the principal that its request comes from; None: its request is not there.
        is_last: Whether its response begins: nobody is asked again.

    Returns:
        Why the operation has to end; None: it may go on.
    """
    if not engine.is_nobodys(operation):
        return None
    why_not = Reason.OWNER_UNKNOWN if is_last and engine.is_unbound(operation) else None
    if ask is None:
        return why_not
    try:
        engine.own(operation, ask())
    except Overloaded as error:
        logger.warning("operation %s is ended: %s", operation.shown, error)
        return Reason.TOO_MANY_OPERATIONS
    except StoreError as error:  # its owner is known, but not how many operations he has
        logger.warning("the operations of an owner can't be counted: %s", error)
    except Exception:
        logger.exception("it can't be told whose operation %s is", operation.shown)
        return why_not
    return None
