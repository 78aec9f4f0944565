"""To whom an exchange's operation belongs, and to which request what is inside of it."""

from __future__ import annotations

from functools import partial

from raincheck.asgi.request_body import Receiving
from raincheck.engine.ownership import Ask, find_owner
from raincheck.engine.start import Accepted, Start
from raincheck.operations.operation import Reason


class Ownership(Receiving):
    """Asks for the owner as often as it takes; the rest of the exchange is with its subclass."""

    protocol = "asgi"
    _is_called = False  # a handler is, as far as can be told
    started: bool

    def give_up(self, reason: Reason) -> None:
        """End the operation without a response; with the subclass."""
        raise NotImplementedError

    def request_cancel(self) -> None:
        """Have the handler stopped; with the subclass."""
        raise NotImplementedError

    @property
    def is_stranded(self) -> bool:
        """Whether it will never go on; with the subclass."""
        raise NotImplementedError

    def _start(self, owner: str | None, webhook: str | None) -> Start:
        """Say what is to become an operation; with the subclass."""
        raise NotImplementedError

    async def _create(self) -> Accepted:
        start = await self.loop.ask(self._to_start) if self._asks else self._to_start()
        return await self.loop.promote(self.gateway.engine.accept, self, start)

    @property
    def _asks(self) -> bool:
        """Whether to describe the request may block."""
        return self.gateway.asks

    def _to_start(self) -> Start:
        known = self.known()
        return self._start(self.gateway.owner(known), self.gateway.webhook(known))

    @property
    def operation_id(self) -> str | None:
        """The operation's id, once there is one."""
        return self.operation.id if self.operation else None

    @property
    def sign(self) -> object:
        """What the scope that the application is given has under `REQUEST`."""
        return self.arrived

    def is_here(self) -> bool:
        """Tell whether this is the very task of its handler, which may be deferred."""
        task = getattr(self, "task", None)  # one that begins eagerly is not known yet
        may_be = self.capture is not None or not self.started
        return may_be and (task is None or self.loop.is_in(task))

    @property
    def is_reached(self) -> bool:
        """Whether the handler has been called, as far as can be told."""
        return self._is_called

    def _is_nobodys(self) -> bool:
        return self.operation is not None and self.gateway.engine.is_nobodys(self.operation)

    def reach(self) -> None:
        """Take note that the handler was reached, and ask once for that; from any thread."""
        is_first, self._is_called = not self._is_called, True
        if is_first and self._is_nobodys():
            self.loop.call(self._ask_again)

    def _ask_again(self) -> None:
        self.loop.spawn(self._find_owner())

    async def _find_owner(self, *, is_last: bool = False) -> None:
        """Have the owner asked for again, while the operation is nobody's."""
        operation, engine = self.operation, self.gateway.engine
        if operation is None or not engine.is_nobodys(operation):
            return
        ask = self._asking()
        reason = await self.loop.ask(partial(find_owner, engine, operation, ask, is_last=is_last))
        if reason is not None:
            await self.loop.record(self.give_up, reason)

    def _asking(self) -> Ask | None:
        """Return what asks twice: what is inside may have put a user in the place of none."""
        known, inside = self.gateway.asking(self.known()), self.gateway.asking(self.known_inside())
        if known is None or inside is None:
            return None
        return lambda: known() or inside()
