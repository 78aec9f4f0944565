"""What a handler can say of its operation, and hear: how far it is, and that it may stop."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from raincheck.errors import OperationCancelled
from raincheck.handler.request import CURRENT, Deferrable

if TYPE_CHECKING:
    from raincheck.operations.operation import Progress

MESSAGE_LIMIT = 1_000  # characters of a progress message


class CurrentOperation:
    """The operation that the running handler works on, or may come to work on.

    It may be passed to threads that don't inherit the context.
    """

    __slots__ = ("_request",)

    def __init__(self, request: Deferrable | None) -> None:
        self._request = request

    @property
    def id(self) -> str | None:
        """The operation's id; None before the request was deferred, and without raincheck."""
        return self._request.operation_id if self._request else None

    @property
    def cancelled(self) -> bool:
        """Whether the client has asked to stop, or the server is going away."""
        return self._request is not None and self._request.is_cancelled

    def progress(
        self, completed: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Say how far the handler is; pollers see it within about a second.

        Args:
            completed: In any unit.
            total: In the same unit, where known.
            message: A few words for people; cut after 1,000 characters.

        Raises:
            TypeError: `completed` or `total` is not a finite number.
        """
        progress = progress_of(completed, total, message)
        if self._request is not None:
            self._request.report(progress)

    def raise_if_cancelled(self) -> None:
        """Stop the handler if nobody wants its response any more.

        Raises:
            OperationCancelled: The operation is cancelled; don't catch it.
        """
        if self.cancelled:
            raise OperationCancelled("the operation was cancelled")


def progress_of(completed: float, total: float | None, message: str | None) -> Progress:
    """Return progress as JSON can hold it; see `CurrentOperation.progress`."""
    from raincheck.operations.operation import Progress

    return Progress(
        _number("completed", completed),
        None if total is None else _number("total", total),
        None if message is None else _text(message),
    )


def _number(name: str, value: Any) -> float:
    """Take any kind of number (numpy's, Decimal) as what JSON can hold."""
    number = value if type(value) is int else float(value)
    if not math.isfinite(number):
        raise TypeError(f"{name} must be a finite number, not {value!r}")
    return number


def _text(message: object) -> str:
    """Take any text, lazy or with the surrogates of a file name, as what JSON can hold."""
    return str(message)[:MESSAGE_LIMIT].encode("utf-8", "replace").decode("utf-8")


def is_rerun() -> bool:
    """Tell whether the running handler is run again, because the process of its last run was lost.

    No client can bring this about, or keep it from being so.
    """
    request = CURRENT.get()
    return request is not None and request.is_rerun


is_replay = is_rerun  # its former name


def current_operation() -> CurrentOperation:
    """Return the operation of the running handler; without raincheck, one that does nothing."""
    return CurrentOperation(CURRENT.get())
