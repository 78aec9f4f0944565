"""What a handler can say to raincheck: that it is slow, how far it is; and hear: that it may stop.

Neutral to frameworks. Where there is no raincheck around, everything here does nothing. Imports no
framework.
"""

from raincheck.handler.current import (
    MESSAGE_LIMIT,
    CurrentOperation,
    current_operation,
    is_replay,
    is_rerun,
)
from raincheck.handler.long_running import BYPASSED, EFFECTIVE, MARK, is_marked, long_running
from raincheck.handler.marking import (
    UNMARKED,
    Marking,
    may_be_handed_over,
    may_be_repeatable,
)
from raincheck.handler.request import CURRENT, REQUEST, Deferrable, is_within, outside

__all__ = [
    "BYPASSED",
    "CURRENT",
    "EFFECTIVE",
    "MARK",
    "MESSAGE_LIMIT",
    "REQUEST",
    "UNMARKED",
    "CurrentOperation",
    "Deferrable",
    "Marking",
    "current_operation",
    "is_marked",
    "is_replay",
    "is_rerun",
    "is_within",
    "long_running",
    "may_be_handed_over",
    "may_be_repeatable",
    "outside",
]
