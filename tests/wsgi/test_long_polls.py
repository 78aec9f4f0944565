"""Clients that wait for the end of an operation, each in a thread of its server's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from raincheck.errors import StoreUnavailable
from raincheck.monitor import waiters as watching
from raincheck.stores.memory import MemoryStore
from raincheck.wsgi import RaincheckMiddleware, leaving
from tests.support.wsgi import Call, call, engine_of, path_of, until

LONG = [(b"prefer", b"wait=20")]
PATIENT = 10.0  # seconds; less than anybody would wait in vain
TAILS = ["", "/status", "/result"]
MOST = 4  # who may wait at a time


class Store(MemoryStore):
    """A store that fails when it is told to."""

    is_failing = False

    def get(self, operation_id: str) -> Any:
        if self.is_failing:
            raise StoreUnavailable("it is down")
        return super().get(operation_id)


class Site:
    """An application whose handlers answer when they are told to."""

    def __init__(self, **options: Any) -> None:
        self.go = threading.Event()
        self.store = Store()
        chosen: dict[str, Any] = {"budget": 0, "limits": {"waiters": MOST}, "max_wait": 20}
        self.app = RaincheckMiddleware(self._handle, store=self.store, **(chosen | options))
        self._pool = ThreadPoolExecutor(32, "serving")

    def _handle(self, environ: Any, start_response: Callable[..., Any]) -> Sequence[bytes]:
        self.go.wait(60)
        start_response("200 OK", [("X-Own", "1")])
        return [b"done"]

    def begin(self, path: str, method: str = "GET", headers: Any = LONG) -> Future[Call]:
        """Have another thread of the server call the application."""
        return self._pool.submit(call, self.app, path, method, headers)

    @property
    def waiters(self) -> int:
        """How many wait."""
        return self.app._gateway.monitor.watcher.waiters

    @contextmanager
    def waiting(self, *targets: tuple[str, str]) -> Iterator[list[Future[Call]]]:
        """Have clients wait for the answers to (method, path)."""
        calls = [self.begin(path, method) for method, path in targets]
        until(lambda: self.waiters == len(calls))
        yield calls
        until(lambda: all(each.done() for each in calls))

    def close(self) -> None:
        self.go.set()
        self.app._gateway.monitor.close()
        self._pool.shutdown()
        engine_of(self.app).close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@contextmanager
def site_with(**options: Any) -> Iterator[Site]:
    site = Site(**options)
    try:
        yield site
    finally:
        site.close()


# --- the end, and the end of time --------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_whoever_waits_is_answered_when_the_operation_ends(site: Site, method: str) -> None:
    path = path_of(call(site.app))
    with site.waiting(*((method, path + tail) for tail in TAILS)) as calls:
        site.go.set()
    response, status, result = (each.result() for each in calls)
    for each in (response, status, result):
        assert (each.status, each.header(b"preference-applied")) == (200, b"wait=20")
    assert response.content == result.content == (b"done" if method == "GET" else b"")
    assert (b'"succeeded"' in status.content) is (method == "GET")
    assert site.waiters == 0


@pytest.mark.parametrize(("tail", "code"), [("", 202), ("/status", 200), ("/result", 404)])
def test_after_the_longest_wait_the_answer_is_what_there_is(tail: str, code: int) -> None:
    with site_with(max_wait=0.05) as site:
        path, begin = path_of(call(site.app)), time.monotonic()
        answer = call(site.app, path + tail, headers=LONG)
        assert 0.05 <= time.monotonic() - begin < PATIENT
        assert (answer.status, answer.header(b"preference-applied")) == (code, b"wait=0.05")
        assert int(answer.header(b"retry-after")) >= 1


def test_a_cancellation_ends_the_waiting_when_the_handler_has_stopped(site: Site) -> None:
    path = path_of(call(site.app))
    with site.waiting(("GET", path)) as [answer]:
        assert call(site.app, path, "DELETE").status == 202
        assert not answer.done()
        site.go.set()
    assert answer.result().status == 410


# --- who does not wait -------------------------------------------------------------------------


def test_nobody_waits_for_what_has_ended(site: Site) -> None:
    path = path_of(call(site.app))
    with site.waiting(("GET", path)):
        site.go.set()
    for tail in TAILS:
        answer = call(site.app, path + tail, headers=LONG)
        assert (answer.status, answer.header(b"preference-applied")) == (200, None)
    assert call(site.app, path, "DELETE", LONG).status == 204


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", (), 202),
        ("GET", [(b"prefer", b"wait=0")], 202),
        ("DELETE", LONG, 202),
        ("POST", LONG, 405),
    ],
)
def test_who_is_answered_at_once_costs_no_watch(
    site: Site, method: str, headers: Any, status: int
) -> None:
    answer = call(site.app, path_of(call(site.app)), method, headers)
    assert (answer.status, answer.header(b"preference-applied")) == (status, None)
    assert not site.app._gateway.monitor.watcher._listener._of


@pytest.mark.parametrize("tail", TAILS)
def test_what_is_unknown_or_anothers_is_not_waited_for(tail: str) -> None:
    with site_with(owner=lambda environ: environ.get("HTTP_X_USER")) as site:
        path = path_of(call(site.app, headers=[(b"x-user", b"ann")]))
        for other in (path, "/operations/" + "0" * 32):
            for user in ([], [(b"x-user", b"bob")]):
                answer = call(site.app, other + tail, headers=[*LONG, *user])
                assert (answer.status, answer.header(b"preference-applied")) == (404, None)
        assert not site.app._gateway.monitor.watcher._listener._of


def test_no_more_wait_than_may_and_the_rest_is_answered_at_once(site: Site) -> None:
    path = path_of(call(site.app))
    with site.waiting(*[("GET", path)] * MOST) as calls:
        for _ in range(3):
            answer = call(site.app, path, headers=LONG)
            assert (answer.status, answer.header(b"preference-applied")) == (202, None)
        site.go.set()
    assert [each.result().content for each in calls] == [b"done"] * MOST


def test_who_has_waited_makes_room() -> None:
    with site_with(max_wait=0.02, limits={"waiters": 1}) as site:
        path = path_of(call(site.app))
        for _ in range(5):
            assert call(site.app, path, headers=LONG).header(b"preference-applied") == b"wait=0.02"


def test_a_poll_gives_its_place_to_a_request_that_finds_no_other() -> None:
    with site_with(budget=PATIENT, limits={"waiters": 1}) as site:
        asynchronous = [(b"prefer", b"respond-async")]
        path, begin = path_of(call(site.app, headers=asynchronous)), time.monotonic()
        with site.waiting(("GET", path)) as [poll]:
            request = site.begin("/", headers=())
            assert poll.result(PATIENT).status == 202
            assert time.monotonic() - begin < PATIENT
            assert not request.done()
            site.go.set()
            assert request.result(PATIENT).content == b"done"


def test_a_servers_only_thread_never_waits() -> None:
    with site_with(limits={}) as site:
        path = path_of(call(site.app))
        answers = list[Call]()
        thread = threading.Thread(
            target=lambda: answers.append(call(site.app, path, headers=LONG)), name="alone"
        )
        thread.start()
        thread.join(PATIENT)
        [answer] = answers
        assert (answer.status, answer.header(b"preference-applied")) == (202, None)


# --- ends of other kinds -----------------------------------------------------------------------


def test_a_store_that_fails_while_somebody_waits_is_a_503(site: Site) -> None:
    path = path_of(call(site.app))
    with site.waiting(("GET", path)) as [answer]:
        site.store.is_failing = True
        site.store._tell(path.rpartition("/")[2])
    assert answer.result().status == 503
    assert answer.result().header(b"preference-applied") is None
    site.store.is_failing = False


def test_a_drain_answers_whoever_waits_at_once() -> None:
    with site_with(drain=PATIENT) as site:
        path = path_of(call(site.app))
        with site.waiting(("GET", path), ("GET", path + "/status")) as calls:
            drain = site._pool.submit(leaving.drain)
        assert [each.result().status for each in calls] == [202, 200]
        assert not drain.done()
        site.go.set()
        drain.result(PATIENT)


def test_the_end_of_a_process_that_deferred_nothing_answers_whoever_waits(site: Site) -> None:
    path = path_of(call(site.app))
    elsewhere = RaincheckMiddleware(site._handle, store=site.store, limits={"waiters": 1})
    answer = site._pool.submit(call, elsewhere, path, "GET", LONG)
    until(lambda: elsewhere._gateway.monitor.watcher.waiters)
    assert elsewhere._gateway.running in leaving._WAITED_FOR.get()
    elsewhere._gateway.running.drain()
    assert answer.result(PATIENT).status == 202


def test_while_a_server_stops_nobody_waits(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "TICK", 0.01)
    path = path_of(call(site.app))
    with site.waiting(("GET", path)) as [answer]:
        [listener] = site.app._gateway.monitor.watcher._listener._of.values()
        listener._around = watching.Surroundings(is_stopping=lambda: True)
    assert answer.result().header(b"preference-applied") == b"wait=20"
    assert answer.result().status == 202
