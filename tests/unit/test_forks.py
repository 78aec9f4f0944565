"""A fork works on its own, and leaves its parent's operations alone."""

from __future__ import annotations

import logging
import os
import signal
import traceback
from collections.abc import Callable

import pytest

from raincheck.engine import outbox as outbox
from raincheck.engine.engine import Engine
from raincheck.operations.operation import State
from tests.unit.engines import CHUNK, EngineTests, FaultyStore, accept, answer, body, poll, stored


def run_in_fork(work: Callable[[], None]) -> int:
    """Return the exit code of a child that does it; one that hangs is ended."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        logging.disable()  # a thread of another test may have held a lock of its handlers
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class TestForks(EngineTests):
    """A fork that comes while responses wait, and while other threads hold every lock."""

    def test_a_fork_has_none_of_what_waits_and_can_work_on_its_own(
        self, engine: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox, "MEMORY", 10)
        waiting, running = accept(engine), accept(engine)
        store.faults = frozenset({"write_chunk"})
        engine.finish(waiting, answer(waiting, body=CHUNK))
        store.faults = frozenset()
        locks = [engine._outbox._lock, engine._outbox._handing_over]
        locks.append(engine.running.all()[-1].lock)
        assert engine.running.all()[-1].operation is running
        for lock in locks:
            lock.acquire()

        def work_as_a_fork() -> None:
            assert not engine.is_busy
            own = accept(engine)
            store.faults = frozenset({"write_chunk"})
            engine.finish(own, answer(own, body=CHUNK))
            store.faults = frozenset()
            engine.beat()
            assert body(engine, poll(engine, own.id)) == CHUNK
            assert not stored(engine, waiting).is_terminal
            engine.close()

        exit_code = run_in_fork(work_as_a_fork)
        for lock in locks:
            lock.release()
        assert exit_code == 0
        engine.beat()
        assert body(engine, poll(engine, waiting.id)) == CHUNK
        assert stored(engine, running).state is State.RUNNING
