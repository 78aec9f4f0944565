"""Handlers that have had their time."""

from __future__ import annotations

import pytest

from raincheck.config.policy import Candidate
from raincheck.engine.outbox import Ending
from raincheck.engine.start import Key
from raincheck.errors import StoreUnavailable
from raincheck.handler import Marking
from raincheck.http.messages import Request
from raincheck.monitor.endpoint import StatusMonitor
from raincheck.monitor.poll import Repeat
from raincheck.operations.operation import Reason, State
from raincheck.operations.transitions import Ended
from tests.unit.engines import (
    AWAY,
    EngineTests,
    FaultyStore,
    Run,
    Time,
    accept,
    make_engine,
    start,
    stored,
)


class TestTimeout(EngineTests):
    """Those who run too long are given up."""

    def test_a_handler_that_runs_too_long_is_given_up(self, store: FaultyStore, time: Time) -> None:
        engine, run, ends = make_engine(store, time, timeout=10), Run(), []
        start(engine, run=run)
        for seconds in (9, 2):
            time.now += seconds
            engine.beat()
            ends.append(run.given_up)
        assert ends == [None, Reason.TIMEOUT]

    def test_its_own_mark_says_how_long(self, store: FaultyStore, time: Time) -> None:
        engine, early, late = make_engine(store, time, timeout=10), Run(), Run()
        start(engine, run=early, marking=Marking(timeout=2))
        engine.mark(start(engine, run=late), Marking(timeout=20))
        time.now += 11
        engine.beat()
        assert (early.given_up, late.given_up) == (Reason.TIMEOUT, None)

    def test_a_handler_that_goes_on_is_still_in_flight(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine = make_engine(store, time, timeout=10, limits={"operations": 1})
        operation = start(engine)
        time.now += 11
        engine.beat()
        engine.finish(operation, Ending(Ended(Reason.TIMEOUT)))
        was_full = engine.is_full
        engine.land(operation)
        assert (was_full, engine.is_full) == (True, False)
        assert stored(engine, operation).reason is Reason.TIMEOUT

    def test_a_handler_that_will_never_go_on_is_given_up_without_a_store(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine, stranded, running = make_engine(store, time), Run(), Run()
        start(engine, run=stranded)
        start(engine, run=running)
        stranded.is_stranded = True
        store.faults = frozenset({"find", "get", "swap"})
        with pytest.raises(StoreUnavailable):
            engine.beat()
        assert (stranded.given_up, running.given_up) == (Reason.SHUTDOWN, None)

    def test_a_handler_has_its_time_while_the_store_is_away(
        self, store: FaultyStore, time: Time, run: Run
    ) -> None:
        engine = make_engine(store, time, timeout=10)
        accept(engine, run)
        store.faults = AWAY
        time.now += 11
        with pytest.raises(StoreUnavailable):
            engine.beat()
        assert run.given_up is Reason.TIMEOUT

    def test_what_is_being_cancelled_and_runs_too_long_has_failed(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine = make_engine(store, time, timeout=10)
        operation = accept(engine)
        engine.cancel(operation.id)
        engine.finish(operation, Ending(Ended(Reason.TIMEOUT)))
        ended = stored(engine, operation)
        assert (ended.state, ended.reason) == (State.FAILED, Reason.TIMEOUT)

    def test_who_is_answered_202_under_the_same_key_ends_it(
        self, store: FaultyStore, time: Time, run: Run
    ) -> None:
        engine = make_engine(store, time, timeout=10)
        key = Key("value", "fingerprint")
        operation = start(engine, "POST", run, key=key, is_attended=True)
        time.now += 60  # the first client has left, and nobody has noticed
        repeat = Repeat(Request("POST", "/reports"), operation.id, key=key, candidate=Candidate(0))
        assert StatusMonitor(engine).look(repeat).response.status == 202
        engine.beat()
        assert run.given_up is None
        time.now += 11
        engine.beat()
        assert run.given_up is Reason.TIMEOUT
