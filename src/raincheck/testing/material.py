"""What tests of stores are made of: a clock, operations, threads, watches and forks."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from raincheck.operations.operation import Operation, State

MIB = 1024 * 1024
HOUR = 3600.0


class Clock:
    """Time that passes when a test says so: set `now`, seconds since the epoch.

    Holds the thread named `held` wherever it asks for the time, until `go` is set.
    """

    def __init__(self) -> None:
        self.now = time.time()
        self.inside, self.go = threading.Event(), threading.Event()

    def __call__(self) -> float:
        if threading.current_thread().name == "held":
            self.inside.set()
            self.go.wait(30)
        return self.now


def settable(clock: Clock | None) -> Clock:
    """Return the clock, or skip what needs one."""
    if clock is None:
        pytest.skip("the fixture `clock` is None: this store's time can't be set")
    return clock


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


def hears(watch: Iterator[str | None], operation_id: str, timeout: float = 10.0) -> bool:
    """Tell whether a watch names an operation, in time."""
    deadline = time.monotonic() + timeout
    return any(heard == operation_id for heard in _until(deadline, watch))


def _until(deadline: float, watch: Iterator[str | None]) -> Iterator[str | None]:
    while time.monotonic() < deadline:
        yield next(watch)


def run_in_fork(work: Callable[[], object], timeout: float = 15.0) -> bool:
    """Run `work` in a fork of this process; tell whether it returned, in time."""

    def run(_: int) -> int:
        work()
        return 0

    return in_forks(1, run, timeout) == [0]


def in_forks(count: int, work: Callable[[int], int], timeout: float = 60.0) -> list[int]:
    """Run `work(0)` … `work(count - 1)` in forks and return their results, each below 100."""
    deadline = time.monotonic() + timeout
    pids = [_fork(lambda n=n: work(n)) for n in range(count)]  # type: ignore[misc]
    return [_wait(pid, deadline) for pid in pids]


def _fork(work: Callable[[], int]) -> int:
    """Run `work` in a fork whose exit code is its result, or 100."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os._exit(work())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(100)


def _wait(pid: int, deadline: float) -> int:
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return -9
