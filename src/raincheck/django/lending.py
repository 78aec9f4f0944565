"""One request, one database connection: it goes with the handler into its thread, and comes back.

All that hangs on it goes with it: a tenant's schema, a role, row-level security, settings of the
session. Control and connections go together: whoever's turn it is has them, and nobody else. After
a 202 they are the handler's for good; the thread that lent them is given others, in their place.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto
from functools import partial
from typing import Any

from django.db import connections

logger = logging.getLogger("raincheck")

Patterns = dict[str, tuple[Any, bool]]
_KEPT_BY_TESTS = "_test_serialized_contents"  # what `serialized_rollback` restores


class _At(Enum):
    HOME = auto()  # in the thread that lends
    OFFERED = auto()  # on their way to the handler's
    HANDLER = auto()
    LEFT = auto()  # on their way back
    GONE = auto()  # the handler has closed them


class Lent:
    """The connections that a thread lends to the thread of its handler."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at = _At.HOME
        self._is_forsaken = False  # they don't come back
        self._all: dict[str, Any] = {}
        self._lent: dict[str, Any] = {}
        self.patterns: Patterns = {}  # what was lent last, and is to be like in its place

    # --- the thread that lends -----------------------------------------------------------------

    def lend(self) -> None:
        """Offer the connections of this thread: what it has used, and no others."""
        self.patterns = patterns()
        lent = _take_out()
        for connection in lent.values():
            connection.inc_thread_sharing()
        with self._changed:
            self._all, self._lent, self._at = lent, lent, _At.OFFERED
            if self._is_forsaken:
                self._forsake()

    def come_back(self) -> None:
        """Have them be this thread's again, as soon as the handler has left them."""
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._at is not _At.HANDLER)
                if self._at in (_At.HOME, _At.GONE):
                    return
                self._at = _At.HOME
        except BaseException:  # this very thread is to be stopped
            self.part()
            raise
        self._come_home()

    def part(self) -> bool:
        """Have them be this thread's again if the handler has left them; else give them up.

        Then it closes them at its end, and this thread has others in their place.

        Returns:
            Whether they are given up.
        """
        with self._changed:
            is_back = self._at is _At.LEFT
            if is_back:
                self._at = _At.HOME
            if self.is_away:
                self._forsake()
        if is_back:
            self._come_home()
        elif self._is_forsaken:
            self.stand_in()
        return self._is_forsaken

    def stand_in(self) -> None:
        """Give this thread others, in the place of those that are lent."""
        stand_in_for(self.patterns)

    def forsake(self) -> None:
        """Give them up, before they are lent, or from another thread than the one that lends."""
        with self._changed:
            if self._at is not _At.LEFT:
                self._forsake()

    def _forsake(self) -> None:
        self._is_forsaken = True
        for connection in self._lent.values():
            _keep_out_of_pool(connection)

    @property
    def is_away(self) -> bool:
        """Whether they are with the handler, or on their way to it."""
        return self._at in (_At.OFFERED, _At.HANDLER)

    @property
    def is_taken(self) -> bool:
        """Whether the handler has them."""
        return self._at is _At.HANDLER

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have the handler go on with them, while this thread waits for what it makes."""
        if self._is_forsaken or self.is_away:
            yield
            return
        self.lend()
        try:
            yield
        finally:
            if self.is_taken:  # still: this thread was stopped
                self.part()
            else:
                self.come_back()

    def _come_home(self) -> None:
        came, own, lent = self._all, _take_out(), self._lent.values()
        for alias, connection in own.items():
            if connection.in_atomic_block and connection is not came.get(alias):
                _close(came.pop(alias, connection))  # whoever began a transaction goes on with it
                came[alias] = connection
            elif connection is not came.get(alias):
                _close(connection)
        for alias, connection in came.items():
            connections[alias] = connection
            if not any(connection is it for it in lent):  # the handler has opened it
                connection._thread_ident = threading.get_ident()
        self._end()

    def _end(self) -> None:
        lent, came, self._all, self._lent = self._lent, self._all, {}, {}
        for alias, connection in lent.items():
            if connection is not came.get(alias):  # the handler has put another in its place
                _close(connection)
            connection.dec_thread_sharing()

    # --- the handler's thread ------------------------------------------------------------------

    def take(self) -> None:
        """Have what is offered be this thread's."""
        with self._changed:
            if self._at is not _At.OFFERED:
                return
            self._at = _At.HANDLER
        for alias, connection in self._all.items():
            if not _is_used(alias):  # else it has begun with its own
                connections[alias] = connection

    def leave(self) -> None:
        """Have no connections in this thread any more: they go back, or are closed."""
        own = _take_out()
        with self._changed:
            goes_back = self._at is _At.HANDLER and not self._is_forsaken
            is_end = self._at is _At.HANDLER and self._is_forsaken
            if goes_back:
                self._all, self._at = own, _At.LEFT
                self._changed.notify_all()
        if not goes_back:
            _close_all(own)
        if is_end:
            self._all, self._at = own, _At.GONE
            self._end()


def leave_none() -> None:
    """Close all connections of this thread, and have it open others if it needs any."""
    _close_all(_take_out())


def _is_used(alias: str) -> bool:
    return hasattr(connections._connections, alias)


def _take_out() -> dict[str, Any]:
    """Take the connections out of this thread; those of aliases that it has not used are none."""
    own = {connection.alias: connection for connection in connections.all(initialized_only=True)}
    for alias in own:
        del connections[alias]
    return own


def _keep_out_of_pool(connection: Any) -> None:
    """Have a connection end when it is closed.

    What was prepared for one tenant, and is put back by nobody, is not for the next one.
    """
    if _has_pool(connection.settings_dict):
        connection.close = partial(_discard, connection)


def _discard(connection: Any) -> None:
    if connection.connection is not None:
        connection.connection.close()  # its pool replaces it
    type(connection).close(connection)


def _has_pool(settings: Mapping[str, Any]) -> bool:
    return bool(settings["OPTIONS"].get("pool"))


def release_pooled() -> None:
    """Let go of the connections of pools, as this thread is about to wait for something else.

    The handler that it waits for may need one.
    """
    for connection in connections.all(initialized_only=True):
        if _has_pool(connection.settings_dict) and not connection.in_atomic_block:
            _discard(connection)


def _close_all(those: Mapping[str, Any]) -> None:
    for connection in those.values():
        _close(connection)


def _close(connection: Any) -> None:
    try:
        connection.close()
    except Exception:
        logger.exception("a connection to %r could not be closed", connection.alias)


# --- others in their place ---------------------------------------------------------------------


def patterns() -> Patterns:
    """Return the connections of this thread, and whether they are shared between threads."""
    own = connections.all(initialized_only=True)
    return {it.alias: (it, it.allow_thread_sharing) for it in own}


def stand_in_for(lent: Patterns) -> None:
    """Have this thread use others than those that are lent, prepared like them where that is known.

    What asks for an owner, or saves a session with the 202, must not wait for what the handler has:
    so they don't come from a pool.
    """
    for alias, (connection, is_shared) in lent.items():
        if not _is_used(alias):
            # Of one that is shared, as a test's in memory, there is no other.
            connections[alias] = connection if is_shared else _like(connection)
    for alias, settings in connections.settings.items():
        if _has_pool(settings) and not _is_used(alias):
            connections[alias] = _like(connections.create_connection(alias))


def _like(connection: Any) -> Any:
    options = {k: v for k, v in connection.settings_dict["OPTIONS"].items() if k != "pool"}
    made = type(connection)(connection.settings_dict | {"OPTIONS": options}, connection.alias)
    made.is_out_of_pool = len(options) < len(connection.settings_dict["OPTIONS"])
    if _KEPT_BY_TESTS in vars(connection):
        setattr(made, _KEPT_BY_TESTS, getattr(connection, _KEPT_BY_TESTS))
    if getattr(connection, "tenant", None) is not None and hasattr(made, "set_tenant"):
        made.set_tenant(connection.tenant)
    return made


def return_to_pools() -> None:
    """Close what stands in this thread for connections of pools, which it is to use again."""
    for connection in connections.all(initialized_only=True):
        if getattr(connection, "is_out_of_pool", False):
            _close(connection)
            del connections[connection.alias]
