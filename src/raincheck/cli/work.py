"""`work`: run operations that wait in queues, in processes without a server."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raincheck.cli.commands import Commands, command
from raincheck.cli.exits import FAILED, OK, UNUSABLE, complain
from raincheck.cli.loading import explained

if TYPE_CHECKING:
    from raincheck.runners.loop import WorkLoop

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
PARENT = "RAINCHECK_WORK_PARENT"  # in the environment of several: who ends, they end with
PAUSE = 1.0  # seconds until a process that has ended by itself is begun anew


def add_to(commands: Commands) -> None:
    """Say what the command understands."""
    parser = command(commands, "work", "run what waits in queues, without a server")
    parser.set_defaults(run=run)
    parser.add_argument("application", metavar="module:app", help="or module:factory()")
    parser.add_argument(
        "--queue",
        action="append",
        required=True,
        metavar="NAME",
        help="whose operations to run: a runner or a queue of the application; may be repeated",
    )
    parser.add_argument(
        "--once", action="store_true", help="run what is due, then end: for cron and its like"
    )
    parser.add_argument(
        "--concurrency",
        type=_count,
        default=4,
        metavar="N",
        help="operations at a time in each process (%(default)s)",
    )
    parser.add_argument(
        "--processes", type=_count, default=1, metavar="N", help="processes (%(default)s)"
    )


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Run the command, and return the process's exit status."""
    if options.processes > 1:
        return _Processes(_command(options), options.processes, is_once=options.once).run()
    return _work(options)


def _work(options: argparse.Namespace) -> int:
    from raincheck.inspection.check import NotLoadedError
    from raincheck.runners.lifespan import LifespanFailed
    from raincheck.runners.loop import WorkLoop
    from raincheck.runners.worker import Worker

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    worker = Worker(options.application, options.queue)
    loop = WorkLoop(worker, options.concurrency, _has_parent)
    _stop_at_signals(loop)
    try:
        if options.once:
            ended = loop.run_due()
            print(_told(ended.total(), {state.value: n for state, n in ended.items()}))
        else:
            loop.run()
    except NotLoadedError as error:
        return complain(explained(str(error), error.__cause__), UNUSABLE)
    except LifespanFailed as error:
        return complain(f"the application has not started up: {error}", UNUSABLE)
    finally:
        worker.close()
    return OK


def _has_parent() -> bool:
    """Tell whether who has begun this one of several processes is still there."""
    parent = os.environ.get(PARENT)
    return parent is None or parent == str(os.getppid())


def _stop_at_signals(loop: WorkLoop) -> None:
    """Have a signal stop it in peace, and a second one end this process."""

    def stop(*_: object) -> None:
        if loop.is_stopping:
            raise SystemExit(FAILED)
        loop.stop()

    for number in _SIGNALS:
        signal.signal(number, stop)


def _told(total: int, states: dict[str, int]) -> str:
    if not total:
        return "Nothing was due"
    how = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"{total} run: {how}"


def _command(options: argparse.Namespace) -> list[str]:
    """Return what one of several processes is started with."""
    queues = [part for name in options.queue for part in ("--queue", name)]
    once = ["--once"] if options.once else []
    own = ["--concurrency", str(options.concurrency), *queues, *once]
    return [sys.executable, "-m", "raincheck", "work", options.application, *own]


class _Processes:
    """Several processes that do the same; one that ends by itself is begun anew."""

    def __init__(self, command: Sequence[str], number: int, *, is_once: bool) -> None:
        self._command = command
        self._number = number
        self._is_once = is_once
        self._stop = threading.Event()

    def run(self) -> int:
        for number in _SIGNALS:
            signal.signal(number, lambda *_: self._stop.set())
        processes = [self._begin() for _ in range(self._number)]
        while not self._stop.wait(PAUSE):
            if not self._is_once:  # all of them may have died at once
                processes = [self._renewed(each) for each in processes]
            if all(each.poll() is not None for each in processes):
                break
        for each in processes:
            if each.poll() is None:
                each.terminate()
        statuses = [each.wait() for each in processes]
        # Who is stopped before it has begun is ended by the signal.
        return max(0 if status == -signal.SIGTERM else abs(status) for status in statuses)

    def _begin(self) -> subprocess.Popen[bytes]:
        # A group of their own: a Ctrl-C is told to them by this process, once.
        environment = os.environ | {PARENT: str(os.getpid())}
        return subprocess.Popen(  # noqa: S603 - this very program
            self._command, process_group=0, env=environment
        )

    def _renewed(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        status = process.poll()
        if status is None or status == UNUSABLE:
            return process
        complain(f"a worker has ended with {status}: another one begins", status)
        return self._begin()
