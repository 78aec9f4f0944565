"""What handlers say of themselves where they are marked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime


class Marking(NamedTuple):
    """What a handler says of itself where it is marked.

    Attributes:
        retry: Whether it may be run again if its process is lost; None: as the options say.
        timeout: Seconds it may run once it was deferred; None: as the options say.
        queue: Where it waits for workers, which run it instead of this process; None: it does not.
        not_before: Returns when they may begin; None: at once.
        is_said: Whether it has been called: what it has said so far is all that it says.
    """

    retry: bool | None = None
    timeout: float | None = None
    queue: str | None = None
    not_before: Callable[[], datetime | float] | None = None
    is_said: bool = False

    def moment(self) -> float | None:
        """Return when workers may begin, in seconds since the epoch; None: at once.

        Raises:
            TypeError: What was given returns no moment, or one without a time zone.
            ValueError: It returns a number that is none.
        """
        if self.not_before is None:
            return None
        moment = self.not_before()
        if isinstance(moment, int | float):
            if not math.isfinite(moment):  # it would wait for ever
                raise ValueError(f"not_before must return a moment, not {moment!r}")
            return float(moment)
        if getattr(moment, "tzinfo", None) is None:
            raise TypeError(f"not_before must return a datetime with a time zone, not {moment!r}")
        return moment.timestamp()


UNMARKED = Marking()
_known_markings: set[Marking] = {UNMARKED}  # of all handlers that are marked in this process


def may_be_repeatable() -> bool:
    """Tell whether a handler of this process is marked `retry=True`, whatever its method."""
    return any(marking.retry for marking in _known_markings)


def may_be_handed_over() -> bool:
    """Tell whether a handler of this process is marked as one that workers run."""
    return any(marking.queue is not None for marking in _known_markings)


def know(marking: Marking) -> None:
    """Take note that a handler of this process is marked so."""
    _known_markings.add(marking)
