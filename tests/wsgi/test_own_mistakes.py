"""A mistake of raincheck's own must not break a promise that was given."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from raincheck.config.policy import Candidate
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, Reason, State
from raincheck.wsgi.arrival import Arrival
from raincheck.wsgi.exchange import Exchange
from raincheck.wsgi.gateway import Gateway
from raincheck.wsgi.race import Race
from tests.support.wsgi import SHORT, call, engine_of, until, wrap

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Bare(Arrival):
    """A request of which nothing is known but its path."""

    @property
    def environ(self) -> dict[str, str]:
        return {}

    def askable(self) -> Iterator[dict[str, str]]:
        yield {}

    def describe(self) -> Request:
        return Request("GET", "/thing")

    def body(self) -> None:
        return None


class Broken(Race):
    """A request whose handling fails outside of the application."""

    def __init__(self, gateway: Gateway, budget: float) -> None:
        super().__init__(gateway, Candidate(budget), "GET", "/thing", Bare())
        self.go = threading.Event()

    def work(self) -> None:
        self.go.wait(30)
        raise OSError("a file that can't be closed")

    def abandon(self) -> None: ...

    def break_off(self, error: BaseException) -> None: ...


def test_an_operation_ends_although_handling_its_request_has_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = wrap(lambda environ, start_response: [])
    race = Broken(app._gateway, SHORT)
    assert race.start()
    operation = race.outcome()
    assert isinstance(operation, Operation)
    race.go.set()
    until(lambda: not app._gateway.running)
    ended = engine_of(app).look(operation.id)
    assert ended is not None
    assert (ended.state, ended.reason) == (State.FAILED, Reason.EXCEPTION)
    assert "a file that can't be closed" in caplog.text


def test_a_server_is_not_kept_waiting_by_a_request_whose_handling_has_failed() -> None:
    app = wrap(lambda environ, start_response: [])
    race = Broken(app._gateway, 60)
    assert race.start()
    race.go.set()
    assert race.outcome() is None


@pytest.mark.parametrize("chunks", [[], [b"one", b"two"]], ids=["empty", "two"])
def test_a_server_that_takes_a_response_hears_that_its_handler_s_thread_is_gone(
    chunks: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("a file that can't be closed")

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield from chunks

    monkeypatch.setattr(Exchange, "_leave_to_server", fail)
    with ThreadPoolExecutor(1) as server:
        answered = server.submit(call, wrap(answer, budget=60), "/")
        assert isinstance(answered.result(30).error, OSError)


class Odd(list[bytes]):
    """A body of which nobody can tell whether it is to be closed."""

    @property
    def close(self) -> None:
        raise OSError("nobody can tell")


def test_a_server_hears_of_a_body_of_which_nobody_can_tell_whether_to_close_it() -> None:
    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Odd([b"one", b"two"])

    with ThreadPoolExecutor(1) as server:
        answered = server.submit(call, wrap(answer, budget=60), "/")
        assert isinstance(answered.result(30).error, OSError)
