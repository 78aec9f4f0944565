"""Which of a server's threads wait, and who is called away when all of them do."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

import anyio.to_thread
import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async

from raincheck.testing.material import run_in_fork
from raincheck.wsgi.waiting import LEAST, Turn, Waiting, serving_threads

_T = TypeVar("_T")


@contextmanager
def pool(*names: str) -> Iterator[None]:
    """Have threads of these names, which do nothing."""
    end = threading.Event()
    threads = [threading.Thread(target=end.wait, args=(30,), name=name) for name in names]
    for thread in threads:
        thread.start()
    yield
    end.set()
    for thread in threads:
        thread.join(10)


def within(name: str, work: Callable[[], _T]) -> _T:
    """Do something in a thread of that name."""
    found: list[_T] = []
    thread = threading.Thread(target=lambda: found.append(work()), name=name)
    thread.start()
    thread.join(10)
    return found[0]


class Crowd:
    """Threads of a server of so many, of which those wait that are told to.

    Attributes:
        called: The names of those who were called away, in turn.
    """

    def __init__(self, threads: int = 4, most: int | None = None) -> None:
        self.called: list[str] = []
        self._waiting = Waiting(most)
        self._turns: dict[str, Turn] = {}
        self._names = [f"serving of a test-{n}" for n in range(threads)]

    def begin(self, name: str, *, may_let_go: bool = True) -> None:
        """Have a request waited for."""
        wake = partial(self.called.append, name) if may_let_go else None
        self._turns[name] = self._within(partial(self._waiting.begin, wake))

    def begin_poll(self, name: str) -> bool:
        """Have a poll wait; tells whether it may."""
        turn = self._within(partial(self._waiting.begin_poll, partial(self.called.append, name)))
        if turn is not None:
            self._turns[name] = turn
        return turn is not None

    def ripen(self, *names: str) -> None:
        """Have the least time of some be over."""
        for name in names:
            self._turns[name].ripen()

    def end(self, *names: str) -> None:
        """Have some wait no longer."""
        for name in names:
            self._turns.pop(name).__exit__()

    def close(self) -> None:
        self.end(*self._turns)

    def _within(self, work: Callable[[], _T]) -> _T:
        own, *others = self._names
        with pool(*others):
            return within(own, work)


@pytest.fixture
def crowds() -> Iterator[Callable[..., Crowd]]:
    """Return what makes crowds; at the end nobody waits."""
    made: list[Crowd] = []

    def make(*arguments: Any, **options: Any) -> Crowd:
        made.append(Crowd(*arguments, **options))
        return made[-1]

    yield make
    for crowd in made:
        crowd.close()


@pytest.mark.parametrize(
    ("own", "others", "count"),
    [
        ("waitress-3", ["waitress-0", "waitress-1", "waitress-2"], 4),
        ("CP Server Thread-7", ["CP Server Thread-6", "CP Server Main"], 2),
        ("ThreadPoolExecutor-907_3", ["ThreadPoolExecutor-907_0", "ThreadPoolExecutor-1_0"], 2),
        ("uWSGIWorker1Core1", ["uWSGIWorker1Core0", "uWSGIWorker2Core0"], 2),
        (
            "Dummy-9 (of a test)",
            ["Dummy-8 (of a test)", "raincheck-1", "raincheck-2", "raincheck-heartbeat"],
            2,
        ),
        ("alone", ["alone-1", "waitress-0"], 1),
    ],
)
def test_the_servers_threads_are_those_named_alike_but_for_their_number(
    own: str, others: list[str], count: int
) -> None:
    with pool(*others):
        assert within(own, serving_threads) == count


@pytest.mark.parametrize("number", [1, 10])
def test_a_server_with_a_thread_for_each_request_has_no_pool(number: int) -> None:
    own = f"Thread-{number} (process_request_thread)"
    with pool("Thread-2 (process_request_thread)"):
        assert within(own, serving_threads) is None


@pytest.mark.parametrize(("is_patched", "count"), [(True, None), (False, 1)])
def test_greenlets_are_no_pool(
    monkeypatch: pytest.MonkeyPatch, is_patched: bool, count: int | None
) -> None:
    monkey = SimpleNamespace(is_module_patched=lambda name: is_patched and name == "threading")
    monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)
    assert within("alone", serving_threads) == count


@pytest.mark.parametrize(("is_patched", "count"), [(True, None), (False, 1)])
def test_greenlets_of_eventlet_are_no_pool(
    monkeypatch: pytest.MonkeyPatch, is_patched: bool, count: int | None
) -> None:
    patcher = SimpleNamespace(is_monkey_patched=lambda name: is_patched and name == "thread")
    monkeypatch.setitem(sys.modules, "eventlet.patcher", patcher)
    assert within("alone", serving_threads) == count


@pytest.mark.parametrize(("own", "count"), [("Dummy-3", 15), ("waitress-0", 1)])
def test_threads_of_apache_are_as_many_as_it_says_however_few_have_been_seen(
    monkeypatch: pytest.MonkeyPatch, own: str, count: int
) -> None:
    monkeypatch.setitem(sys.modules, "mod_wsgi", SimpleNamespace(threads_per_process=15))
    assert within(own, serving_threads) == count


def test_threads_of_anyio_are_as_many_as_it_may_start() -> None:
    async def ask() -> int | None:
        return await anyio.to_thread.run_sync(serving_threads)

    assert anyio.run(ask) == 40


# --- who is called away ------------------------------------------------------------------------


def test_nobody_is_called_before_the_least_time_is_over(crowds: Callable[..., Crowd]) -> None:
    crowd = crowds(4)
    for name in "abcd":
        crowd.begin(name)
    assert crowd.called == []
    crowd.ripen("a")
    assert crowd.called == ["a"]


def test_nobody_is_called_while_a_thread_is_left(crowds: Callable[..., Crowd]) -> None:
    crowd = crowds(4)
    for name in "abc":
        crowd.begin(name)
        crowd.ripen(name)
    assert crowd.called == []


def test_when_the_last_thread_waits_who_has_waited_longest_is_called(
    crowds: Callable[..., Crowd],
) -> None:
    crowd = crowds(4)
    for name in "abc":
        crowd.begin(name)
    crowd.ripen("b", "a")
    crowd.begin("d")
    assert crowd.called == ["a"]
    crowd.ripen("c", "d")
    assert crowd.called == ["a"], "a thread is on its way"
    crowd.end("a")
    crowd.begin("e")
    assert crowd.called == ["a", "b"]


def test_who_was_answered_in_time_makes_room(crowds: Callable[..., Crowd]) -> None:
    crowd = crowds(4)
    for name in "abcd":
        crowd.begin(name)
    crowd.end("b")
    crowd.ripen("a", "c", "d")
    assert crowd.called == []


def test_who_can_not_let_go_takes_a_thread_and_another_one_is_called(
    crowds: Callable[..., Crowd],
) -> None:
    """A promotion that has failed, or a handler that only its mark may defer."""
    crowd = crowds(2)
    crowd.begin("a", may_let_go=False)
    crowd.begin("b")
    crowd.ripen("a", "b")
    assert crowd.called == ["b"]


def test_who_is_called_and_stays_has_the_next_one_called(crowds: Callable[..., Crowd]) -> None:
    crowd = crowds(2)
    crowd.begin("a")
    crowd.begin("b")
    crowd.ripen("a", "b")
    assert crowd.called == ["a"]
    crowd.end("a")
    crowd.begin("a", may_let_go=False)
    assert crowd.called == ["a", "b"]


def test_the_only_thread_waits_as_long_as_it_likes(crowds: Callable[..., Crowd]) -> None:
    crowd = crowds(1)
    crowd.begin("a")
    crowd.ripen("a")
    assert crowd.called == []


def test_where_each_request_has_a_thread_nobody_is_called(
    monkeypatch: pytest.MonkeyPatch, crowds: Callable[..., Crowd]
) -> None:
    monkeypatch.setattr("raincheck.wsgi.waiting.serving_threads", lambda: None)
    crowd, many = crowds(1), [str(n) for n in range(50)]
    for name in many:
        crowd.begin(name)
    crowd.ripen(*many)
    assert crowd.begin_poll("poll")
    assert crowd.called == []


@pytest.mark.parametrize("most", [0, 1, 3])
def test_a_number_that_was_chosen_holds_whatever_the_threads_are(
    crowds: Callable[..., Crowd], most: int
) -> None:
    crowd = crowds(1, most=most)
    for name in "abcde":
        crowd.begin(name)
    assert crowd.called == []
    crowd.ripen(*"abcde")
    assert crowd.called == list("abcde"[: 5 - most])


def test_middlewares_of_one_process_share_its_threads(crowds: Callable[..., Crowd]) -> None:
    one, other = crowds(2), crowds(2)
    one.begin("a")
    other.begin("b")
    other.ripen("b")
    assert (one.called, other.called) == ([], ["b"])
    one.begin("c")
    one.ripen("a")
    assert (one.called, other.called) == (["a"], ["b"])


def test_servers_of_one_process_have_threads_of_their_own(crowds: Callable[..., Crowd]) -> None:
    one, other = crowds(2), crowds(2)
    other._names = ["another server-1", "another server-2"]
    one.begin("a")
    other.begin("b")
    one.ripen("a")
    other.ripen("b")
    assert one.called == other.called == []


# --- polls -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("threads", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (8, 4), (9, 4)])
def test_polls_may_wait_in_half_of_the_threads_and_in_no_only_one(
    crowds: Callable[..., Crowd], threads: int, most: int
) -> None:
    crowd = crowds(threads)
    assert sum(crowd.begin_poll(str(n)) for n in range(9)) == most


def test_polls_do_not_wait_where_requests_do(crowds: Callable[..., Crowd]) -> None:
    crowd = crowds(4)
    crowd.begin("a")
    crowd.begin("b")
    assert not crowd.begin_poll("c")
    crowd.end("a")
    assert crowd.begin_poll("c")


def test_a_poll_is_called_at_once_and_before_any_request(crowds: Callable[..., Crowd]) -> None:
    crowd = crowds(4)
    crowd.begin("a")
    crowd.ripen("a")
    assert crowd.begin_poll("poll")
    crowd.begin("b")
    assert crowd.called == []
    crowd.begin("c")
    assert crowd.called == ["poll"]


# --- time, threads, forks ----------------------------------------------------------------------


class Recorder:
    """Waits without taking any time."""

    def __init__(self, *, is_answered: bool = False) -> None:
        self.waited: list[float | None] = []
        self._is_answered = is_answered

    def wait(self, seconds: float | None) -> bool:
        self.waited.append(seconds)
        return self._is_answered


@pytest.mark.parametrize(
    ("seconds", "waits"),
    [(0.5, [0.5]), (LEAST, [LEAST]), (10, [LEAST, 10 - LEAST]), (None, [None])],
)
def test_a_request_waits_its_least_time_and_then_the_rest(
    seconds: float | None, waits: list[float | None]
) -> None:
    recorder = Recorder()
    with Waiting(5).begin(lambda: None) as turn:
        turn.wait(recorder.wait, seconds)
    assert recorder.waited == waits


def test_what_is_answered_in_the_least_time_is_waited_for_no_longer() -> None:
    recorder = Recorder(is_answered=True)
    with Waiting(0).begin(lambda: None) as turn:
        turn.wait(recorder.wait, 10)
    assert (recorder.waited, turn.is_called) == ([LEAST], False)


def test_many_threads_at_once_never_exceed_the_number() -> None:
    waiting, barrier = Waiting(5), threading.Barrier(16)
    called: list[int] = []

    def one(number: int) -> Turn:
        barrier.wait(10)
        turn = waiting.begin(lambda: called.append(number))
        turn.ripen()
        return turn

    with ThreadPoolExecutor(16) as executor:
        turns = list(executor.map(one, range(16)))
    assert sum(turn.is_called for turn in turns) == len(called) == 11


@pytest.mark.server
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_who_waits_in_the_parent_counts_nowhere_in_a_fork() -> None:
    waiting, called = Waiting(1), list[str]()

    def wait_there() -> None:
        with waiting.begin(partial(called.append, "child")) as turn:
            turn.ripen()
            assert called == []

    with waiting.begin(partial(called.append, "parent")):
        assert run_in_fork(wait_there)


def test_sync_code_of_an_event_loop_has_no_pool() -> None:
    """Django gives each request under ASGI an executor of one thread."""

    async def ask() -> int | None:
        async with ThreadSensitiveContext():
            return await sync_to_async(serving_threads)()

    assert asyncio.run(ask()) is None
