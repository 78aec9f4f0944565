"""A mistake of raincheck's own must not break a promise that was given."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from raincheck.config.policy import Candidate
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, Reason, State
from raincheck.wsgi.arrival import Arrival
from raincheck.wsgi.gateway import Gateway
from raincheck.wsgi.race import Race
from tests.support.wsgi import SHORT, engine_of, until, wrap


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
