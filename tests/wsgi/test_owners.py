"""Whose an operation is that was recorded before authentication had run."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pytest

from raincheck import current_operation, long_running
from tests.support import wsgi
from tests.support.wsgi import PATIENT, Call, engine_of, path_of, until, wrap

ANNE, BOB, NOBODY = [(b"x-poller", b"anne")], [(b"x-poller", b"bob")], list[tuple[bytes, bytes]]()
SESSION = object()
AROUND: dict[str, Any] = {"our.session": SESSION}
ASYNC = [(b"prefer", b"respond-async")]
BEGUN: dict[str, dict[str, Any]] = {
    "respond-async": {"headers": ASYNC},
    "with a key": {"method": "POST", "headers": [(b"idempotency-key", b"k")]},
    "before its authentication was over": {},
}


def owner(environ: Any) -> str | None:
    """Name who was authenticated inside; a poll says it itself."""
    assert environ["our.session"] is SESSION, "what is around has put it there"
    user: str | None = environ.get("our.user") or environ.get("HTTP_X_POLLER")
    return user


def call(app: Any, path: str, method: str = "GET", headers: Any = ()) -> Any:
    """Call an application as what is around raincheck does."""
    return wsgi.call(app, path, method, headers, **AROUND)


def follow(app: Any, accepted: Call, headers: Any) -> Any:
    return wsgi.follow(app, accepted, headers, **AROUND)


class Site:
    """An application with authentication inside of raincheck, which takes its time."""

    def __init__(self, **options: Any) -> None:
        self.door, self.go = threading.Event(), threading.Event()
        self.runs = 0
        self.app = wrap(self._authenticate, owner=owner, **options)

    def _authenticate(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        until(lambda: current_operation().id)
        assert self.door.wait(PATIENT)
        environ["our.user"] = "anne"
        if environ["PATH_INFO"] == "/marked":
            self._marked()
        assert self.go.wait(PATIENT)
        start_response("200 OK", [])
        return [b"for anne"]

    @long_running
    def _marked(self) -> None:
        self.runs += 1
        current_operation().progress(1, message="a secret")

    def polls(self, path: str) -> list[int]:
        return [call(self.app, path, headers=who).status for who in (ANNE, BOB, NOBODY)]

    def ended(self, accepted: Call) -> None:
        """Let the handler end, and wait until that is recorded."""
        self.door.set()
        self.go.set()
        store, operation_id = engine_of(self.app).store, path_of(accepted).rpartition("/")[2]
        until(lambda: store.get(operation_id).is_terminal)  # type: ignore[union-attr]


def test_who_polls_is_asked_for_only_where_there_is_an_operation() -> None:
    asked = list[str]()

    def ask(environ: Any) -> str:
        asked.append(environ["PATH_INFO"])
        return "anne"

    app = wrap(answering, budget=0, owner=ask)
    assert wsgi.call(app, f"/operations/{'0' * 32}").status == 404
    assert not asked
    accepted = wsgi.call(app)
    assert wsgi.follow(app, accepted).content == b"done"
    assert path_of(accepted) in asked


def answering(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"done"]


@pytest.mark.parametrize("request_", BEGUN.values(), ids=BEGUN)
def test_an_operation_without_its_owner_yet_is_shown_to_nobody(request_: dict[str, Any]) -> None:
    site = Site()
    accepted = call(site.app, "/report", **request_)
    path = path_of(accepted)
    assert site.polls(path) == [202, 202, 202]
    assert call(site.app, path, "DELETE", BOB).status == 503
    site.ended(accepted)
    assert site.polls(path) == [200, 404, 404]


def test_a_marked_handler_that_is_reached_has_its_operations_owner_known() -> None:
    site = Site()
    path = path_of(call(site.app, "/marked", headers=ASYNC))
    site.door.set()
    until(lambda: site.polls(path) == [202, 404, 404])
    assert b"secret" in call(site.app, path, headers=ANNE).content
    site.go.set()


def test_a_marked_handler_of_an_owner_with_too_many_operations_is_not_called() -> None:
    site = Site(limits={"operations_per_owner": 1})
    accepted = [call(site.app, "/marked", headers=ASYNC) for _ in range(3)]
    site.door.set()
    until(lambda: site.runs)
    site.go.set()
    statuses = sorted(follow(site.app, one, ANNE).status for one in accepted)
    assert (statuses, site.runs) == ([200, 500, 500], 1)


def test_who_tells_much_progress_has_not_its_owner_asked_for_each_time() -> None:
    asked = list[str]()

    def handler(environ: Any, start_response: Any) -> Iterable[bytes]:
        until(lambda: current_operation().id)
        for n in range(100):
            current_operation().progress(n)
        start_response("200 OK", [])
        return [b"done"]

    app = wrap(handler, owner=lambda environ: asked.append(environ["PATH_INFO"]))
    follow(app, call(app, "/report"), NOBODY)
    assert asked.count("/report") <= 10
