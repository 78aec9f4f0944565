"""The end of a process whose handlers still run, and processes that fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from raincheck.contracts import Filter
from raincheck.operations.operation import Operation, State
from raincheck.stores.sqlite import SQLiteStore

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]
PREAMBLE = """
    import os, sys, threading, time
    from raincheck import current_operation
    from raincheck.contracts import Filter
    from raincheck.wsgi import RaincheckMiddleware, leaving
    from tests.support.wsgi import call, engine_of, follow, path_of, until

    told = threading.Event()

    def app(environ, start_response):
        query = environ["QUERY_STRING"]
        if query == "stubborn":
            time.sleep(600)
        if query == "told":
            assert told.wait(60)
            query = "0"
        deadline = time.monotonic() + float(query)
        while time.monotonic() < deadline and not current_operation().cancelled:
            time.sleep(0.01)
        start_response("200 OK", [])
        return [b"done"]

    def wrapped(**more):
        return RaincheckMiddleware(app, store=sys.argv[1], budget=0, **more)
"""


class Process:
    """Runs a script to its end, with a store of its own."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "operations.db"
        self.output = ""

    def run(self, script: str, status: int = 0) -> float:
        """Run it, compare its exit status, and return the seconds that it took."""
        command = textwrap.dedent(PREAMBLE) + textwrap.dedent(script)
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", command, f"sqlite:///{self._path}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.output = done.stdout + done.stderr
        assert done.returncode == status, self.output
        assert "Traceback" not in self.output, self.output
        return time.monotonic() - begin

    def operations(self) -> list[Operation]:
        """Return what the process has left in its store."""
        store = SQLiteStore(str(self._path))
        try:
            return store.find(Filter())[0]
        finally:
            store.close()

    def endings(self) -> list[str]:
        """Say how each operation ended: its state, or the reason."""
        return sorted((one.reason or one.state).value for one in self.operations())


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """Return a process to run."""
    return Process(tmp_path)


def test_a_handler_may_end_while_its_process_drains(process: Process) -> None:
    process.run("assert call(wrapped(drain=20), QUERY_STRING='0.5').status == 202")
    assert process.endings() == ["succeeded"]


def test_what_takes_longer_than_the_drain_is_recorded_and_asked_to_stop(process: Process) -> None:
    took = process.run("call(wrapped(drain=0.2), method='POST', QUERY_STRING='300')")
    assert process.endings() == ["shutdown"]
    assert "still running" in process.output
    assert took < 30


def test_what_does_not_even_stop_holds_no_process_up(process: Process) -> None:
    process.run("call(wrapped(drain=0), method='POST', QUERY_STRING='stubborn')")
    assert process.endings() == ["shutdown"]


@pytest.mark.slow
def test_what_may_be_run_again_is_released_to_other_processes(process: Process) -> None:
    process.run("call(wrapped(drain=0), QUERY_STRING='300')")
    [left] = process.operations()
    assert (left.state, left.worker, left.captured) == (State.ACCEPTED, None, True)
    process.run(
        """
        app = wrapped()
        assert call(app, method="POST", QUERY_STRING="0").status == 202
        until(lambda: all(o.worker for o in engine_of(app).store.find(Filter())[0]))
        leaving.drain()
        """
    )


def test_an_exit_status_and_a_signal_of_the_main_thread_are_kept(process: Process) -> None:
    process.run("call(wrapped(drain=20), QUERY_STRING='0.3'); sys.exit(3)", status=3)
    assert process.endings() == ["succeeded"]


def test_a_process_whose_handlers_have_ended_waits_for_nothing(process: Process) -> None:
    process.run(
        """
        app_ = wrapped(drain=60)
        assert follow(app_, call(app_, QUERY_STRING='0')).content == b"done"
        until(lambda: leaving.running() == 0)
        """
    )
    assert process.endings() == ["succeeded"]


def test_two_middlewares_are_both_waited_for(process: Process) -> None:
    process.run(
        """
        first, second = wrapped(drain=20), wrapped(drain=20, prefix="/second")
        for app_ in (first, second):
            call(app_, QUERY_STRING='told')
        assert leaving.running() == 2
        ending = threading.Timer(0.5, told.set)  # while the process drains
        ending.daemon = True
        ending.start()
        """
    )
    assert process.endings() == ["succeeded", "succeeded"]


def test_a_middleware_that_nobody_holds_any_more_is_still_waited_for(process: Process) -> None:
    process.run("call(wrapped(drain=20), QUERY_STRING='0.5')\nimport gc; gc.collect()")
    assert process.endings() == ["succeeded"]


FORK = """
    app_ = wrapped(drain=20, limits={{"operations": 2, "waiters": 1}})
    accepted = call(app_, QUERY_STRING='told')
    pid = os.fork()
    if pid == 0:
        names = [t.name for t in threading.enumerate() if t.name.startswith("raincheck")]
        assert names == [], names
        {child}
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    told.set()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    "child",
    [
        "pass",
        "assert leaving.running() == 0",
        "assert call(app_, path_of(accepted)).status == 202",
        "assert follow(app_, call(app_, QUERY_STRING='0')).content == b'done'",
        "engine_of(app_).recover(); engine_of(app_).beat()",
    ],
    ids=["exits", "counts", "polls", "works", "recovers"],
)
def test_a_fork_begins_without_threads_and_ends_no_operation_of_its_parent(
    process: Process, child: str
) -> None:
    process.run(FORK.format(child=child))
    assert set(process.endings()) == {"succeeded"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_ends_the_operations_of_a_parent_that_was_killed(process: Process) -> None:
    process.run(
        """
        import signal
        app_ = wrapped()
        accepted, parent = call(app_, method='POST', QUERY_STRING='300'), os.getpid()
        if os.fork() != 0:
            os.kill(parent, signal.SIGKILL)
        until(lambda: os.getppid() != parent)
        assert b"interrupted" in follow(app_, accepted).content
        os._exit(0)
        """,
        status=-signal.SIGKILL,
    )
    assert process.endings() == ["interrupted"]


def test_a_fork_takes_as_many_operations_as_its_parent_might(process: Process) -> None:
    child = "call(app_, QUERY_STRING='1.5'); assert call(app_, QUERY_STRING='0').status == 202"
    process.run(FORK.format(child=child))
    assert process.endings() == ["succeeded"] * 3


def test_a_fork_has_none_of_its_parents_threads_that_wait(process: Process) -> None:
    child = "assert not app_._gateway.waiting._crowd_of.get()._turns"
    script = "app_._gateway.waiting.begin(None)\n    pid = os.fork()"
    process.run(FORK.format(child=child).replace("pid = os.fork()", script))


def test_what_a_fork_runs_ends_when_its_parent_has_long_ended(process: Process) -> None:
    process.run(
        """
        app_ = wrapped(drain=20)
        call(app_, QUERY_STRING='0')
        if os.fork() == 0:
            call(app_, QUERY_STRING='0.5')
        """
    )
    deadline = time.monotonic() + 20
    while set(process.endings()) != {"succeeded"}:
        assert time.monotonic() < deadline, process.endings()
        time.sleep(0.05)
    assert len(process.operations()) == 2
