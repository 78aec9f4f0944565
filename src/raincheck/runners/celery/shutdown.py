"""The shutdown of a Celery worker, as each of its processes learns of it.

Celery tells its main process only, and then waits for what runs, however long that takes.
"""

from __future__ import annotations

import os
import select
from typing import Any

from celery import signals


class Shutdown:
    """A pipe, into which the main process writes; its forks see that, and nobody reads it."""

    def __init__(self) -> None:
        self._pipe: tuple[int, int] | None = None
        signals.celeryd_init.connect(self._prepare, weak=False)
        signals.worker_shutting_down.connect(self._announce, weak=False)

    def has_begun(self) -> bool:
        """Tell whether this worker is to end."""
        return self._pipe is not None and _is_readable(self._pipe[0], 0)

    def wait(self) -> None:
        """Wait until it is; for ever where nobody would tell: in what is no fork of a worker."""
        if self._pipe is not None:
            _is_readable(self._pipe[0], None)

    def _prepare(self, **_: Any) -> None:
        self._pipe = self._pipe or os.pipe()

    def _announce(self, **_: Any) -> None:
        if self._pipe is not None:
            os.write(self._pipe[1], b"!")


def _is_readable(descriptor: int, seconds: float | None) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])
