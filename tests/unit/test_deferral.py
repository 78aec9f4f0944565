"""What becomes of a request: the table of its fates, and what is said before, while and after."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from raincheck.config.policy import Candidate
from raincheck.engine.deferral import FATES, Deferral, Fate, Moment, Where
from raincheck.engine.engine import Engine
from raincheck.engine.idempotency import Sharing
from raincheck.engine.start import Captured
from raincheck.errors import OperationCancelled, RaincheckError, StoreUnavailable
from raincheck.handler import Marking
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, Progress, Reason, State
from tests.unit.engines import FaultyStore, Run, Time, make_engine, stored

OPEN, HELD, KEPT, ANSWERED, DEFERRED = Fate
NEVER = None

# fate before: after its budget is over, it is recorded, it is refused, a response, its end
TABLE = {
    OPEN: (HELD, DEFERRED, KEPT, ANSWERED, ANSWERED),
    HELD: (HELD, DEFERRED, KEPT, HELD, HELD),
    KEPT: (KEPT, NEVER, KEPT, ANSWERED, ANSWERED),
    ANSWERED: (ANSWERED, NEVER, ANSWERED, ANSWERED, ANSWERED),
    DEFERRED: (DEFERRED, NEVER, DEFERRED, DEFERRED, DEFERRED),
}
PAIRS = [
    (before, moment, after)
    for before, row in TABLE.items()
    for moment, after in zip(Moment, row, strict=True)
]


@pytest.mark.parametrize(("before", "moment", "after"), PAIRS)
def test_each_moment_leads_from_each_fate_to_one(
    before: Fate, moment: Moment, after: Fate | None
) -> None:
    assert FATES[moment].get(before) is after


class Source:
    """A request that says what a test has it say."""

    def __init__(self, *askable: Any, body: tuple[bytes, ...] | None = ()) -> None:
        self._askable = askable
        self._body = body
        self.is_authenticated = False

    def askable(self) -> Iterator[Any]:
        yield from self._askable

    def trusted_user(self) -> str | None:
        return None

    def describe(self) -> Request:
        return Request("POST", "/app/reports", root_path="/app")

    def body(self) -> tuple[bytes, ...] | None:
        return self._body

    def capture_request(self) -> Captured | None:
        return None


class Context:
    """A gateway, as far as a deferral needs one; `owner` names who is asked about."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def owner(self, source: Any) -> str | None:
        return source or None

    def webhook(self, source: Any) -> str | None:
        return None


@pytest.fixture
def store() -> FaultyStore:
    time = Time()
    return FaultyStore(clock=time)


@pytest.fixture
def engine(store: FaultyStore) -> Engine:
    return make_engine(store, Time(), owner=lambda source: source or None)


def make(
    engine: Engine, source: Source | None = None, budget: float = 2, **options: Any
) -> Deferral:
    lock = threading.RLock()
    return Deferral(
        Context(engine),
        Candidate(budget, **options.pop("candidate", {})),
        "POST",
        "/reports",
        source or Source(""),
        lock=lock,
        wake=lambda: None,
        **options,
    )


def record(deferral: Deferral) -> Operation:
    deferral.hold()
    return deferral.record(Run(), deferral.prepare()).operation


def attached(deferral: Deferral) -> Operation:
    operation = record(deferral)
    assert deferral.attach(operation) is not None
    return operation


# --- where its response goes -------------------------------------------------------------------


def test_a_response_in_time_is_the_clients_and_no_mark_comes_after_it(engine: Engine) -> None:
    deferral = make(engine)
    assert deferral.where is Where.CLIENT
    assert deferral.respond() is Where.CLIENT
    deferral.defer(Marking())
    assert not deferral.hold()
    assert deferral.fate is ANSWERED


def test_who_is_told_that_it_is_too_late_defers_nothing(engine: Engine) -> None:
    deferral = make(engine, is_answered=True)
    deferral.defer(Marking())
    assert deferral.fate is ANSWERED


def test_while_it_is_being_recorded_a_response_waits_and_then_goes_into_the_store(
    engine: Engine,
) -> None:
    deferral = make(engine)
    operation = record(deferral)
    assert (deferral.respond(), deferral.where) == (Where.WAIT, Where.WAIT)
    writer = deferral.attach(operation)
    assert deferral.respond() is Where.STORE
    assert writer is deferral.writer
    assert deferral.operation is operation


def test_what_could_not_be_recorded_stays_synchronous_whoever_is_marked(engine: Engine) -> None:
    deferral = make(engine)
    assert deferral.hold()
    deferral.keep()
    deferral.defer(Marking())
    assert not deferral.hold()
    assert (deferral.fate, deferral.respond()) == (KEPT, Where.CLIENT)


def test_a_marked_handler_that_has_failed_at_once_is_held_all_the_same(engine: Engine) -> None:
    deferral = make(engine)
    deferral.defer(Marking())
    deferral.end()
    assert deferral.is_held


def test_whoever_waits_is_woken_by_all_that_happens(engine: Engine) -> None:
    woken: list[Fate] = []
    deferral = make(engine)
    deferral._wake = lambda: woken.append(deferral.fate)
    operation = attached(deferral)
    deferral.note_due()
    deferral.begin_passing()
    deferral.give_up(Reason.TIMEOUT)
    assert woken == [HELD, DEFERRED, DEFERRED, DEFERRED, DEFERRED]
    assert stored(engine, operation).reason is Reason.TIMEOUT


# --- becoming an operation ---------------------------------------------------------------------


def test_it_is_recorded_with_what_is_known_of_it(engine: Engine) -> None:
    deferral = make(engine, Source("", "anne"))
    deferral.report(Progress(1, 10))
    operation = stored(engine, attached(deferral))
    assert (operation.method, operation.route, operation.owner) == ("POST", "/reports", "anne")
    assert operation.progress == Progress(1, 10)


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


# --- a client that waits for the response itself -----------------------------------------------


@pytest.mark.parametrize("is_due", [False, True])
@pytest.mark.parametrize("in_person", [False, True])
def test_a_response_goes_to_the_client_too_unless_it_has_been_told_to_poll(
    engine: Engine, is_due: bool, in_person: bool
) -> None:
    deferral = make(engine, candidate={"in_person": in_person})
    deferral.attend()
    if is_due:
        deferral.note_due()
    deferral.begin_passing()
    assert deferral.is_passing is (in_person or not is_due)


def test_who_attends_no_longer_is_passed_nothing_that_begins_later(engine: Engine) -> None:
    deferral = make(engine)
    deferral.attend()
    deferral.stop_attending()
    deferral.begin_passing()
    assert not deferral.is_passing


# --- what its handler and others say -----------------------------------------------------------


def test_a_marked_handler_is_not_called_for_an_operation_that_was_given_up(
    engine: Engine,
) -> None:
    deferral = make(engine)
    attached(deferral)
    deferral.give_up(Reason.TIMEOUT)
    with pytest.raises(OperationCancelled):
        deferral.defer(Marking())
    assert deferral.is_cancelled
    assert deferral.has_ended


def test_but_it_is_where_the_response_is_complete(engine: Engine) -> None:
    deferral = make(engine)
    operation = record(deferral)
    writer = deferral.attach(operation)
    assert writer is not None
    writer.start(200, ())
    writer.complete()
    deferral.defer(Marking())
    assert stored(engine, operation).state is State.SUCCEEDED


def test_a_cancellation_stops_the_handler(engine: Engine) -> None:
    stopped: list[bool] = []
    deferral = make(engine, stop=lambda: stopped.append(True))
    deferral.request_cancel()
    assert (deferral.is_cancelled, stopped) == (True, [True])


def test_what_is_let_go_reaches_nobody_any_more(engine: Engine) -> None:
    reached: list[bool] = []
    deferral = make(engine, stop=lambda: reached.append(True))
    deferral.let_go()
    deferral.request_cancel()
    deferral.report(Progress(1))
    assert (reached, deferral.source) == ([], None)


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
