"""What all requests of one middleware share, and a race is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raincheck.engine.engine import Engine
from raincheck.engine.start import owner_of, webhook_of
from raincheck.engine.threads import Threads
from raincheck.monitor.endpoint import StatusMonitor
from raincheck.wsgi.running import Running
from raincheck.wsgi.status import Status
from raincheck.wsgi.waiting import Waiting

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class Gateway:
    """Holds no state of any request; those are races.

    Args:
        at_end: Called in each thread of handlers before it ends.
        at_wait: Called in a thread of the server before it waits for an operation's end.
    """

    def __init__(
        self,
        app: WSGIApplication,
        engine: Engine,
        at_end: Callable[[], None] | None = None,
        at_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.app = app
        self.engine = engine
        self.monitor = StatusMonitor(engine)
        # What an earlier process has left is looked for as soon as this one may defer anything.
        self.threads = Threads(at_end, lambda: engine.heartbeat.ensure(soon=False))
        self.waiting = Waiting(engine.limits.waiters)
        self.running = Running(engine, self.monitor.close)
        self.status = Status(app, self.monitor, self.owner, self.waiting, self.running, at_wait)

    def owner(self, environ: Any) -> str | None:
        """Name the principal that a request belongs to."""
        return owner_of(self.engine.settings, environ)

    def webhook(self, environ: Any) -> str | None:
        """Name the URL that is to be told of the end of a request's operation."""
        return webhook_of(self.engine.settings, environ)
