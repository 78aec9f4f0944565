"""One request, one database connection: it goes with the handler into its thread.

All that hangs on it goes with it: a tenant's schema, a role, row-level security, settings of the
session. While the handler has it, nobody else does: who needs one in the thread that waits, or
after the 202, is given another one by Django.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any

from django.db import connections

logger = logging.getLogger("raincheck")


class Lent:
    """The connections of this thread, on their way to the thread of a handler and back."""

    def __init__(self) -> None:
        # Those that are not made yet, too: what the handler opens comes back with the rest.
        self._all = {alias: connections[alias] for alias in connections}
        for alias, connection in self._all.items():
            connection.inc_thread_sharing()
            del connections[alias]

    # --- the handler's thread ------------------------------------------------------------------

    def take(self) -> None:
        """Have them be this thread's."""
        for alias, connection in self._all.items():
            connections[alias] = connection

    def leave(self) -> None:
        """Have them be this thread's no more: whose they are has them back, or will soon."""
        for alias, connection in self._all.items():
            if _is_here(alias, connection):
                del connections[alias]
            connection.dec_thread_sharing()

    def close(self) -> None:
        """Close them: whose they were has gone on without."""
        self.take()
        connections.close_all()
        self.leave()

    # --- the thread that waits -----------------------------------------------------------------

    def come_back(self) -> None:
        """Have them be this thread's again; others that it has opened meanwhile are closed."""
        connections.close_all()
        self.take()

    def stay(self) -> None:
        """Have them be this thread's again: no handler has taken them."""
        self.come_back()
        for connection in self._all.values():
            connection.dec_thread_sharing()


def _is_here(alias: str, connection: Any) -> bool:
    return any(
        it is connection for it in connections.all(initialized_only=True) if it.alias == alias
    )


class Loan:
    """What the thread of a request in an async chain lends, as soon as the handler needs it.

    Most async views have no use for a connection, and cost no way into that thread.

    Args:
        thread: Runs what it is given in the request's thread; None: there is none yet.

    Attributes:
        is_made: Whether it has lent them.
    """

    def __init__(self, thread: Executor | None) -> None:
        self._thread = thread
        self._lock = threading.Lock()
        self.is_made = False
        self._lent: Lent | None = None

    def make(self) -> None:
        """Have the request's thread lend its connections, unless it has; blocks until it does."""
        with self._lock:
            if self.is_made or self._thread is None:
                return
            self.is_made = True
            try:
                self._lent = self._thread.submit(Lent).result()
            except RuntimeError:  # it has ended, and has none any more
                logger.debug("a handler has connections of its own: its request's thread is over")

    def take(self) -> None:
        """Have them be the connections of this thread, the handler's."""
        self.make()
        if self._lent is not None:
            self._lent.take()

    def give_back(self) -> bool:
        """Have them be the request's thread's again; False if it has none, or is over."""
        if self._lent is not None and self._thread is not None:
            with suppress(RuntimeError):
                self._thread.submit(self._lent.come_back)
                return True
        return False

    def leave(self) -> None:
        """Have them be this thread's no more, after they were given back."""
        if self._lent is not None:
            self._lent.leave()

    def close(self) -> None:
        """Close all connections of this thread, and what was lent."""
        connections.close_all()
        if self._lent is not None:
            self._lent.close()
