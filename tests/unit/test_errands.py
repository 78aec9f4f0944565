"""What a client asks of a store that does not answer: it is told in time, and the store let be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from raincheck.engine import errands
from raincheck.engine.errands import Errands, Pulse
from raincheck.engine.threads import Threads
from raincheck.errors import Overloaded, StoreError, StoreUnavailable

PATIENCE = 30.0  # seconds; a machine under load is slow


class Hanging:
    """A call that comes back when it may.

    Args:
        error: What it then raises; None: it returns "answer".
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self._error = error

    def __call__(self) -> str:
        self.begun.set()
        assert self.may_end.wait(PATIENCE)
        if self._error is not None:
            raise self._error
        return "answer"


@pytest.fixture(autouse=True)
def short_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "BOUND", 0.05)


@pytest.fixture
def run() -> Errands:
    return Errands()


@pytest.fixture
def hanging(run: Errands) -> Iterator[Hanging]:
    """An errand that is overdue."""
    hanging = Hanging()
    with pytest.raises(StoreUnavailable):
        run.run(hanging)
    yield hanging
    hanging.may_end.set()


def fails(error: Exception) -> Callable[[], str]:
    def work() -> str:
        raise error

    return work


def until_open(run: Errands) -> None:
    """Wait until an errand is run again: a thread has to come to its end."""
    end = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        try:
            assert run.run(lambda: "answer") == "answer"
            return
        except StoreUnavailable:
            end.wait(0.01)
    raise AssertionError("the store's return is not noticed")


def test_an_errand_returns_what_the_store_answers_and_raises_what_it_refuses(run: Errands) -> None:
    assert run.run(lambda: "answer") == "answer"
    with pytest.raises(StoreError, match="refused"):
        run.run(fails(StoreError("refused")))


def test_while_one_is_overdue_no_other_is_begun(run: Errands, hanging: Hanging) -> None:
    another = Hanging()
    with pytest.raises(StoreUnavailable):
        run.run(another)
    assert not another.begun.is_set()


def test_a_late_answer_says_that_the_store_is_back(run: Errands, hanging: Hanging) -> None:
    hanging.may_end.set()
    until_open(run)


def test_after_a_while_one_finds_out_whether_the_store_is_back_and_the_others_do_not_wait(
    run: Errands, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    run._refuse_for(0)
    monkeypatch.setattr(errands, "BOUND", PATIENCE)
    probe = Hanging()
    thread = threading.Thread(target=lambda: run.run(probe))
    thread.start()
    assert probe.begun.wait(PATIENCE)
    with pytest.raises(StoreUnavailable):
        run.run(lambda: "answer")
    probe.may_end.set()
    thread.join(PATIENCE)
    assert run.run(lambda: "answer") == "answer"


def test_what_comes_too_late_is_handed_to_who_takes_it_back(run: Errands) -> None:
    hanging, taken, is_taken = Hanging(), list[str](), threading.Event()

    def take(answer: str) -> None:
        taken.append(answer)
        is_taken.set()

    with pytest.raises(StoreUnavailable):
        run.run(hanging, late=take)
    assert not taken
    hanging.may_end.set()
    assert is_taken.wait(PATIENCE)
    assert taken == ["answer"]


def test_what_comes_in_time_is_not_taken_back(run: Errands) -> None:
    taken = list[str]()
    assert run.run(lambda: "answer", late=taken.append) == "answer"
    assert not taken


@pytest.mark.parametrize("error", [StoreUnavailable("down"), StoreError("refused")])
def test_a_failure_that_nobody_has_waited_for_has_the_store_asked_again(
    run: Errands, error: Exception
) -> None:
    with pytest.raises(StoreError):
        run.run(fails(error))
    assert run.run(lambda: "answer") == "answer"


@pytest.mark.parametrize("error", [StoreUnavailable("down"), TimeoutError("a driver's own")])
def test_after_a_failure_that_took_its_time_the_store_is_let_be(
    run: Errands, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errands, "QUICK", -1.0)
    with pytest.raises(type(error)):
        run.run(fails(error))
    with pytest.raises(StoreUnavailable):
        run.run(lambda: "answer")


NOT_OF_THE_STORE = [Overloaded("operations", 1), ValueError("a defect of a handler's")]


@pytest.mark.parametrize("error", NOT_OF_THE_STORE, ids=["limit", "defect"])
def test_who_was_to_find_out_and_met_something_else_leaves_it_to_the_next(
    run: Errands, hanging: Hanging, error: Exception
) -> None:
    run._refuse_for(0)
    with pytest.raises(type(error)):
        run.run(fails(error))
    probe = Hanging()
    with pytest.raises(StoreUnavailable):
        run.run(probe)
    assert probe.begun.is_set()  # so it is not known that the store is back
    with pytest.raises(StoreUnavailable):
        run.run(fails(error))
    probe.may_end.set()


@pytest.mark.parametrize("error", NOT_OF_THE_STORE, ids=["limit", "defect"])
def test_what_others_do_wrong_does_not_count_against_the_store(
    run: Errands, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errands, "QUICK", -1.0)
    with pytest.raises(type(error)):
        run.run(fails(error))
    assert run.run(lambda: "answer") == "answer"


def test_a_long_errand_within_which_the_store_answers_is_waited_for(
    run: Errands, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulse, pause = Pulse(), threading.Event()
    monkeypatch.setattr(errands, "BOUND", 0.5)  # a machine under load must not take it for silence

    def work() -> str:
        for _ in range(6):
            pause.wait(0.1)
            pulse.beat()
        return "answer"

    assert run.run(work, pulse=pulse) == "answer"


def test_what_may_take_its_time_does_not_have_the_store_let_be(run: Errands) -> None:
    slow = Hanging()
    with pytest.raises(StoreUnavailable):
        run.run(slow, may_be_slow=True)
    assert run.run(lambda: "answer") == "answer"
    slow.may_end.set()


def test_where_there_can_be_no_thread_an_errand_is_run_in_this_one(
    run: Errands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(errands, "_THREADS", Threads())  # none is idle there
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert run.run(threading.get_ident) == threading.get_ident()
