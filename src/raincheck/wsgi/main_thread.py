"""Which requests stay in the thread that their server has called: the main one of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

Tell = Callable[[Mapping[str, Any]], bool]


class StaysInMainThread:
    """Tells whether the handler of a request can be seen to need the thread that it is called in.

    Args:
        find: Returns what tells so of an application; None: no handler does. Called late, as the
            application may have no routes before, and only where it matters: servers with threads
            call nobody in the main one.
    """

    def __init__(self, find: Callable[[], Tell | None]) -> None:
        self._find = find
        self._tell: Tell | None = None

    def __call__(self, environ: Mapping[str, Any]) -> bool:
        """Tell so of one request, in the thread that is to handle it."""
        if threading.get_ident() != threading.main_thread().ident:
            return False
        if self._tell is None:
            self._tell = self._find() or (lambda environ: False)
        return self._tell(environ)
