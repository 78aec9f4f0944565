"""How many of a server's threads may wait out a budget."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TypeVar

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async

from raincheck.wsgi.waiting import Waiting, serving_threads

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
        thread.join(30)


def within(name: str, work: Callable[[], _T]) -> _T:
    """Do something in a thread of that name."""
    found: list[_T] = []
    thread = threading.Thread(target=lambda: found.append(work()), name=name)
    thread.start()
    thread.join(30)
    return found[0]


def begun(waiting: Waiting, name: str, times: int = 20) -> int:
    """Count how many may begin to wait in a thread of that name."""
    return sum(within(name, waiting.begin) for _ in range(times))


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
        assert begun(Waiting(), own, 100) == 100


@pytest.mark.parametrize(("is_patched", "count"), [(True, None), (False, 1)])
def test_greenlets_are_no_pool(
    monkeypatch: pytest.MonkeyPatch, is_patched: bool, count: int | None
) -> None:
    monkey = SimpleNamespace(is_module_patched=lambda name: is_patched and name == "threading")
    monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)
    assert within("alone", serving_threads) == count


@pytest.mark.parametrize(("others", "most"), [(0, 1), (1, 1), (2, 1), (3, 2), (7, 4), (8, 4)])
def test_half_of_the_threads_may_wait_and_one_always(others: int, most: int) -> None:
    with pool(*(f"serving-{n}" for n in range(others))):
        assert begun(Waiting(), "serving-99") == most


@pytest.mark.parametrize("most", [0, 1, 3])
def test_a_cap_that_was_chosen_holds_whatever_the_threads_are(most: int) -> None:
    assert begun(Waiting(most), "Thread-1 (process_request_thread)") == most


def test_who_has_waited_makes_room() -> None:
    waiting = Waiting(1)
    for _ in range(3):
        assert waiting.begin()
        assert not waiting.begin()
        waiting.end()


def test_a_pool_that_grows_may_have_more_who_wait() -> None:
    waiting = Waiting()
    assert begun(waiting, "serving-99") == 1
    with pool(*(f"serving-{n}" for n in range(5))):
        assert begun(waiting, "serving-99") == 2


def test_many_threads_at_once_never_exceed_the_cap() -> None:
    waiting, barrier = Waiting(5), threading.Barrier(16)

    def one(_: int) -> bool:
        barrier.wait(30)
        return waiting.begin()

    with ThreadPoolExecutor(16) as executor:
        assert sum(executor.map(one, range(16))) == 5


def test_sync_code_of_an_event_loop_has_no_pool() -> None:
    """Django gives each request under ASGI an executor of one thread."""

    async def ask() -> int | None:
        async with ThreadSensitiveContext():
            return await sync_to_async(serving_threads)()

    assert asyncio.run(ask()) is None
