"""What becomes of a request: the table of its fates, and what is said before, while and after."""

from __future__ import annotations

import pytest

from raincheck.engine.engine import Engine
from raincheck.engine.fate import FATES, Fate, Moment, Where
from raincheck.errors import OperationCancelled
from raincheck.handler import Marking
from raincheck.operations.operation import Progress, Reason, State
from tests.unit.deferrals import attached, engine_on, make, record
from tests.unit.engines import FaultyStore, Time, stored

OPEN, HELD, KEPT, ANSWERED, DEFERRED, LEFT = Fate
NEVER = None

# fate before: after its budget is over, it is recorded, refused, a response, its end, it is left
TABLE = {
    OPEN: (HELD, DEFERRED, KEPT, ANSWERED, ANSWERED, LEFT),
    HELD: (HELD, DEFERRED, KEPT, HELD, HELD, HELD),
    KEPT: (KEPT, NEVER, KEPT, ANSWERED, ANSWERED, KEPT),
    ANSWERED: (ANSWERED, NEVER, ANSWERED, ANSWERED, ANSWERED, ANSWERED),
    DEFERRED: (DEFERRED, NEVER, DEFERRED, DEFERRED, DEFERRED, LEFT),
    LEFT: (LEFT, NEVER, LEFT, LEFT, LEFT, LEFT),
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


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(clock=Time())


@pytest.fixture
def engine(store: FaultyStore) -> Engine:
    return engine_on(store)


# --- where its response goes -------------------------------------------------------------------


def test_a_response_in_time_is_the_clients_and_no_mark_comes_after_it(engine: Engine) -> None:
    deferral = make(engine)
    assert deferral.where is Where.CLIENT
    assert deferral.respond() is Where.CLIENT
    deferral.defer(Marking())
    assert not deferral.hold()
    assert deferral.fate is ANSWERED


def test_in_the_beginning_nothing_has_happened(engine: Engine) -> None:
    deferral = make(engine)
    assert not deferral.has_ended
    assert not deferral.is_cancelled
    assert not deferral.is_due
    deferral.begin_passing()  # its client has not been told that it may wait
    assert not deferral.is_passing


def test_when_its_handler_is_over_it_is_too_late(engine: Engine) -> None:
    deferral = make(engine)
    deferral.end()
    assert not deferral.hold()
    assert deferral.fate is ANSWERED


def test_a_marked_handler_is_due_and_whoever_waits_is_woken(engine: Engine) -> None:
    woken: list[bool] = []
    deferral = make(engine)
    deferral._wake = lambda: woken.append(deferral.is_due)
    deferral.defer(Marking())
    assert woken == [True]


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
