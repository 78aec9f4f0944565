"""What each process has of its own, and a fork makes anew."""

from __future__ import annotations

import os

from raincheck.engine.per_process import PerProcess


def in_a_fork(per_process: PerProcess[object], inherited: object) -> bool:
    """Tell whether a fork gets another one, and gets it twice."""
    pid = os.fork()
    if not pid:
        own = per_process.get()
        os._exit(int(own is inherited or own is not per_process.get()))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_each_process_makes_its_own_and_keeps_its_parents() -> None:
    made = PerProcess(object)
    assert made.peek() is None
    own = made.get()
    assert made.get() is made.peek() is own
    assert in_a_fork(made, own)


def test_what_is_taken_is_made_anew() -> None:
    made = PerProcess(object)
    first = made.get()
    assert made.take() is first
    assert made.take() is None
    assert made.get() is not first
