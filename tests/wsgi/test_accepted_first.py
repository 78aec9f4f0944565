"""Requests whose operation is recorded before their handler is called."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from raincheck import OperationCancelled, StoreUnavailable, current_operation, long_running
from raincheck.config import options
from raincheck.contracts import Filter
from raincheck.stores.memory import MemoryStore
from raincheck.wsgi.race import Race
from tests.support.wire import Clock, assert_problem
from tests.support.wsgi import (
    PATIENT,
    Call,
    Untouchable,
    call,
    engine_of,
    environ_of,
    follow,
    path_of,
    until,
    wrap,
)
from tests.wsgi.test_promotion import Full, Slow, answer, quick

KEY = [(b"idempotency-key", b"one")]


class Counting:
    """An application that answers how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.calls += 1
        return answer(start_response, b"%d" % self.calls)


def post(app: Any, **more: Any) -> Any:
    return call(app, "/", "POST", KEY, **more)


def test_a_repeated_request_is_answered_without_its_handler() -> None:
    app = Counting()
    wrapped = wrap(app, budget=60)
    assert [post(wrapped).content for _ in range(3)] == [b"1"] * 3
    assert app.calls == 1


def test_without_the_option_a_key_means_nothing() -> None:
    wrapped = wrap(Counting(), budget=60, idempotency_keys=False, store=Untouchable())
    assert [post(wrapped).content for _ in range(2)] == [b"1", b"2"]


def test_a_store_that_fails_lets_no_request_with_a_key_run() -> None:
    app = Counting()
    refused = post(wrap(app, budget=60, store=Full()))
    assert (refused.status, refused.header(b"retry-after")) == (503, b"5")
    assert app.calls == 0


def test_an_operation_is_recorded_before_its_handler_is_called() -> None:
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        seen.extend(store.find(Filter())[0])
        assert current_operation().id is not None
        return answer(start_response)

    store = MemoryStore()
    wrapped = wrap(app, budget=0, store=store)
    assert follow(wrapped, call(wrapped)).content == b"done"
    assert [operation.state.value for operation in seen] == ["running"]


def test_the_limit_of_an_owner_is_looked_at_before_anything_runs() -> None:
    slow = Slow()
    wrapped = wrap(
        slow,
        budget=0,
        owner=lambda environ: environ["HTTP_X_USER"],
        limits={"operations_per_owner": 2},
    )
    anne, bob = [(b"x-user", b"anne")], [(b"x-user", b"bob")]
    assert [call(wrapped, headers=anne).status for _ in range(4)] == [202, 202, 429, 429]
    assert call(wrapped, headers=bob).status == 202
    until(lambda: slow.calls == 3)
    slow.go.set()


def test_users_whom_the_server_knows_share_no_key() -> None:
    wrapped = wrap(Counting(), budget=60)
    found = [post(wrapped, REMOTE_USER=user).content for user in ("anne", "bob", "anne", "")]
    assert found == [b"1", b"2", b"1", b"3"]


ANNE: dict[str, Any] = {"SSL_CLIENT_VERIFY": "SUCCESS", "SSL_CLIENT_S_DN": "CN=anne"}
NOBODY: dict[str, Any] = {"SSL_CLIENT_VERIFY": "NONE", "SSL_CLIENT_S_DN": "", "HTTPS": "on"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ANNE, ANNE | {"SSL_CLIENT_S_DN": "CN=bob"}),
        (ANNE, NOBODY),
        ({"SSL_CLIENT_CERT": "one"}, {"SSL_CLIENT_CERT": "other"}),
        ({"SSL_CLIENT_S_DN": "CN=anne"}, {}),
        ({"SSL_CLIENT_VERIFY": "SUCCESS"}, {"SSL_CLIENT_VERIFY": "NONE"}),
        (ANNE | {"SSL_CLIENT_I_DN": "CN=ours"}, ANNE | {"SSL_CLIENT_I_DN": "CN=theirs"}),
        ({"REMOTE_USER": "anne"}, ANNE),
    ],
)
def test_users_whom_their_certificates_name_share_no_key(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    wrapped = wrap(Counting(), budget=60)
    found = [post(wrapped, **user).content for user in (one, other, one, other)]
    assert found == [b"1", b"2", b"1", b"2"]


def test_a_certificate_that_is_none_changes_nothing() -> None:
    wrapped = wrap(Counting(), budget=60)
    assert [post(wrapped, **user).content for user in ({}, NOBODY)] == [b"1", b"1"]


def test_where_no_thread_can_be_started_what_was_accepted_runs_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrapped = wrap(Counting(), budget=0)
    monkeypatch.setattr(Race, "start", lambda race: False)
    accepted = call(wrapped)
    assert current_operation().id is None, "what follows in this thread has nothing to do with it"
    assert follow(wrapped, accepted).content == b"1"


def test_a_client_that_leaves_while_it_waits_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stop(BaseException): ...

    def interrupted(*_: Any) -> bool:
        raise Stop

    slow = Slow()
    wrapped = wrap(slow, budget=60, limits={"waiters": 5})
    with monkeypatch.context() as patch:
        patch.setattr(Race, "_wait", interrupted)
        with pytest.raises(Stop):
            post(wrapped)
    slow.go.set()
    assert post(wrapped).content == b"done"
    assert slow.calls == 1


def test_others_wait_for_the_first_as_long_as_their_budget() -> None:
    slow = Slow()
    wrapped = wrap(slow, budget=0.2, limits={"waiters": 5})
    first = post(wrapped)
    begin = time.monotonic()
    second = post(wrapped)
    assert time.monotonic() - begin > 0.15
    assert path_of(first) == path_of(second)
    longer = [*KEY, (b"prefer", b"wait=25")]
    waiting = threading.Thread(target=lambda: found.append(call(wrapped, "/", "POST", longer)))
    found: list[Any] = []
    waiting.start()
    slow.go.set()
    waiting.join(PATIENT)
    assert [each.content for each in found] == [b"done"]
    assert slow.calls == 1


def test_an_operation_that_nobody_polls_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "SHORTEST_PATIENCE", 0)
    told = threading.Event()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        until(lambda: current_operation().cancelled)
        told.set()
        return answer(start_response)

    wrapped = wrap(app, budget=0, abandon_after=0.2)
    accepted = call(wrapped)
    until(lambda: (engine_of(wrapped).beat(), told.is_set())[1])  # type: ignore[func-returns-value]
    assert_problem(follow(wrapped, accepted), 410, "canceled")


def test_one_that_is_polled_is_not(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(options, "SHORTEST_PATIENCE", 0)
    for module in ("running", "leases"):
        monkeypatch.setattr(f"raincheck.engine.{module}.time", SimpleNamespace(monotonic=clock))
    slow = Slow()
    wrapped = wrap(slow, budget=0, abandon_after=0.4, store=MemoryStore(clock=clock))
    accepted = call(wrapped)
    for _ in range(12):
        clock.now += 0.1
        assert call(wrapped, path_of(accepted)).status == 202
        engine_of(wrapped).beat()
    slow.go.set()
    assert follow(wrapped, accepted).content == b"done"


def test_a_marked_handler_under_a_key_is_answered_before_its_budget() -> None:
    slow = Slow()
    wrapped = wrap(long_running(lambda environ, begin: slow(environ, begin)), budget=60)
    assert post(wrapped).status == 202
    slow.go.set()


def test_a_response_is_given_before_what_its_handler_does_afterwards() -> None:
    class Lingering(list[bytes]):
        def close(self) -> None:
            assert given.wait(30)

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        return Lingering(answer(start_response))

    given = threading.Event()
    wrapped = wrap(app, budget=60, limits={"waiters": 1})
    assert post(wrapped).content == b"done"
    assert len(wrapped._gateway.running) == 1
    given.set()


def test_a_handler_that_raises_is_not_called_again_under_its_key() -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        calls.append(1)
        raise ValueError("mine")

    calls: list[int] = []
    wrapped = wrap(app, budget=60)
    assert [post(wrapped).status for _ in range(2)] == [500, 500]
    assert len(calls) == 1


def test_a_store_that_fails_while_others_wait_is_said_so() -> None:
    class Failing(MemoryStore):
        is_failing = False

        def get(self, operation_id: str) -> Any:
            if self.is_failing:
                raise StoreUnavailable("it is down")
            return super().get(operation_id)

    store = Failing()
    wrapped = wrap(Counting(), budget=60, store=store)
    assert post(wrapped).content == b"1"
    store.is_failing = True
    assert post(wrapped).status == 503
    store.is_failing = False
    assert post(wrapped).content == b"1"
    engine_of(wrapped).close()


class Streaming:
    """Begins its response at once, and goes on when it may."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self.go = threading.Event()
        self.error = error

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.calls += 1
        start_response("201 Created", [("Set-Cookie", "s=1"), ("X-A", "1")])
        yield b"first "
        assert self.go.wait(PATIENT)
        if self.error is not None:
            raise self.error
        yield b"last"


def streamed(app: Any, takes: int | None = None) -> tuple[Call, threading.Thread]:
    """Have a client read a response until it has the beginning; it goes on in a thread."""
    calling = Call(app, environ_of("/", "POST", KEY), takes=takes)
    thread = threading.Thread(target=calling.run)
    thread.start()
    until(lambda: calling.chunks)
    return calling, thread


@pytest.mark.parametrize("budget", [60, 0.05])
def test_a_response_that_has_started_streams_through_under_a_key_too(budget: float) -> None:
    app = Streaming()
    wrapped = wrap(app, budget=budget)
    first, thread = streamed(wrapped)
    assert first.content == b"first "
    if budget < 1:
        time.sleep(2 * budget)
    app.go.set()
    thread.join(PATIENT)
    assert (first.status, first.content) == (201, b"first last")
    assert first.headers == [(b"Set-Cookie", b"s=1"), (b"X-A", b"1")]
    again = post(wrapped)
    assert (again.status, again.content, app.calls) == (201, b"first last", 1)
    assert again.header(b"Set-Cookie") is None


def test_a_client_that_leaves_its_stream_finds_all_of_it_under_its_key() -> None:
    app = Streaming()
    wrapped = wrap(app, budget=60)
    leaving, thread = streamed(wrapped, takes=1)
    thread.join(PATIENT)
    app.go.set()
    until(lambda: post(wrapped).status != 202)
    again = post(wrapped)
    assert leaving.content == b"first "
    assert (again.status, again.content, app.calls) == (201, b"first last", 1)


def test_a_stream_that_breaks_off_is_cut_and_its_operation_has_failed() -> None:
    app = Streaming(ValueError("broken"))
    wrapped = wrap(app, budget=60)
    first, thread = streamed(wrapped)
    app.go.set()
    thread.join(PATIENT)
    assert first.error is app.error
    again = post(wrapped)
    assert (again.status, b'"exception"' in again.content, app.calls) == (500, True, 1)


def test_a_stream_that_somebody_cancels_is_cut() -> None:
    app = Streaming()
    wrapped = wrap(app, budget=60)
    first, thread = streamed(wrapped)
    [operation] = engine_of(wrapped).store.find(Filter())[0]
    assert call(wrapped, f"/operations/{operation.id}", "DELETE").status == 202
    app.go.set()
    thread.join(PATIENT)
    assert isinstance(first.error, OperationCancelled)
    assert first.content == b"first "


def test_what_is_too_large_to_be_coalesced_is_handled_alone() -> None:
    app = wrap(quick, budget=60, store=Untouchable(), limits={"request_body": 10}, coalesce=["/**"])
    assert call(app, "/", "GET", [(b"content-length", b"20")], b"x" * 20).content == b"done"


@pytest.mark.parametrize("budget", [0, 60])
def test_a_store_that_fails_means_that_what_would_be_coalesced_is_handled_alone(
    budget: float,
) -> None:
    class Failing(MemoryStore):
        def create(self, *arguments: Any, **more: Any) -> Any:
            raise StoreUnavailable("it is down")

    app = wrap(quick, budget=budget, store=Failing(), coalesce=["/**"])
    assert [call(app).content for _ in range(2)] == [b"done", b"done"]


def test_a_stream_too_large_to_be_kept_reaches_its_client_whole() -> None:
    app = Streaming()
    app.go.set()
    wrapped = wrap(app, budget=60, limits={"response_body": 7})
    first = post(wrapped)
    assert (first.status, first.content) == (201, b"first last")
    again = post(wrapped)
    assert (again.status, b"response_too_large" in again.content) == (500, True)


def test_a_response_that_is_whole_keeps_its_length_under_a_key() -> None:
    assert post(wrap(Counting(), budget=60)).header(b"content-length") == b"1"


EVENTS = [*KEY, (b"accept", b"text/event-stream")]


def test_who_asks_for_events_is_never_answered_202_under_a_key_either() -> None:
    @long_running
    def marked(environ: Any, start_response: Any) -> Iterable[bytes]:
        return app(environ, start_response)

    app = Streaming()
    wrapped = wrap(marked, budget=0.01, max_wait=0.05, limits={"waiters": 2})
    first = Call(wrapped, environ_of("/", "POST", EVENTS))
    thread = threading.Thread(target=first.run)
    thread.start()
    until(lambda: first.chunks)
    early = call(wrapped, "/", "POST", EVENTS)
    assert (early.status, b"idempotency-key-in-use" in early.content) == (409, True)
    app.go.set()
    thread.join(PATIENT)
    again = call(wrapped, "/", "POST", EVENTS)
    assert (first.status, again.status, app.calls) == (201, 201, 1)
    assert again.content == first.content == b"first last"
