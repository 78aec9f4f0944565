"""A process that was frozen, or whose machine slept, judges nobody by what it could not hear."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace

import pytest

from raincheck.engine.engine import Engine
from raincheck.engine.process import LEASE
from raincheck.engine.start import Start
from raincheck.engine.store_health import DOUBT, StoreHealth
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import Operation
from tests.unit.engines import (
    EngineTests,
    FaultyStore,
    LeaseOnlyStore,
    Run,
    Time,
    keep_beating,
    make_engine,
    poll,
    stored,
)

FREEZE = 1000


def start(engine: Engine, run: Run) -> Operation:
    return engine.accept(run, Start(method="GET", route="/reports")).operation


class Sleeping(EngineTests):
    """The store's clock and that of the wall go on while the machine sleeps; `awake` does not."""

    @pytest.fixture
    def awake(self, monkeypatch: pytest.MonkeyPatch, time: Time) -> Time:
        awake = Time()
        both = SimpleNamespace(monotonic=awake, time=time)
        for module in ("awake", "running", "store_health", "leases"):
            monkeypatch.setattr(f"raincheck.engine.{module}.time", both)
        return awake


class TestThoseWhoAsk(Sleeping):
    """Who asks while the process is frozen is not heard."""

    @pytest.mark.parametrize("sleeps", [False, True])
    def test_they_are_given_the_time_to_ask_again(
        self, store: FaultyStore, time: Time, awake: Time, sleeps: bool
    ) -> None:
        engine, run = make_engine(store, time, abandon_after=100), Run()
        operation = start(engine, run)
        engine.beat()

        def live(seconds: int) -> None:
            for _ in range(seconds):
                awake.now += 1
                keep_beating(engine, time, 1)

        live(1)
        time.now += FREEZE
        awake.now += 0 if sleeps else FREEZE
        live(99)
        assert run.cancels == 0, "no poll has had its turn yet"
        assert poll(engine, operation.id).status == 202
        live(99)
        assert run.cancels == 0
        live(30)
        assert run.cancels

    def test_while_the_store_is_away_nobody_is_heard_either(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine, run = make_engine(store, time, abandon_after=100), Run()
        start(engine, run)
        store.faults = frozenset({"find"})
        for _ in range(FREEZE):
            with suppress(StoreUnavailable):
                keep_beating(engine, time, 1)
        store.faults = frozenset()
        keep_beating(engine, time, 99)
        assert run.cancels == 0
        keep_beating(engine, time, 30)
        assert run.cancels


class TestLeases(Sleeping):
    def test_a_machine_that_has_slept_renews_its_own_at_once(self, time: Time, awake: Time) -> None:
        engine = make_engine(LeaseOnlyStore(clock=time), time)
        operation = start(engine, Run())
        engine.beat()
        time.now += FREEZE
        awake.now += 1
        engine.beat()
        assert stored(engine, operation).lease == time.now + LEASE

    def test_one_that_has_not_slept_renews_them_in_their_time(
        self, time: Time, awake: Time
    ) -> None:
        engine = make_engine(LeaseOnlyStore(clock=time), time)
        operation = start(engine, Run())
        for _ in range(3):
            time.now += 1
            awake.now += 1
            engine.beat()
        assert stored(engine, operation).version == operation.version


class TestHealth(Sleeping):
    @pytest.mark.parametrize("sleeps", [False, True])
    def test_what_was_seen_of_a_store_before_a_freeze_is_no_news(
        self, time: Time, awake: Time, sleeps: bool
    ) -> None:
        health = StoreHealth()
        with suppress(StoreUnavailable), health.accepting():
            raise StoreUnavailable("down")
        assert (health.is_failing, health.takes_operations) == (True, False)
        time.now += DOUBT + 1
        awake.now += 0 if sleeps else DOUBT + 1
        assert (health.is_failing, health.takes_operations) == (False, True)
