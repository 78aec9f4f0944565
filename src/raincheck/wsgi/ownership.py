"""To whom a race's operation belongs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from raincheck.engine.ownership import find_owner
from raincheck.engine.response_writer import ResponseWriter
from raincheck.http.messages import Headers
from raincheck.operations.operation import Operation, Reason
from raincheck.wsgi.gateway import Gateway


class Ownership:
    """Asks for the owner as often as it takes; the rest of the race is with its subclass."""

    gateway: Gateway
    operation: Operation | None
    _is_called: bool

    def source(self) -> Any:
        """Return what the options `owner` and `webhook` are given."""
        raise NotImplementedError

    def sources(self) -> Iterable[Any]:
        """Yield what `owner` is given in turn, as long as it knows nobody."""
        yield self.source()

    def give_up(self, reason: Reason) -> None:
        """End the operation without a response; with the subclass."""
        raise NotImplementedError

    def begin(self, writer: ResponseWriter, status: int, headers: Headers) -> None:
        """Record the beginning of the response, once it is known whose it is."""
        self._find_owner(is_last=True)
        writer.start(status, headers)

    def reach(self) -> None:
        """Take note that the handler was reached, and ask once for that."""
        is_first, self._is_called = not self._is_called, True
        if is_first:
            self._find_owner()

    def _find_owner(self, *, is_last: bool = False) -> None:
        """Ask for the owner again, while the operation is nobody's."""
        if self.operation is None or not self.gateway.engine.is_nobodys(self.operation):
            return
        ask = self._ask_owner if self.source() is not None else None
        reason = find_owner(self.gateway.engine, self.operation, ask, is_last=is_last)
        if reason is not None:
            self.give_up(reason)

    def _ask_owner(self) -> str | None:
        asked = (self.gateway.owner(source) for source in self.sources())
        return next((owner for owner in asked if owner is not None), None)
