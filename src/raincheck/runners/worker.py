"""A process that runs operations of an application, without a server.

It has the same application with the same middleware, and the same store. What it runs goes through
the application as a request that is run again does: from the outside in. An ASGI application has
an event loop in a thread of its own, and its lifespan once in a process.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import anyio.to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from raincheck.engine.per_process import PerProcess
from raincheck.engine.queues import Queues, Take, queues_here
from raincheck.engine.rerunner import Rerunner
from raincheck.engine.threads import at_end
from raincheck.errors import ConfigurationError, abbreviate
from raincheck.inspection.check import load
from raincheck.operations.operation import State
from raincheck.runners.lifespan import Lifespan

logger = logging.getLogger("raincheck")


class Worker:
    """Runs operations of one application in each process that uses it; thread-safe.

    Nothing is loaded before it is needed, and again in a process that was forked since.

    Args:
        application: The application, or `module:app`, or `module:factory()`.
        queues: Names of those whose operations it may look for.
    """

    def __init__(self, application: str | object, queues: Iterable[str] = ()) -> None:
        self._application = application
        self._queues = frozenset(queues)
        self._here = PerProcess(lambda: _Here(self._application, self._queues))

    def start(self, at_end: Callable[[], object] | None = None) -> None:
        """Load the application and start it up, if this process has not yet.

        Args:
            at_end: Called whenever an operation does not run here any more.

        Raises:
            ConfigurationError: It can't be loaded, or no raincheck is around it.
            LifespanFailed: It could not be started up.
        """
        here = self._here.get()
        here.start()
        for queues in here.all if at_end is not None else ():
            queues.running.at_end = at_end

    def run(self, operation_id: str) -> Take:
        """Run an operation that this process was told of; return when its handler is over.

        Returns:
            What has become of that: nothing, if another one runs it, or has.

        Raises:
            StoreError: The store can't be asked. It stays in its queue, and is told of again.
        """
        is_refused, here = False, self._here.get()
        here.start()
        for queues in here.all:
            taken = queues.take(operation_id)
            if taken is Take.BEGUN:
                queues.running.wait_for(operation_id)
            # Another middleware may be the one, with another store: this one's has none of that id.
            if taken not in (Take.OVER, Take.REFUSED):
                return taken
            is_refused |= taken is Take.REFUSED
        taken = Take.REFUSED if is_refused else Take.OVER
        if not is_refused and here.state_of(operation_id) is None:
            logger.warning(
                "there is no operation %s here: workers need the store of the web processes",
                abbreviate(operation_id),
            )
        return taken

    async def arun(self, operation_id: str) -> Take:
        """Do the same without keeping an event loop."""
        return await anyio.to_thread.run_sync(self.run, operation_id, abandon_on_cancel=True)

    def take_due(self, most: int) -> list[str]:
        """Begin what waits in the queues; return the ids.

        Args:
            most: How many at most.

        Raises:
            StoreError: The store can't be asked.
        """
        here, begun = self._here.get(), list[str]()
        here.start()
        for queues in here.all:
            begun += queues.take_due(most - len(begun))
        return begun

    def look_for_strangers(self) -> bool:
        """Look for what waits in the queues for an application of another name.

        Returns:
            Whether it is this one's, and there is more to be run now.
        """
        found = [queues.look_for_strangers() for queues in self._here.get().all]
        return any(found)

    def may_have_twins(self) -> bool:
        """Whether what waits may be this application's under another name, that is not known."""
        return any(queues.may_have_twins() for queues in self._here.get().all)

    def applications(self) -> list[str]:
        """Return the names of those whose operations may be run here."""
        return [queues.application for queues in self._here.get().all]

    def has_own_store(self) -> bool:
        """Tell whether it looks where only what was started by the same words puts operations."""
        return any(queues.has_own_store for queues in self._here.get().all)

    def states(self, operation_ids: Iterable[str]) -> Counter[State]:
        """Count in which states operations are by now."""
        states = map(self._here.get().state_of, operation_ids)
        return Counter(state for state in states if state is not None)

    @property
    def running(self) -> int:
        """How many operations run in this process."""
        return sum(len(queues.running) for queues in self._here.get().all)

    def close(self) -> None:
        """Let what runs here end, within the option `drain`, and release the rest.

        It runs nothing in this process any more. Who calls this a second time waits for the first,
        or the process might end meanwhile.
        """
        if (here := self._here.peek()) is not None:
            here.close()


class _Here:
    """What one process has of it."""

    def __init__(self, application: str | object, names: frozenset[str]) -> None:
        self.all: list[Queues] = []
        self._application = application
        self._names = names
        self._lock = threading.Lock()
        self._is_started = self._is_closed = False
        self._pid = os.getpid()
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._lifespan: Lifespan | None = None

    def start(self) -> None:
        with self._lock:
            if self._is_started:
                return
            app: Any = self._application
            app = load(app) if isinstance(app, str) else app
            if _is_asgi(app):
                self._begin_loop(app)
            self._find_queues()
            self._is_started = True
            at_end(self.close)  # or the thread of its event loop would be waited for for ever

    def state_of(self, operation_id: str) -> State | None:
        """Return where an operation stands, in whichever store it is; None: in none."""
        states = (queues.state_of(operation_id) for queues in self.all)
        return next((state for state in states if state is not None), None)

    def _begin_loop(self, app: Any) -> None:
        self._portal = self._stack.enter_context(start_blocking_portal())
        self._lifespan = self._portal.call(Lifespan, app)
        self._portal.start_task_soon(self._lifespan.run)
        self._portal.call(self._lifespan.start)

    def _find_queues(self) -> None:
        # An ASGI application's own come first, should both have one name, as Django's may.
        for queues in sorted(queues_here(), key=_needs_no_loop):
            rerunner = queues.rerunner
            # A WSGI application may be imported beside an ASGI one, which is none of its parts.
            if rerunner is not None and (self._portal is not None or not rerunner.needs_loop):
                queues.served = self._names  # first: then the heartbeat begins
                self._call(rerunner.begin)
                self.all.append(queues)
        if not self.all:
            raise ConfigurationError(
                f"there is no raincheck around {self._application!r}: give the application as the "
                "server is given it, with the middleware"
            )

    def close(self) -> None:
        # What a handler has forked comes here at its end, too, and has no event loop to wait for.
        if self._pid != os.getpid():
            return
        with self._lock, self._stack:
            if self._is_closed:
                return
            self._is_closed = True
            if self._portal is not None and self._lifespan is not None:
                self._portal.call(self._lifespan.stop)
            for queues in self.all:
                self._drain(queues.rerunner)

    def _drain(self, rerunner: Rerunner | None) -> None:
        if rerunner is None:
            return

        async def drain() -> None:
            if (draining := rerunner.drain()) is not None:
                await draining

        if self._portal is None:
            rerunner.drain()
        else:
            self._portal.call(drain)

    def _call(self, function: Callable[[], None]) -> None:
        """Call it where the application runs."""
        if self._portal is None:
            function()
        else:
            self._portal.call(function)


def _needs_no_loop(queues: Queues) -> bool:
    return queues.rerunner is None or not queues.rerunner.needs_loop


def _is_asgi(app: Any) -> bool:
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__)
