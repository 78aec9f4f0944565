"""What the tests of the stores are made of: a clock, operations, threads and forks."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from raincheck.operation import Operation, State

MIB = 1024 * 1024
HOUR = 3600.0


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class PausingClock(Clock):
    """Holds the thread named `held` wherever it asks for the time, until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.go = threading.Event(), threading.Event()

    def __call__(self) -> float:
        if threading.current_thread().name == "held":
            self.inside.set()
            self.go.wait()
        return self.now


def make_operation(id: str = "a", **fields: Any) -> Operation:
    """Return a running operation, or what `fields` make of it."""
    default: dict[str, Any] = {
        "state": State.RUNNING,
        "created": 1000.0,
        "updated": 1000.0,
        "retention": 60.0,
        "method": "POST",
        "route": "/reports",
    }
    return Operation(id=id, **(default | fields))


def forgotten(id: str, expires: float = 1000.0) -> Operation:
    """Return an operation that may be purged from `expires` on."""
    return make_operation(id, state=State.SUCCEEDED, forgotten=True, expires=expires)


def changed(operation: Operation, **fields: Any) -> Operation:
    """Return the operation's next version."""
    return replace(operation, version=operation.version + 1, **fields)


def ids(operations: Iterable[Operation]) -> list[str]:
    """Name the operations in their order."""
    return [operation.id for operation in operations]


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work(0)` … `work(count - 1)` at the same moment and return their results."""
    barrier = threading.Barrier(count)

    def run(n: int) -> Any:
        barrier.wait(30)
        return work(n)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def run_in_fork(work: Callable[[], object], timeout: float = 15.0) -> bool:
    """Run `work` in a fork of this process; tell whether it returned, in time."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.005)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return False
