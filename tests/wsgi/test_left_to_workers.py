"""Handlers that workers run, by the WSGI gateway: left when they are called, or never called."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flask
import pytest

from raincheck import is_rerun, long_running
from raincheck.engine.queues import Take
from raincheck.stores.memory import MemoryStore
from raincheck.wsgi import RaincheckMiddleware
from tests.support.workers import run_as_worker
from tests.support.wsgi import Call, call, engine_of, path_of, until, wrap

pytestmark = pytest.mark.usefixtures("by_hand")

BODY = b"the whole body"


@pytest.fixture(autouse=True)
def no_marks_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raincheck.handler.marking._known_markings", set())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class Shop:
    """A Flask application in two processes, whose marked view notes each of its runs."""

    def __init__(self, store: MemoryStore, **options: Any) -> None:
        self.runs: list[str] = []
        self.torn_down: list[tuple[str, str]] = []
        self.told: list[str] = []
        given = {"application": "shop", "store": store, "budget": 60} | options
        given = {"workers": {"workers": self.told.append}} | given
        self.web, self.worker = self._app("web", given), self._app("worker", given)

    def _app(self, process: str, options: dict[str, Any]) -> RaincheckMiddleware:
        app = flask.Flask("shop")

        @app.teardown_request
        def tear_down(error: BaseException | None) -> None:
            self.torn_down.append((process, type(error).__name__))

        @app.before_request
        def authenticate() -> Any:
            return None if flask.request.headers.get("X-Key") == "right" else ("no", 401)

        @app.post("/reports")
        @long_running(runner="workers")
        def report() -> Any:
            self.runs.append(process)
            document = {"body": flask.request.get_data(as_text=True), "again": is_rerun()}
            return flask.jsonify(document), 201, {"X-Own": "1"}

        @app.post("/stream")
        @long_running(runner="workers")
        def stream() -> Any:
            self.runs.append(process)
            yield b"one "
            yield b"two"

        return RaincheckMiddleware(app, **options)


RIGHT = (b"x-key", b"right")


def ask(app: Any, path: str = "/reports", *headers: tuple[bytes, bytes]) -> Call:
    answered: Call = call(app, path, "POST", headers, BODY)
    return answered


def finish(shop: Shop, accepted: Call) -> Call:
    """Have a worker run what was accepted, and ask the web process for the response."""
    operation_id = path_of(accepted).rpartition("/")[2]
    assert run_as_worker(engine_of(shop.worker), operation_id) is Take.BEGUN
    done: Call = call(shop.web, path_of(accepted))
    return done


@pytest.mark.parametrize("path", ["/reports", "/stream"])
def test_a_handler_that_workers_run_does_not_run_in_the_process_that_is_asked(
    store: MemoryStore, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(store)
    accepted = ask(shop.web, path, RIGHT)
    assert (accepted.status, accepted.error, shop.runs) == (202, None, [])
    assert shop.told == [path_of(accepted).rpartition("/")[2]]
    until(lambda: bool(shop.torn_down))
    assert set(shop.torn_down) == {("web", "NoneType")}  # it has seen no error
    assert call(shop.web, path_of(accepted)).status == 202
    assert not caplog.text
    done = finish(shop, accepted)
    assert shop.runs == ["worker"]
    if path == "/stream":
        assert done.content == b"one two"
    else:
        assert (done.status, done.header(b"X-Own")) == (201, b"1")
        assert done.content == b'{"again":false,"body":"the whole body"}\n'


def test_who_is_refused_before_the_handler_is_refused_by_the_process_that_is_asked(
    store: MemoryStore,
) -> None:
    shop = Shop(store)
    assert ask(shop.web).status == 401
    assert not store._operations


def test_when_workers_cant_be_told_the_client_is_and_nothing_has_run(store: MemoryStore) -> None:
    def fail(operation_id: str) -> None:
        raise ConnectionError("no broker")

    shop = Shop(store, workers={"workers": fail})
    refused = ask(shop.web, "/reports", RIGHT)
    assert (refused.status, refused.header(b"retry-after"), shop.runs) == (503, b"5", [])


def test_two_requests_under_one_key_are_one_operation_of_a_worker(store: MemoryStore) -> None:
    shop = Shop(store, identity_headers=["x-key"])
    key = (b"idempotency-key", b"k")
    first, second = ask(shop.web, "/reports", RIGHT, key), ask(shop.web, "/reports", RIGHT, key)
    assert (first.status, path_of(first)) == (202, path_of(second))
    done = finish(shop, first)
    assert (done.status, shop.runs) == (201, ["worker"])
    assert ask(shop.web, "/reports", RIGHT, key).content == done.content
    assert shop.runs == ["worker"]


def test_a_request_that_was_accepted_before_its_handler_is_left_to_workers(
    store: MemoryStore,
) -> None:
    shop = Shop(store, budget=0)
    accepted = ask(shop.web, "/reports", RIGHT)
    until(lambda: bool(shop.told))
    assert (finish(shop, accepted).status, shop.runs) == (201, ["worker"])


def test_who_reads_events_has_the_handler_run_for_it_where_it_asked(store: MemoryStore) -> None:
    shop = Shop(store)
    response = ask(shop.web, "/reports", RIGHT, (b"accept", b"text/event-stream"))
    assert (response.status, shop.runs, shop.told) == (201, ["web"], [])


def test_of_a_framework_that_is_not_known_the_log_says_what_has_happened(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    @long_running(queue="nightly")
    def handler() -> list[bytes]:
        return [b"done"]

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        try:
            result = handler()
        except Exception:
            start_response("500 Oh", [])
            raise
        start_response("200 OK", [])
        return result

    web, worker = wrap(app, store=store, budget=60), wrap(app, store=store)
    accepted = call(web)
    assert (accepted.status, accepted.error) == (202, None)
    operation_id = path_of(accepted).rpartition("/")[2]
    assert run_as_worker(engine_of(worker), operation_id) is Take.BEGUN
    assert call(web, path_of(accepted)).content == b"done"


# --- a path that workers handle ----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "marked"])
def test_nothing_of_the_application_runs_where_a_path_is_for_workers(
    store: MemoryStore, mode: str
) -> None:
    calls: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        calls.append(threading.current_thread().name)
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()[::-1]]

    options: dict[str, Any] = {"store": store, "runners": {"/reports/*": "workers"}, "mode": mode}
    web, worker = wrap(app, **options), wrap(app, **options)
    accepted = call(web, "/reports/1", "PUT", (), BODY)
    assert (accepted.status, calls) == (202, [])
    operation_id = path_of(accepted).rpartition("/")[2]
    assert run_as_worker(engine_of(worker), operation_id) is Take.BEGUN
    assert call(web, path_of(accepted)).content == BODY[::-1]
    assert len(calls) == 1


def test_what_is_too_large_for_a_worker_is_refused_before_anything_runs(
    store: MemoryStore,
) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        raise AssertionError("it was called")

    web = wrap(app, store=store, runners={"/**": "workers"}, limits={"request_body": 10})
    assert call(web, "/", "POST", (), BODY).status == 413


def none_fails(operation_id: str) -> None:
    raise ConnectionError("no broker")


@pytest.mark.parametrize("tell", [lambda operation_id: None, none_fails])
def test_a_large_body_that_no_handler_here_reads_leaves_no_file(
    store: MemoryStore, tell: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    options: dict[str, Any] = {"runners": {"/**": "workers"}, "workers": {"workers": tell}}
    web = wrap(lambda environ, start_response: [], store=store, **options)
    answered = call(web, "/", "POST", (), b"x" * 5_000_000)
    assert answered.status == (503 if tell is none_fails else 202)
    # Its environ is still there, as servers have theirs in cycles.
    descriptors = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.exists()]
    assert [each for each in descriptors if each.startswith(str(tmp_path))] == []
