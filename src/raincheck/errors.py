"""The exceptions that users of raincheck may meet.

RaincheckError
├── ConfigurationError       an option or a combination of options is wrong (also a ValueError)
├── OperationCancelled       raised into a handler that asked whether it is still wanted
├── Overloaded               nothing was started; try again later (503, 429)
├── WorkersUnavailable       who is to run it elsewhere could not be told (503)
├── InvalidTransition        an event that the operation's state does not allow
└── StoreError               the store did not do what it was asked
    ├── StoreUnavailable     it may do so later: locked, unreachable, out of space
    ├── BodyMissing          chunks that a record refers to are not there
    ├── WrongKey             a captured request can't be decrypted
    └── NewerRecord          only a newer raincheck can read it
"""

from __future__ import annotations

import errno

_PASSING = frozenset(
    {
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT),
        *(errno.EIO, errno.EINTR, errno.EAGAIN),
    }
)
_NO_THREAD = "can't start new thread"


class RaincheckError(Exception):
    """The base of every error that raincheck raises on purpose."""


class ConfigurationError(RaincheckError, ValueError):
    """An option is unknown, has a wrong type or value, or contradicts another one."""


class OperationCancelled(RaincheckError):
    """The client has cancelled the operation whose handler is running."""


class Overloaded(RaincheckError):
    """A limit is reached, so nothing was started.

    Attributes:
        limit: Its name, as in `Limits`.
    """

    def __init__(self, limit: str, value: int) -> None:
        super().__init__(f"the limit `{limit}` of {value} is reached; raise it or add processes")
        self.limit = limit


class WorkersUnavailable(RaincheckError):
    """The workers of a queue could not be told of an operation, so nothing was started."""


class InvalidTransition(RaincheckError):
    """An operation in this state can't undergo this event."""

    def __init__(self, state: str, event: str) -> None:
        super().__init__(f"an operation that is {state} can't undergo {event}")


class StoreError(RaincheckError):
    """The store refused or failed; the driver's own error is the ``__cause__``."""


class StoreUnavailable(StoreError):
    """The store can't answer now, but may later."""


class BodyMissing(StoreError):
    """A stored body lacks chunks that its record promises."""

    def __init__(self, operation_id: str, fence: int) -> None:
        super().__init__(
            f"the body of operation {abbreviate(operation_id)} (fence {fence}) is not all there"
        )


class WrongKey(StoreError):
    """A captured request was encrypted with a key that is not there."""

    def __init__(self, operation_id: str) -> None:
        super().__init__(
            f"the captured request of operation {abbreviate(operation_id)} was sealed with another "
            "key; set `encryption_key` to the one it was sealed with, or list both"
        )


class NewerRecord(StoreError):
    """A newer raincheck has written it, in a shape that this one does not understand."""


def is_passing(error: BaseException) -> bool:
    """Tell whether a machine that has run out of something says so: it may have it again soon."""
    if isinstance(error, OSError):
        return error.errno in _PASSING
    return isinstance(error, MemoryError) or _NO_THREAD in str(error)


def abbreviate(operation_id: str) -> str:
    """Shorten an id for messages and logs: whoever knows all of it may read the response."""
    return f"{operation_id[:6]}…"
