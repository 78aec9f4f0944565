"""To whom an exchange's operation belongs, and to which request what is inside of it."""

from __future__ import annotations

from functools import partial

from raincheck.asgi.receiving import Receiving
from raincheck.operation import Reason
from raincheck.owning import find_owner


class Belonging(Receiving):
    """Asks for the owner as often as it takes; the rest of the exchange is with its subclass."""

    protocol = "asgi"
    _is_called = False  # a marked handler is

    def give_up(self, reason: Reason) -> None:
        """End the operation without a response; with the subclass."""
        raise NotImplementedError

    @property
    def operation_id(self) -> str | None:
        """The operation's id, once there is one."""
        return self.operation.id if self.operation else None

    @property
    def sign(self) -> object:
        """What the scope that the application is given has under `REQUEST`."""
        return self.arrived

    @property
    def is_reached(self) -> bool:
        """Whether the handler has been called, as far as can be told."""
        return self._is_called

    def _reach(self) -> None:
        """Take note that the handler was reached, after its operation was recorded."""
        if self.operation is not None and self.gateway.core.is_nobodys(self.operation):
            self.loop.spawn(self._find_owner())

    async def _find_owner(self, *, is_last: bool = False) -> None:
        """Have the owner asked for again, while the operation is nobody's."""
        operation = self.operation
        if operation is None or not self.gateway.core.is_nobodys(operation):
            return
        core, ask = self.gateway.core, self.gateway.asking(self.known())
        reason = await self.loop.record(partial(find_owner, core, operation, ask, is_last=is_last))
        if reason is not None:
            await self.loop.record(self.give_up, reason)
