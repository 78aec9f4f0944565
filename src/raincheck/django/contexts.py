"""What Django keeps beside a request, on both sides of a change of thread.

Language, time zone, URL prefix and URL configuration follow the handler into its thread and come
back from it; caches and database connections belong to the thread that uses them.
"""

from __future__ import annotations

import logging
import threading
from contextvars import Context, copy_context
from typing import Any

from asgiref import local
from asgiref.sync import AsyncToSync, SyncToAsync
from django.core import mail
from django.core.cache import caches
from django.db import connections

from raincheck.handler import CURRENT

# Private, and missing where asgiref hides nothing.
_STORAGE: Any = getattr(local, "_Storage", None)
_rehome: Any = getattr(local, "_rehome", None)

logger = logging.getLogger("raincheck")

_TOLD = threading.Event()
_OWN = threading.local()  # the caches of a handler's thread, and the settings they were made from
_LOOP = ("main_event_loop", "main_event_loop_pid")  # where `async_to_sync` runs its coroutine


def arrive(origin: int) -> None:
    """Make what this context holds known to this thread.

    Newer versions of asgiref hide a `Local` (language, URL prefix, URL configuration) from a thread
    that they have not brought it to themselves.

    Args:
        origin: The thread that the context comes from.
    """
    _bring(copy_context(), origin)


class Origin:
    """The thread that a handler's thread takes a request over from."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        known = vars(SyncToAsync.threadlocal)
        self._loop = {name: known[name] for name in _LOOP if name in known}

    def arrive(self) -> None:
        """Have in this thread what that one has, but for what belongs to threads."""
        arrive(self._thread)
        AsyncToSync.executors.current = None  # that of a thread which waits for a 202 only
        known = vars(SyncToAsync.threadlocal)
        for name in _LOOP:
            known.pop(name, None)
        known.update(self._loop)
        if getattr(_OWN, "settings", None) is not caches.settings:
            _OWN.settings = caches.settings
            _OWN.caches = {alias: caches.create_connection(alias) for alias in caches}
        _use(_OWN.caches)


class Carried:
    """What a handler has set, for the middleware around to see as without raincheck."""

    def __init__(self) -> None:
        self._context = copy_context()
        self._origin = threading.get_ident()

    def unpack(self) -> None:
        """Set it in this thread's context, but for what belongs to threads."""
        executor = getattr(AsyncToSync.executors, "current", None)
        own = {alias: caches[alias] for alias in caches if hasattr(caches._connections, alias)}
        _bring(self._context, self._origin)
        AsyncToSync.executors.current = executor
        _use(own)
        CURRENT.set(None)


def forget_caches() -> None:
    """Have new caches made in this context: those of the request are used by others, too."""
    _use({})


def _use(own: dict[str, Any]) -> None:
    # A client that two threads use may mix up their answers.
    for alias in caches:
        if alias in own:
            caches[alias] = own[alias]
        elif hasattr(caches._connections, alias):
            del caches[alias]


def _bring(context: Context, origin: int) -> None:
    for variable, value in context.items():
        brought: Any = value
        if _STORAGE is not None and isinstance(value, _STORAGE):
            if value.thread_id != origin:  # hidden there, too
                continue
            brought = _rehome(value)
        if variable.get(None) is not brought:
            variable.set(brought)


def told_in_transaction() -> bool:
    """Tell the same, and log it once, but for tests, where it is to be expected."""
    if not in_transaction():
        return False
    if not _TOLD.is_set() and not hasattr(mail, "outbox"):
        _TOLD.set()
        logger.warning(
            "a request is not deferred, and others may not be: middleware around raincheck's has "
            "begun a transaction, and ends it with the response; place it within"
        )
    return True


def in_transaction() -> bool:
    """Tell whether somebody around has begun a transaction in this thread, as `TestCase` does.

    Who has begun it ends it, with the response: after a 202, the handler would still need it.
    """
    return any(
        it.in_atomic_block or (it.connection is not None and not it.autocommit)
        for it in connections.all(initialized_only=True)
    )
