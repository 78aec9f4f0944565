"""How often a server is asked before it is said to fail, and what a frozen process makes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from raincheck.errors import StoreUnavailable
from raincheck.stores import server_clock
from raincheck.stores.patience import ENOUGH, PAUSES, PROBE, STALE, Patience
from raincheck.stores.server_clock import ServerClock, measure

TIMEOUT = 5.0


@dataclass
class Clocks:
    """Time that passes on command."""

    monotonic: float = 1000.0
    wall: float = 1_000_000.0

    def pass_by(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    time = SimpleNamespace(
        monotonic=lambda: clocks.monotonic, time=lambda: clocks.wall, sleep=clocks.pass_by
    )
    for module in ("engine.awake", "stores.patience", "stores.server_clock"):
        monkeypatch.setattr(f"raincheck.{module}.time", time)
    return clocks


@dataclass
class Server:
    """What becomes of each attempt: how long it takes, and whether it fails.

    Attributes:
        slept: Seconds that the machine sleeps in the middle of each attempt.
    """

    clocks: Clocks
    attempts: list[tuple[float, bool]]
    slept: float = 0.0
    asked: int = field(default=0, init=False)

    def __call__(self) -> str:
        seconds, fails = self.attempts[min(self.asked, len(self.attempts) - 1)]
        self.asked += 1
        self.clocks.pass_by(seconds)
        self.clocks.wall += self.slept
        if fails:
            raise StoreUnavailable("no answer in time")
        return "answer"


BROKEN, HANGS, FROZEN, ANSWERS = (0.0, True), (TIMEOUT, True), (60.0, True), (0.001, False)


@pytest.mark.parametrize(
    ("attempts", "asked", "works"),
    [
        ([ANSWERS], 1, True),
        ([BROKEN, BROKEN, ANSWERS], 3, True),
        ([BROKEN], 1 + len(PAUSES), False),
        ([HANGS], 1, False),
        ([(ENOUGH + 0.1, True), ANSWERS], 1, False),
        ([FROZEN, ANSWERS], 2, True),
        ([FROZEN, BROKEN, BROKEN, ANSWERS], 4, True),
        ([BROKEN, FROZEN, ANSWERS], 3, True),
        ([FROZEN, HANGS], 2, False),
        ([FROZEN], 2, False),  # for once: it might be no freeze but a slow server
    ],
)
def test_an_attempt_that_failed_in_a_frozen_process_is_made_once_more(
    clocks: Clocks, attempts: list[tuple[float, bool]], asked: int, works: bool
) -> None:
    server = Server(clocks, attempts)
    patience = Patience(TIMEOUT + 1)
    if works:
        assert patience.call(server) == "answer"
    else:
        with pytest.raises(StoreUnavailable):
            patience.call(server)
    assert server.asked == asked


def test_an_attempt_within_which_the_machine_slept_is_made_once_more(clocks: Clocks) -> None:
    server = Server(clocks, [HANGS, ANSWERS], slept=3600.0)
    assert Patience(TIMEOUT + 1).call(server) == "answer"


def down(clocks: Clocks) -> Patience:
    patience = Patience(TIMEOUT + 1)
    with pytest.raises(StoreUnavailable):
        patience.call(Server(clocks, [BROKEN]))
    return patience


def test_a_server_that_is_down_is_asked_once_each_moment(clocks: Clocks) -> None:
    patience, server = down(clocks), Server(clocks, [BROKEN])
    for pause, asked in ((0.0, 0), (PROBE, 1), (0.0, 1), (PROBE, 2)):
        clocks.pass_by(pause)
        with pytest.raises(StoreUnavailable):
            patience.call(server)
        assert server.asked == asked


@pytest.mark.parametrize("slept", [False, True])
def test_what_was_known_before_a_freeze_is_asked_anew_as_often_as_at_first(
    clocks: Clocks, slept: bool
) -> None:
    patience, server = down(clocks), Server(clocks, [BROKEN, BROKEN, ANSWERS])
    clocks.wall += STALE + 1
    clocks.monotonic += 0.0 if slept else STALE + 1
    assert patience.call(server) == "answer"


class Probe:
    """A thread that asks, and goes on asking until it is told how that ends."""

    def __init__(self, patience: Patience) -> None:
        self.asks, self.is_over, self.fails = threading.Event(), threading.Event(), False
        self._thread = threading.Thread(target=self._run, args=(patience,))
        self._thread.start()
        assert self.asks.wait(30)

    def _run(self, patience: Patience) -> None:
        try:
            patience.call(self._work)
        except StoreUnavailable:
            assert self.fails

    def _work(self) -> None:
        self.asks.set()
        assert self.is_over.wait(30)
        if self.fails:
            raise StoreUnavailable("still down")

    def end(self, *, fails: bool) -> None:
        self.fails = fails
        self.is_over.set()
        self._thread.join(30)


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(work())
        except StoreUnavailable as error:
            outcomes.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcomes


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_freeze_nobody_is_told_of_a_failure_before_somebody_has_asked_anew(
    clocks: Clocks, fails: bool
) -> None:
    patience, server = down(clocks), Server(clocks, [ANSWERS])
    clocks.pass_by(STALE + 1)
    probe = Probe(patience)
    thread, outcomes = in_thread(lambda: patience.call(server))
    thread.join(0.1)
    assert not outcomes, "it went by what was known before the freeze"
    probe.end(fails=fails)
    thread.join(30)
    assert [isinstance(outcome, StoreUnavailable) for outcome in outcomes] == [fails]


def test_beside_one_who_probes_a_server_that_has_just_failed_nobody_waits(clocks: Clocks) -> None:
    patience = down(clocks)
    clocks.pass_by(PROBE)
    probe = Probe(patience)
    with pytest.raises(StoreUnavailable):
        patience.call(Server(clocks, [ANSWERS]))
    probe.end(fails=False)


# --- the server's clock ------------------------------------------------------------------------


def test_a_server_is_asked_again_for_the_time_if_this_process_was_frozen_meanwhile(
    clocks: Clocks,
) -> None:
    freezes = iter([60.0, 0.0])

    def tell() -> float:
        told = clocks.wall
        clocks.pass_by(next(freezes))
        return told

    assert measure(tell)[1] == pytest.approx(clocks.wall - clocks.monotonic)


def test_a_server_is_asked_for_the_time_anew_when_the_machine_has_slept(clocks: Clocks) -> None:
    clock = ServerClock(lambda: clocks.wall - clocks.monotonic)
    assert clock() == clocks.wall
    clocks.wall += 60.0  # the monotonic clock stood still
    assert clock() == clocks.wall


def test_a_time_from_before_the_machine_slept_is_not_told_where_the_server_does_not_answer(
    clocks: Clocks,
) -> None:
    def ask() -> float:
        if is_down:
            raise StoreUnavailable("down")
        return clocks.wall - clocks.monotonic

    is_down = False
    clock = ServerClock(ask)
    clock()
    is_down = True
    clocks.pass_by(server_clock.CLOCK_AGE + 1)
    assert clock() == clocks.wall, "as long as nothing speaks against it, it is good"
    clocks.wall += 60.0
    with pytest.raises(StoreUnavailable):
        clock()
