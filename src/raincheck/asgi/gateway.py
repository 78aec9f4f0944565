"""What all requests of one middleware share, and an exchange is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raincheck.asgi.lifespans import drain_with_the_server, find_lifespan
from raincheck.asgi.loops import Loop, running_loop
from raincheck.asgi.placement import refuse_route
from raincheck.asgi.running import Running
from raincheck.asgi.status import Status
from raincheck.asgi.surroundings import Surroundings
from raincheck.engine.engine import Engine
from raincheck.engine.start import owner_of, webhook_of
from raincheck.monitor.endpoint import StatusMonitor

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope


class Gateway:
    """Holds no state of any request; those are exchanges.

    Args:
        middleware: The class of the middleware that this is for, as the application names it.
        monitor: The status monitor, if there is one already.

    Attributes:
        asks: Whether the application is to be asked about requests, which may block.
    """

    def __init__(
        self,
        app: ASGIApp,
        engine: Engine,
        middleware: object = None,
        monitor: StatusMonitor | None = None,
    ) -> None:
        self.app = app
        self.engine = engine
        self.asks = engine.settings.owner is not None or callable(engine.settings.webhook)
        self.surroundings = Surroundings(app, middleware)
        self.monitor = monitor or StatusMonitor(engine)
        self.running = Running(engine, self.monitor.close)
        self.status = Status(self.monitor, self.owner, self.running.running_loop)

    def enter(self, scope: Scope) -> Loop:
        """Return the running event loop for a connection that comes in."""
        running = self.running
        if (loop := running_loop(running.loop)) is not running.loop:
            loop = self._come_into(scope)
        return loop

    def _come_into(self, scope: Scope) -> Loop:
        """Learn what there is in an event loop without a lifespan of this application's own."""
        refuse_route(scope, self.app)
        loop = self.running.running_loop()
        # Later may be too late: applications that are mounted change a scope in place.
        self.surroundings.know(scope)
        self.engine.application.come_in_at(scope.get("root_path", ""))
        lifespan = find_lifespan(loop.coroutines(), scope)
        if lifespan is not None and self.surroundings.know_lifespan(lifespan.scope):
            self.running.begin()
            drains = drain_with_the_server(self.running.drain, lifespan.receive)
            self.running.is_told_of_shutdown = drains
        return loop

    def owner(self, scope: Scope) -> str | None:
        """Name the principal that a request belongs to; may block, so not for the loop."""
        return owner_of(self.engine.settings, scope)

    def is_askable(self, scope: Scope) -> bool:
        """Tell whether the request is there to be asked about."""
        return True

    def webhook(self, scope: Scope) -> str | None:
        """Name the URL that is to be told of the end of a request's operation; as `owner`."""
        return webhook_of(self.engine.settings, scope)
