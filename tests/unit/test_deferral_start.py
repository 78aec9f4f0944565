"""What a request becomes an operation with, and whose it is."""

from __future__ import annotations

from typing import Any

import pytest

from raincheck.engine.engine import Engine
from raincheck.engine.fate import Where
from raincheck.engine.idempotency import Sharing
from raincheck.engine.start import Key, Start
from raincheck.errors import RaincheckError, StoreUnavailable
from raincheck.handler import Marking
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, Progress, Reason
from tests.unit.deferrals import Source, attached, engine_on, make, record
from tests.unit.engines import FaultyStore, Run, Time, accept, stored


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(clock=Time())


@pytest.fixture
def engine(store: FaultyStore) -> Engine:
    return engine_on(store)


# --- becoming an operation ---------------------------------------------------------------------


def test_it_is_recorded_with_what_is_known_of_it(engine: Engine) -> None:
    deferral = make(engine, Source("", "anne"))
    deferral.report(Progress(1, 10))
    operation = stored(engine, attached(deferral))
    assert (operation.method, operation.route, operation.owner) == ("POST", "/reports", "anne")
    assert operation.progress == Progress(1, 10)


def test_what_it_is_to_become_says_all_that_is_known(engine: Engine) -> None:
    source, said = Source("", "anne"), Marking(retry=True, timeout=9, is_said=True)
    deferral = make(engine, source)
    deferral.defer(said)
    deferral.report(Progress(1, 10))
    source._askable = ("anne",)
    assert deferral.prepare() == Start(
        method="POST",
        route="/reports",
        root_path="/app",
        owner="anne",
        progress=Progress(1, 10),
        marking=said,
        capture=source.capture_request,
        webhook="https://hook.test/anne",
        is_reached=True,
    )


@pytest.mark.parametrize("is_called", [False, True])
@pytest.mark.parametrize("is_authenticated", [False, True])
def test_its_handler_is_reached_once_it_is_called_or_its_user_is_known(
    engine: Engine, is_called: bool, is_authenticated: bool
) -> None:
    deferral = make(engine, Source("", is_authenticated=is_authenticated))
    if is_called:
        deferral.defer(Marking())
    assert deferral.prepare().is_reached is (is_called or is_authenticated)


@pytest.mark.parametrize(
    ("sharing", "budget", "is_attended"),
    [(None, 2, False), (None, 0, False), (Sharing("k"), 1, True), (Sharing("k"), 0, False)],
)
def test_who_has_a_key_and_a_budget_waits_for_the_response_itself(
    engine: Engine, sharing: Sharing | None, budget: float, is_attended: bool
) -> None:
    deferral = make(engine, Source("anne"), budget)
    assert deferral.prepare(sharing).is_attended is is_attended
    assert (deferral.key is not None) is (sharing is not None)


def test_a_key_is_its_owners_or_else_that_of_the_user_whom_the_server_names(
    engine: Engine,
) -> None:
    def key(owner: str, user: str | None) -> Key | None:
        return make(engine, Source(owner, user=user)).prepare(Sharing("k")).key

    assert key("anne", "u") == key("anne", None)
    assert len({key("anne", "u"), key("", "u"), key("", "v"), key("", None)}) == 4


def test_a_mark_that_comes_before_it_is_recorded_needs_no_second_record(engine: Engine) -> None:
    deferral = make(engine)
    deferral.defer(Marking(retry=True, is_said=True))
    assert deferral.attach(record(deferral)) is not None


def test_what_a_handler_says_of_itself_is_recorded_in_time_until_the_202_is_sent(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    deferral, said, marks = make(engine), Marking(retry=True, is_said=True), list[Any]()

    def mark(operation: Operation, marking: Marking, *, in_time: bool = False) -> None:
        marks.append((operation.id, marking, in_time))

    monkeypatch.setattr(engine, "mark", mark)
    operation = record(deferral)
    deferral.defer(said)
    deferral.mark_again(operation)
    deferral.attach(operation)
    deferral.defer(said)
    assert marks == [(operation.id, said, True), (operation.id, said, False)]


def test_progress_that_the_record_has_is_no_news(engine: Engine) -> None:
    deferral = make(engine)
    deferral.report(Progress(5, 10))
    running = engine.running.of(attached(deferral))
    assert running is not None
    assert running.news is None


def test_progress_that_comes_while_it_is_recorded_is_not_lost(engine: Engine) -> None:
    deferral = make(engine)
    operation = record(deferral)
    deferral.report(Progress(5, 10))
    deferral.attach(operation)
    engine.beat()
    assert stored(engine, operation).progress == Progress(5, 10)


def test_a_mark_that_comes_while_it_is_recorded_is_recorded_before_it_is_attached(
    engine: Engine,
) -> None:
    deferral = make(engine)
    operation = record(deferral)
    deferral.defer(Marking(retry=True, is_said=True))
    assert deferral.attach(operation) is None
    assert deferral.is_held
    deferral.mark_again(operation)
    assert stored(engine, operation).repeatable
    assert deferral.attach(operation) is not None


def test_where_such_a_mark_can_not_be_recorded_the_operation_ends_unheard_of(
    engine: Engine, store: FaultyStore
) -> None:
    deferral = make(engine)
    operation = record(deferral)
    deferral.defer(Marking(retry=True, is_said=True))
    store.faults = frozenset({"swap"})
    with pytest.raises(StoreUnavailable):
        deferral.mark_again(operation)
    store.faults = frozenset()
    engine.beat()
    assert stored(engine, operation).reason is Reason.INTERRUPTED


def test_under_a_key_it_is_one_with_others_and_its_client_may_wait_for_the_response(
    engine: Engine,
) -> None:
    first, second = make(engine, Source("anne")), make(engine, Source("anne"))
    operation = first.record(Run(), first.prepare(Sharing("k"))).operation
    again = second.record(Run(), second.prepare(Sharing("k")))
    assert (again.operation.id, again.is_new) == (operation.id, False)
    assert first.key == second.key
    running = engine.running.of(operation)
    assert running is not None
    assert running.is_attended
    first.attach(operation)
    first.stop_attending()
    assert not running.is_attended


def test_a_request_whose_body_is_gone_has_no_key(engine: Engine) -> None:
    with pytest.raises(RaincheckError, match="somebody has read the body"):
        make(engine, Source("anne", body=None)).prepare(Sharing("k"))


def test_another_run_of_an_operation_records_at_once(engine: Engine) -> None:
    operation = record(make(engine))
    rerun = make(engine)
    assert rerun.resume(operation, Request("POST", "/reports")) is rerun.writer
    assert rerun.respond() is Where.STORE


# --- whose it is -------------------------------------------------------------------------------


def test_an_owner_who_is_known_later_is_found_when_its_handler_is_reached(engine: Engine) -> None:
    source = Source("")
    deferral = make(engine, source)
    operation = attached(deferral)
    assert deferral.is_nobodys
    source._askable = ("", "anne")
    deferral.report(Progress(1))
    engine.beat()
    assert stored(engine, operation).owner == "anne"
    assert not deferral.is_nobodys


def test_it_is_asked_for_again_where_that_may_block_and_once_only(engine: Engine) -> None:
    asked: list[bool] = []
    deferral = make(engine, ask_again=lambda: asked.append(True))
    attached(deferral)
    for _ in range(3):
        deferral.report(Progress(1))
    assert asked == [True]


def test_whose_response_begins_before_it_is_known_whose_it_is_has_to_be_given_up(
    engine: Engine,
) -> None:
    source = Source("")
    deferral = make(engine, source)
    attached(deferral)
    source._askable = ()
    assert deferral.find_owner() is None
    assert deferral.find_owner(is_last=True) is Reason.OWNER_UNKNOWN


def test_whose_owner_is_known_is_not_asked_for_again(engine: Engine) -> None:
    asked: list[bool] = []
    deferral = make(engine, Source("anne"), ask_again=lambda: asked.append(True))
    attached(deferral)
    deferral.report(Progress(1))
    assert asked == []


@pytest.mark.parametrize("limit", [1, 2])
def test_it_is_given_up_when_its_owner_turns_out_to_have_too_many(
    store: FaultyStore, limit: int
) -> None:
    engine, source = engine_on(store, limits={"operations_per_owner": limit}), Source("")
    accept(engine, owner="anne")
    deferral = make(engine, source)
    operation = attached(deferral)
    source._askable = ("anne",)
    deferral.reach()
    reason = Reason.TOO_MANY_OPERATIONS if limit == 1 else None
    assert stored(engine, operation).reason is reason
    assert deferral.is_cancelled is (limit == 1)


def test_what_is_let_go_has_no_owner_to_be_asked_for(engine: Engine) -> None:
    deferral = make(engine)
    attached(deferral)
    deferral.let_go()
    assert deferral.find_owner() is None
    assert deferral.find_owner(is_last=True) is Reason.OWNER_UNKNOWN
