"""Who is woken when, by a watch that says and by looks that show what a test has them."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from queue import Empty, SimpleQueue
from types import SimpleNamespace

import pytest

from raincheck.errors import StoreUnavailable
from raincheck.monitor import waiters as watching
from raincheck.monitor.listeners import AT_ONCE, Seen, Waiter
from raincheck.monitor.waiters import LINGER, REREAD, TICK, Surroundings, Watcher
from raincheck.operations.operation import State
from raincheck.testing.material import make_operation, run_in_fork
from tests.support.wsgi import until

PATIENCE = 30.0  # seconds after which a test has failed; a machine under load is slow
GOES_ON = Seen(make_operation(state=State.RUNNING))


class Script:
    """A watch that yields what it is told to, in time that passes only then or while one sleeps.

    Attributes:
        sights: What looks show, by operation; of others, that there is nothing to wait for.
        looks: The operations that were looked at.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.begun: SimpleQueue[None] = SimpleQueue()
        self.closed: SimpleQueue[None] = SimpleQueue()
        self.is_stopping = False
        self.sights: dict[str, Seen] = {}
        self.looks: list[str] = []
        self._lines: SimpleQueue[tuple[float, str | Exception | None]] = SimpleQueue()
        around = Surroundings(
            clock=lambda: self.now, sleep=self.sleep, is_stopping=lambda: self.is_stopping
        )
        self.watcher = Watcher(self._watch, self._see, around)

    def _see(self, operation_id: str) -> Seen:
        self.looks.append(operation_id)
        return self.sights.get(operation_id, Seen())

    def _watch(self, interval: float) -> Generator[str | None, None, None]:
        self.begun.put(None)
        try:
            while True:
                seconds, line = self._lines.get(timeout=PATIENCE)
                self.now += seconds
                if isinstance(line, Exception):
                    raise line
                yield line
        finally:
            self.closed.put(None)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        readers = [each._reader for each in self.watcher._listener._of.values()]
        while any(reader._soon or reader._later for reader in readers):
            time.sleep(0.001)  # in this time looks take none

    def say(self, hint: str | None) -> None:
        """Have the watch yield something at once."""
        self._lines.put((0, hint))

    def stay_quiet(self, seconds: float = TICK) -> None:
        """Have the watch yield None because it has heard nothing for so long."""
        self._lines.put((seconds, None))

    def fail(self, error: Exception | None = None) -> None:
        """Have the watch fail."""
        self._lines.put((0, error or StoreUnavailable("the connection was lost")))


class Woken:
    """Somebody who waits and counts how often it is woken."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[None] = SimpleQueue()

    def __call__(self) -> None:
        self._calls.put(None)

    def once(self) -> bool:
        """Tell whether it was woken, or is soon."""
        try:
            self._calls.get(timeout=PATIENCE)
            return True
        except Empty:
            return False

    @property
    def again(self) -> bool:
        """Whether it was woken more often than has been asked for."""
        return not self._calls.empty()


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    yield script
    script.watcher.close()
    script.say(None)  # its thread sees that it is over


@contextmanager
def waiting(script: Script, operation_id: str = "a") -> Iterator[tuple[Woken, Waiter]]:
    woken = Woken()
    with script.watcher.waiting(operation_id, woken) as waiter:
        yield woken, waiter


def catch_up(script: Script) -> None:
    """Wait until the thread has done with all that was said so far."""
    with waiting(script, "marker") as (marker, _):
        assert marker.once()
        script.say("marker")
        assert marker.once()


@pytest.fixture
def a(script: Script) -> Iterator[Woken]:
    """Wait for operation "a" with a watch that listens."""
    with waiting(script) as (woken, _):
        script.say(None)
        assert woken.once()
        yield woken


# --- hints -------------------------------------------------------------------------------------


def test_nothing_is_watched_until_somebody_waits(script: Script) -> None:
    assert script.begun.empty()
    with waiting(script):
        script.begun.get(timeout=PATIENCE)


def test_who_waits_is_woken_when_the_watch_listens_and_not_before(script: Script) -> None:
    with waiting(script) as (woken, _):
        script.begun.get(timeout=PATIENCE)
        assert not woken.again
        script.say(None)
        assert woken.once()


@pytest.mark.usefixtures("a")
def test_who_comes_while_the_watch_listens_is_woken_at_once(script: Script) -> None:
    with waiting(script, "b") as (woken, _):
        assert woken.once()


def test_a_hint_wakes_those_who_wait_for_it_and_nobody_else(script: Script, a: Woken) -> None:
    with waiting(script, "b") as (b, _), waiting(script, "b") as (other, _):
        assert b.once()
        assert other.once()
        script.say("b")
        assert b.once()
        assert other.once()
        catch_up(script)
        assert not a.again


def test_who_has_gone_is_not_woken(script: Script, a: Woken) -> None:
    with waiting(script) as (gone, _):
        assert gone.once()
    script.say("a")
    assert a.once()
    assert not gone.again


def test_a_hint_of_what_nobody_waits_for_does_nothing(script: Script, a: Woken) -> None:
    script.say("unheard of")
    catch_up(script)
    assert not a.again


@pytest.mark.parametrize("seconds", [0, TICK / 2])
def test_a_none_before_its_time_wakes_everybody(script: Script, a: Woken, seconds: float) -> None:
    script.stay_quiet(seconds)
    assert a.once()


def test_a_wake_that_fails_keeps_nobody_else_from_being_woken(
    script: Script, a: Woken, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("the loop is closed")

    with script.watcher.waiting("a", fail):
        script.say("a")
        assert a.once()
        catch_up(script)
    assert "could not be woken" in caplog.text


# --- looks -------------------------------------------------------------------------------------


def test_only_what_ends_the_waiting_wakes_anybody(script: Script) -> None:
    script.sights["a"] = GOES_ON
    with waiting(script) as (woken, waiter):
        script.say(None)
        for _ in range(3):
            script.say("a")
            catch_up(script)
        assert not woken.again
        assert script.looks.count("a") >= 2
        ended = script.sights["a"] = Seen(make_operation(state=State.SUCCEEDED))
        script.say("a")
        assert woken.once()
        assert waiter.seen is ended


@pytest.mark.parametrize("seen", [Seen(), Seen(failure=StoreUnavailable("it is down"))])
def test_what_is_gone_or_cannot_be_seen_is_not_waited_for(script: Script, seen: Seen) -> None:
    script.sights["a"] = seen
    with waiting(script) as (woken, waiter):
        script.say(None)
        assert woken.once()
        assert waiter.seen is seen


class Guest:
    """One of many who wait; it leaves when it is told to."""

    def __init__(self, script: Script) -> None:
        self._stack = ExitStack()
        self._woken, _ = self._stack.enter_context(waiting(script, "b"))

    @property
    def is_awake(self) -> bool:
        """Whether it was woken."""
        return self._woken.again

    def leave(self) -> None:
        self._stack.close()


def wake_a_crowd(script: Script, size: int) -> list[Guest]:
    """Have an operation end that so many wait for."""
    script.sights["b"] = GOES_ON
    crowd = [Guest(script) for _ in range(size)]
    catch_up(script)
    del script.sights["b"], script.looks[:]
    script.say("b")
    catch_up(script)
    return crowd


@pytest.mark.usefixtures("a")
def test_one_look_serves_all_who_wait_for_an_operation(script: Script) -> None:
    crowd = wake_a_crowd(script, AT_ONCE)
    assert all(guest.is_awake for guest in crowd)
    assert script.looks.count("b") == 1
    for guest in crowd:
        guest.leave()


@pytest.mark.usefixtures("a")
def test_many_are_woken_in_turn_as_those_before_them_leave(script: Script) -> None:
    crowd = wake_a_crowd(script, 3 * AT_ONCE)
    while crowd:
        awake = [guest for guest in crowd if guest.is_awake]
        assert 0 < len(awake) <= AT_ONCE
        crowd.remove(awake[0])
        awake[0].leave()


@pytest.mark.usefixtures("a")
@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_forgotten_when_others_leave_before_their_turn(script: Script, seed: int) -> None:
    crowd = wake_a_crowd(script, 3 * AT_ONCE)
    chance = random.Random(seed)  # noqa: S311 - no secret
    for guest in chance.sample(crowd, len(crowd) // 2):
        crowd.remove(guest)
        guest.leave()
    while crowd:
        guest = next(guest for guest in crowd if guest.is_awake)
        crowd.remove(guest)
        guest.leave()
    assert script.watcher.waiters == 1


# --- without hints -----------------------------------------------------------------------------


def test_who_hears_nothing_is_woken_every_few_seconds(script: Script, a: Woken) -> None:
    for _ in range(3):
        for _ in range(round(REREAD / TICK) - 1):
            script.stay_quiet()
        catch_up(script)
        assert not a.again
        script.stay_quiet()
        assert a.once()


def test_hints_of_others_put_off_nobody(script: Script, a: Woken) -> None:
    script.now += REREAD
    script.say("b")
    assert a.once()


def test_a_watch_that_fails_is_begun_again_and_everybody_reads_anew(
    script: Script, a: Woken
) -> None:
    script.begun.get(timeout=PATIENCE)
    before = script.now
    script.fail()
    script.closed.get(timeout=PATIENCE)
    script.begun.get(timeout=PATIENCE)
    assert script.now >= before + watching.PAUSES[0]
    assert not a.again
    script.say(None)
    assert a.once()


@pytest.mark.usefixtures("a")
def test_who_comes_while_a_watch_fails_is_woken_when_it_listens_again(script: Script) -> None:
    script.begun.get(timeout=PATIENCE)
    script.fail()
    script.begun.get(timeout=PATIENCE)
    with waiting(script, "b") as (b, _):
        assert not b.again
        script.say(None)
        assert b.once()


def test_while_a_watch_keeps_failing_everybody_is_woken_every_few_seconds(
    script: Script, a: Woken, caplog: pytest.LogCaptureFixture
) -> None:
    begin, failures = script.now, 12
    for _ in range(failures):
        script.fail()
    for _ in range(failures + 1):
        script.begun.get(timeout=PATIENCE)
    passed, (first, most) = script.now - begin, watching.PAUSES
    assert (failures - 5) * most < passed < failures * most + first
    for _ in range(int(passed / (REREAD + TICK))):
        assert a.once()
    assert caplog.text.count("operations are not watched now") == 1


@pytest.mark.usefixtures("a")
def test_a_watch_that_breaks_its_contract_is_a_defect_and_begun_again(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    script.begun.get(timeout=PATIENCE)
    script.fail(ZeroDivisionError("in a store"))
    script.begun.get(timeout=PATIENCE)
    assert "failed unexpectedly" in caplog.text
    assert "ZeroDivisionError" in caplog.text


# --- the end -----------------------------------------------------------------------------------


def test_the_watch_ends_some_time_after_the_last_one_has_gone(script: Script) -> None:
    with waiting(script) as (woken, _):
        script.say(None)
        assert woken.once()
    script.stay_quiet(LINGER)
    script.stay_quiet(TICK)
    script.closed.get(timeout=PATIENCE)
    with waiting(script) as (woken, _):
        script.say(None)
        assert woken.once()


@pytest.mark.usefixtures("a")
def test_the_watch_goes_on_while_somebody_waits(script: Script) -> None:
    script.stay_quiet(10 * LINGER)
    catch_up(script)
    assert script.closed.empty()


def test_closing_dismisses_all_who_wait_at_once(script: Script) -> None:
    with waiting(script) as (first, one), waiting(script, "b") as (second, other):
        script.watcher.close()
        assert first.again
        assert second.again
        assert one.seen is None
        assert other.seen is None
    script.say(None)
    script.closed.get(timeout=PATIENCE)


def test_who_comes_after_the_closing_waits_anew(script: Script) -> None:
    with waiting(script):
        script.watcher.close()
    script.say(None)
    script.closed.get(timeout=PATIENCE)
    with waiting(script) as (woken, waiter):
        script.say(None)
        assert woken.once()
        assert waiter.seen is not None


def test_closing_what_nobody_has_used_does_nothing(script: Script) -> None:
    script.watcher.close()
    script.watcher.close()
    assert script.begun.empty()


def test_all_are_dismissed_when_the_server_is_stopping(script: Script, a: Woken) -> None:
    script.sights["b"] = GOES_ON
    with waiting(script, "b") as (b, waiter):
        script.is_stopping = True
        script.stay_quiet()
        assert b.once()
        assert waiter.seen is None
    assert a.once()


def test_where_no_thread_can_be_started_nobody_waits(
    script: Script, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with waiting(script) as (woken, waiter):
        assert woken.again
        assert waiter.seen is None
    assert "can't start new thread" in caplog.text


@pytest.mark.server
@pytest.mark.usefixtures("a")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_has_a_watch_of_its_own(script: Script) -> None:
    def wait_there() -> None:
        with waiting(script) as (woken, waiter):
            script.say(None)
            assert woken.once()
            assert waiter.seen is not None

    assert run_in_fork(wait_there)


def test_threads_that_come_and_go_leave_nothing(script: Script, a: Woken) -> None:
    def come_and_go(n: int) -> None:
        for _ in range(200):
            with waiting(script, f"{n % 3}") as (woken, _):
                assert woken.once()

    threads = [threading.Thread(target=come_and_go, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        script.say("0")
        threads[0].join(0.001)
    catch_up(script)
    until(lambda: left_of_this_module() == [a])  # a thread may hold whom it has just woken


def left_of_this_module() -> list[object]:
    """Return what waiters that somebody still holds would wake; tests before have left others."""
    gc.collect()
    waiters = [thing for thing in gc.get_objects() if type(thing) is Waiter]
    return [waiter.wake for waiter in waiters if isinstance(waiter.wake, Woken)]


# --- the server's end --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ({"should_exit": False}, False),  # uvicorn
        ({"should_exit": True}, True),
        ({"alive": True}, False),  # gunicorn
        ({"alive": False}, True),
        ({}, False),
    ],
)
def test_a_servers_own_object_tells_that_it_is_stopping(
    monkeypatch: pytest.MonkeyPatch, server: dict[str, bool], expected: bool
) -> None:
    handler = SimpleNamespace(__self__=SimpleNamespace(**server))
    monkeypatch.setattr(signal, "getsignal", lambda number: handler)
    assert watching.server_is_stopping() is expected


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN, None, os.abort])
def test_other_handlers_of_signals_tell_nothing(
    monkeypatch: pytest.MonkeyPatch, handler: object
) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda number: handler)
    assert not watching.server_is_stopping()
