"""A mistake of raincheck's own must not break a promise that was given."""

from __future__ import annotations

import threading

import pytest

from raincheck.config.policy import Candidate
from raincheck.http.messages import Request
from raincheck.operations.operation import Reason, State
from raincheck.wsgi.race import Race
from tests.support.wsgi import SHORT, engine_of, until, wrap


class Broken(Race):
    """A request whose handling fails outside of the application."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.go = threading.Event()

    def work(self) -> None:
        self.go.wait(30)
        raise OSError("a file that can't be closed")

    def source(self) -> dict[str, str]:
        return {}

    def request(self) -> Request:
        return Request("GET", "/thing")

    def body(self) -> None:
        return None

    def remote_user(self) -> None:
        return None

    def abandon(self) -> None: ...


def test_an_operation_ends_although_handling_its_request_has_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = wrap(lambda environ, start_response: [])
    race = Broken(app._gateway, Candidate(SHORT), "GET", "/thing")
    assert race.start()
    operation = race.outcome()
    assert operation is not None
    race.go.set()
    until(lambda: not app._gateway.running)
    ended = engine_of(app).look(operation.id)
    assert ended is not None
    assert (ended.state, ended.reason) == (State.FAILED, Reason.EXCEPTION)
    assert "a file that can't be closed" in caplog.text


def test_a_server_is_not_kept_waiting_by_a_request_whose_handling_has_failed() -> None:
    app = wrap(lambda environ, start_response: [])
    race = Broken(app._gateway, Candidate(60), "GET", "/thing")
    assert race.start()
    race.go.set()
    assert race.outcome() is None
