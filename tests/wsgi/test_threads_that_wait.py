"""Threads of a server that wait: who is answered 202 before the budget is over, and who is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from raincheck.errors import StoreUnavailable
from raincheck.stores.memory import MemoryStore
from raincheck.wsgi import waiting
from raincheck.wsgi.waiting import LEAST
from tests.support.wsgi import Call, call, engine_of, until, wrap
from tests.wsgi.test_promotion import answer

THREADS = 4
BUDGET = 60.0  # seconds, which no test takes
KEY = [(b"idempotency-key", b'"one"')]


class Store(MemoryStore):
    """A store that fails when it is told to."""

    is_failing = False
    failures = 0

    def create(self, *arguments: Any, **options: Any) -> Any:
        if self.is_failing:
            self.failures += 1
            raise StoreUnavailable("it is down")
        return super().create(*arguments, **options)


class Site:
    """A server of four threads, and an application that answers when it is told to."""

    def __init__(self, **options: Any) -> None:
        self.go = threading.Event()
        self.calls = 0
        self.app = wrap(self._handle, **({"budget": BUDGET, "store": Store()} | options))
        self._pool = ThreadPoolExecutor(THREADS, "serving some tests")

    def _handle(self, environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.calls += 1
        self.go.wait(BUDGET)
        return answer(start_response)

    def begin(self, number: int = 1, **request: Any) -> list[Future[Call]]:
        """Have so many requests come."""
        return [self._pool.submit(call, self.app, **request) for _ in range(number)]

    def keep(self, number: int = 1, **request: Any) -> list[Future[Call]]:
        """Have so many requests come, and wait until they have had their least time, or none."""
        expected = self.waiting + number
        calls = self.begin(number, **request)
        until(lambda: self.waiting == expected)
        return calls

    @property
    def waiting(self) -> int:
        """How many threads wait, and could be called away if they all did."""
        turns = self.app._gateway.waiting._crowd_of.get()._turns
        least = waiting.LEAST
        return sum(turn.is_ripe or turn.wake is None or least > 1 for turn in turns)

    def close(self) -> None:
        self.go.set()
        self._pool.shutdown()
        engine_of(self.app).close()


@pytest.fixture
def make_site() -> Iterator[Callable[..., Site]]:
    """Return what makes sites."""
    sites: list[Site] = []

    def make(**options: Any) -> Site:
        sites.append(Site(**options))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the least time of a request be over soon."""
    monkeypatch.setattr(waiting, "LEAST", 0.01)


def codes(calls: Iterable[Future[Call]]) -> list[int]:
    """Return the status codes, in order of size."""
    return sorted(each.result(BUDGET / 2).status for each in calls)


@pytest.mark.parametrize("options", [{}, {"limits": {"waiters": 2}}, {"limits": {"waiters": 0}}])
def test_what_is_answered_within_a_second_is_never_answered_202_however_many_wait(
    make_site: Callable[..., Site], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LEAST", BUDGET / 2)
    site = make_site(**options)
    calls = site.keep(THREADS)
    site.go.set()
    assert codes(calls) == [200] * THREADS


def test_the_least_time_of_a_request_is_about_a_second() -> None:
    assert 1 <= LEAST <= 2


@pytest.mark.usefixtures("hurried")
def test_while_a_thread_is_left_slow_requests_wait_out_their_budget(
    make_site: Callable[..., Site],
) -> None:
    site = make_site()
    calls = site.keep(THREADS - 1)
    site.go.set()
    assert codes(calls) == [200] * (THREADS - 1)


@pytest.mark.usefixtures("hurried")
def test_when_the_last_thread_waits_the_first_one_is_answered_202_long_before_its_budget(
    make_site: Callable[..., Site],
) -> None:
    site, begin = make_site(), time.monotonic()
    [first] = site.keep()
    others = site.keep(THREADS - 2) + site.begin()
    assert first.result(BUDGET / 2).status == 202
    assert time.monotonic() - begin < BUDGET / 2
    assert not any(each.done() for each in others)
    site.go.set()
    assert codes(others) == [200] * (THREADS - 1)


@pytest.mark.usefixtures("hurried")
def test_a_thread_is_always_left_however_many_slow_requests_wait(
    make_site: Callable[..., Site],
) -> None:
    site = make_site()
    calls = site.begin(12)
    until(lambda: sum(each.done() for each in calls) == 12 - (THREADS - 1))
    site.go.set()
    assert codes(calls) == [200] * (THREADS - 1) + [202] * (12 - (THREADS - 1))


@pytest.mark.usefixtures("hurried")
def test_two_middlewares_share_the_threads_that_wait(make_site: Callable[..., Site]) -> None:
    one, other = make_site(), make_site()
    [first] = one.keep()
    one.keep()
    calls = [one._pool.submit(call, other.app) for _ in range(2)]
    assert first.result(BUDGET / 2).status == 202
    other.go.set()
    assert codes(calls) == [200, 200]


@pytest.mark.usefixtures("hurried")
def test_whoever_waits_on_because_the_store_fails_takes_a_thread_and_another_one_is_promoted(
    make_site: Callable[..., Site],
) -> None:
    site = make_site()
    store = engine_of(site.app).store
    assert isinstance(store, Store)
    calls = site.keep(THREADS - 2)
    store.is_failing = True
    calls += site.begin(2)
    until(lambda: store.failures == THREADS)
    assert not any(each.done() for each in calls)
    site.go.set()
    assert codes(calls) == [200] * THREADS


@pytest.mark.usefixtures("hurried")
def test_who_repeats_a_request_waits_as_who_has_begun_it(make_site: Callable[..., Site]) -> None:
    site = make_site()
    calls = site.keep(THREADS - 1, method="POST", headers=KEY)
    assert not any(each.done() for each in calls)
    site.go.set()
    assert codes(calls) == [200] * (THREADS - 1)
    assert site.calls == 1


@pytest.mark.usefixtures("hurried")
def test_one_of_those_who_wait_for_the_same_operation_is_answered_202_when_the_last_thread_does(
    make_site: Callable[..., Site],
) -> None:
    site = make_site()
    calls = site.begin(THREADS, method="POST", headers=KEY)
    until(lambda: any(each.done() for each in calls))
    site.go.set()
    assert codes(calls) == [200] * (THREADS - 1) + [202]
    assert site.calls == 1


@pytest.mark.usefixtures("hurried")
def test_a_request_that_only_its_mark_may_defer_waits_whoever_else_does(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(budget=None)
    site.app._marked = lambda environ: True
    calls = site.keep(THREADS)
    site.go.set()
    assert codes(calls) == [200] * THREADS
