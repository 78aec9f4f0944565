"""Hooks for gunicorn's configuration: a worker that leaves has time for its operations.

Without them gunicorn kills a worker that is recycled (`--max-requests`) or reloaded (SIGHUP) when
it has not been heard of for `--timeout` seconds, 30 by default, whatever still runs in it. Where
operations may take longer than that, and `drain` is set to let them, write into `gunicorn.conf.py`:

    from raincheck.gunicorn import post_worker_init, worker_exit

or, if it has such hooks already, call these from them:

    from raincheck import gunicorn as raincheck_hooks

    def post_worker_init(worker):
        raincheck_hooks.post_worker_init(worker)

    def worker_exit(server, worker):
        raincheck_hooks.worker_exit(server, worker)

Each middleware waits for its handlers as long as its option `drain` says. A recycled worker gets
its successor only when it is gone, so there should be several. When all of gunicorn is stopped
(SIGTERM), no worker gets more than `--graceful-timeout` seconds.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["post_worker_init", "worker_exit"]

_BEAT = 0.2  # seconds; `--timeout` may be as little as one

# By process: the file whose time of change tells gunicorn that a worker lives.
_SIGNS_OF_LIFE: dict[int, int] = {}


class _HasFile(Protocol):
    def fileno(self) -> int: ...


class _Worker(Protocol):
    @property
    def tmp(self) -> _HasFile: ...


def post_worker_init(worker: _Worker) -> None:
    """Keep what a worker shows its master that it lives by; gunicorn closes it before it leaves."""
    _SIGNS_OF_LIFE[os.getpid()] = os.dup(worker.tmp.fileno())


def worker_exit(server: object, worker: object) -> None:
    """Wait for the operations of a worker that leaves, and show its master that it lives."""
    # Here, and not above: with gevent, this module is imported before threads are patched.
    from raincheck.wsgi import leaving

    if leaving.running():
        with _signs_of_life(_SIGNS_OF_LIFE.get(os.getpid())):
            leaving.drain()


@contextmanager
def _signs_of_life(descriptor: int | None) -> Iterator[None]:
    is_over = threading.Event()

    def show() -> None:
        while descriptor is not None and not is_over.wait(_BEAT):
            now = time.monotonic()  # which gunicorn compares it with
            os.utime(descriptor, (now, now))

    threading.Thread(target=show, name="raincheck-gunicorn", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
