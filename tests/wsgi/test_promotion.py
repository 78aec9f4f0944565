"""When a request is promoted, and when it is not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from raincheck import StoreUnavailable, current_operation, long_running
from raincheck.contracts import Filter
from raincheck.stores.memory import MemoryStore
from tests.support.wsgi import (
    SHORT,
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
from tests.wsgi.conftest import Said


def answer(start_response: Any, body: bytes = b"done") -> Iterable[bytes]:
    """Send a whole response."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]


def quick(environ: Any, start_response: Any) -> Iterable[bytes]:
    return answer(start_response)


@long_running
def marked(environ: Any, start_response: Any) -> Iterable[bytes]:
    return answer(start_response)


class Slow:
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.calls = 0

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.calls += 1
        assert self.go.wait(30)
        return answer(start_response)


@pytest.fixture
def slow() -> Iterator[Slow]:
    """Return a slow application that ends with its test."""
    app = Slow()
    yield app
    app.go.set()


def soon(app: Slow) -> Slow:
    """Let an application answer long after the budgets of these tests."""
    threading.Timer(5 * SHORT, app.go.set).start()
    return app


class Full(MemoryStore):
    """Takes no operation."""

    def create(self, *_: Any) -> Any:
        raise StoreUnavailable("no space")


def together(number: int, work: Callable[[], object]) -> None:
    """Do something in many threads at once."""
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


# --- the budget --------------------------------------------------------------------------------


def test_a_slow_request_is_promoted_and_its_handler_goes_on(slow: Slow) -> None:
    app = wrap(slow)
    accepted = call(app)
    assert call(app, path_of(accepted)).status == 202
    slow.go.set()
    assert follow(app, accepted).content == b"done"
    assert slow.calls == 1


def test_many_slow_requests_are_promoted_at_once(slow: Slow) -> None:
    app, found = wrap(slow), list[Call]()
    together(30, lambda: found.append(call(app)))
    slow.go.set()
    assert len({path_of(accepted) for accepted in found}) == 30
    for accepted in found:
        assert follow(app, accepted).content == b"done"


def test_above_the_limit_of_requests_that_stay_synchronous_none_begins(slow: Slow) -> None:
    slow.go.set()
    app = wrap(slow, budget=0, store=Full(), limits={"synchronous": 0})
    assert call(app).status == 200  # that the store fails was not known
    refused = call(app)
    assert (refused.status, refused.header(b"retry-after")) == (503, b"5")
    assert b"can't be recorded" in refused.content
    assert slow.calls == 1


def test_a_budget_longer_than_patience_is_waited_out(slow: Slow) -> None:
    app = wrap(slow, budget=0.1)
    accepted = call(app)
    slow.go.set()
    assert follow(app, accepted).content == b"done"


def test_a_fast_request_is_answered_as_it_is() -> None:
    assert call(wrap(quick, budget=60, store=Untouchable())).content == b"done"


def test_budget_0_defers_every_request_that_may_be() -> None:
    app = wrap(quick, budget=0)
    assert follow(app, call(app)).content == b"done"
    assert call(app, method="HEAD").status == 200
    assert call(app, method="OPTIONS").status == 200


def test_without_a_budget_only_a_mark_defers(slow: Slow) -> None:
    assert call(wrap(soon(slow), budget=None, store=Untouchable())).content == b"done"
    app = wrap(marked, budget=None)
    assert follow(app, call(app)).content == b"done"


def test_over_the_cap_of_those_who_wait_a_request_is_promoted_early(slow: Slow) -> None:
    app = wrap(slow, budget=600, limits={"waiters": 0})
    assert call(app).status == 202
    app = wrap(slow, budget=600, limits={"waiters": 1})
    found: list[Call] = []
    threads = [threading.Thread(target=lambda: found.append(call(app))) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(found) == 3)
    assert [accepted.status for accepted in found] == [202] * 3
    slow.go.set()
    for thread in threads:
        thread.join(30)
    assert (found[3].status, found[3].content) == (200, b"done")


# --- the mark ----------------------------------------------------------------------------------


def test_a_marked_handler_is_deferred_before_its_budget() -> None:
    app = wrap(marked, budget=60)
    assert follow(app, call(app)).content == b"done"


def test_a_mark_does_not_count_after_the_response_has_started() -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        yield from answer(start_response, b"one")
        long_running(lambda: None)()
        yield b"two"

    assert call(wrap(app, budget=60, store=Untouchable())).content == b"onetwo"


@pytest.mark.parametrize("mode", ["prefer", "auto"])
def test_in_mode_prefer_even_marked_handlers_need_the_preference(mode: str) -> None:
    done = call(wrap(marked, mode=mode, budget=60))
    assert done.status == (200 if mode == "prefer" else 202)


def test_an_unknown_framework_runs_in_a_thread_with_one_warning(
    caplog: pytest.LogCaptureFixture, said: Said
) -> None:
    seen: list[str] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        seen.append(threading.current_thread().name)
        handler = marked if environ["PATH_INFO"] == "/marked" else quick
        return handler(environ, start_response)

    wrapped = wrap(app, mode="marked")
    assert [call(wrapped, path).status for path in ("/", "/", "/marked")] == [200, 200, 202]
    assert all(name.startswith("raincheck-") for name in seen)
    assert [r.levelno for r in said()] == [logging.WARNING]
    assert "framework" in caplog.text


def test_a_known_framework_runs_only_its_marked_handlers_in_a_thread(said: Said) -> None:
    flask = pytest.importorskip("flask")
    app = flask.Flask(__name__)
    seen: dict[str, int] = {}

    @app.get("/plain")  # type: ignore[untyped-decorator]
    def plain() -> str:
        seen["plain"] = threading.get_ident()
        return "plain"

    @app.get("/slow")  # type: ignore[untyped-decorator]
    @long_running
    def slow() -> str:
        seen["slow"] = threading.get_ident()
        return "slow"

    app.wsgi_app = wrapped = wrap(app.wsgi_app, mode="marked")
    assert call(wrapped, "/plain").content == b"plain"
    assert follow(wrapped, call(wrapped, "/slow")).content == b"slow"
    assert seen["plain"] == threading.get_ident() != seen["slow"]
    assert said() == []


# --- Prefer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "prefer"])
def test_a_client_that_asks_for_it_is_answered_at_once(slow: Slow, mode: str) -> None:
    app = wrap(slow, mode=mode, budget=60)
    accepted = call(app, headers=[(b"prefer", b"respond-async")])
    assert accepted.header(b"preference-applied") == b"respond-async"
    assert accepted.header(b"vary") == b"Prefer"
    slow.go.set()
    assert follow(app, accepted).content == b"done"


def test_a_client_may_shorten_the_budget_of_its_request(slow: Slow) -> None:
    app = wrap(slow, budget=600, max_wait=SHORT)
    accepted = call(app, headers=[(b"prefer", b"wait=20")])
    assert accepted.header(b"preference-applied") == b"wait=0.02"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("HEAD", "/", [], 400),
        ("OPTIONS", "/", [], 400),
        ("GET", "/excluded", [], 400),
        ("POST", "/", [(b"content-length", b"11")], 413),
        ("POST", "/", [(b"content-length", b"10")], 202),
    ],
)
def test_a_strict_client_is_refused_before_anything_runs(
    slow: Slow, method: str, path: str, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    strict = (b"prefer", b"respond-async, handling=strict")
    app = wrap(slow, exclude=["/excluded"], limits={"request_body": 10})
    done = call(app, path, method, [strict, *headers], b"x" * 10)
    assert done.status == status
    until(lambda: slow.calls == (status == 202))
    assert (done.content == b"") is (method == "HEAD")


# --- include, exclude, budgets -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [("/a/x", 202), ("/a/b/x", 202), ("/a/no", 200), ("/b", 200), ("/a/60", 200)],
)
def test_paths_decide(path: str, status: int) -> None:
    options: dict[str, Any] = {"include": ["/a/**"], "exclude": ["/a/no"], "budgets": {"/a/60": 60}}
    assert call(wrap(quick, budget=0, **options), path).status == status


def test_patterns_meet_the_decoded_path_without_the_mount() -> None:
    app = wrap(quick, budget=0, include=["/é/*"])
    assert call(app, "/é/ü").status == 202
    assert call(app, "/é/ü", SCRIPT_NAME="/v1").status == 202
    assert call(app, "/ü", SCRIPT_NAME="/\xc3\xa9").status == 200


# --- what can't be ------------------------------------------------------------------------------


def once_said(caplog: pytest.LogCaptureFixture, text: str) -> Any:
    """Return an application that answers when the log has said something."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        until(lambda: text in caplog.text)
        return answer(start_response)

    return app


@pytest.mark.parametrize("budget", [0, SHORT, 0.06, None])
def test_what_cannot_be_recorded_stays_synchronous(
    budget: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    app = marked if budget is None else once_said(caplog, "no space")
    done = call(wrap(app, store=Full(), budget=budget))
    assert (done.status, done.content) == (200, b"done")
    assert "no space" in caplog.text


def test_over_the_limit_of_operations_a_slow_request_stays_synchronous(slow: Slow) -> None:
    assert call(wrap(soon(slow), limits={"operations": 0})).status == 200


def test_over_the_limit_of_operations_what_would_be_deferred_at_once_is_503(slow: Slow) -> None:
    app = wrap(slow, limits={"operations": 1}, budget=0)
    assert call(app).status == 202
    refused = call(app)
    assert (refused.status, refused.header(b"retry-after")) == (503, b"5")
    slow.go.set()
    until(lambda: not engine_of(app).is_full)
    assert call(app).status == 202


def test_an_owner_that_cannot_be_told_keeps_the_request_synchronous(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def owner(environ: Any) -> str:
        raise KeyError("user")

    assert call(wrap(once_said(caplog, "KeyError"), owner=owner)).status == 200
    assert "KeyError" in caplog.text


class Lent:
    """A socket, as far as one can be told."""

    def sendall(self, data: bytes) -> None:
        raise AssertionError("not used")


GUNICORN = {"gunicorn.socket": Lent()}
HANDSHAKE = {"HTTP_UPGRADE": "WebSocket", "HTTP_CONNECTION": "keep-alive, Upgrade"}


@pytest.mark.parametrize(
    "server",
    [
        *(HANDSHAKE | GUNICORN, HANDSHAKE | {"werkzeug.socket": Lent()}),
        *(HANDSHAKE | {"eventlet.input": 1}, HANDSHAKE | {"uwsgi.version": b"2.0.30"}),
        *(HANDSHAKE | {"SERVER_SOFTWARE": "gevent/25.5 Python/3.11"}, {"wsgi.websocket": Lent()}),
    ],
)
def test_a_websocket_is_left_to_a_server_that_lends_its_connection(server: dict[str, Any]) -> None:
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        seen.append(environ)
        return answer(start_response)

    environ = environ_of() | server
    assert Call(wrap(app, budget=0), environ).run().status == 200
    assert seen[0] is environ
    strict = environ | {"HTTP_PREFER": "respond-async, handling=strict"}
    assert Call(wrap(app, budget=0), strict).run().status == 400


@pytest.mark.parametrize(
    ("method", "sent"),
    [
        ("POST", HANDSHAKE | GUNICORN),
        ("GET", HANDSHAKE),  # to a server that keeps its connections
        ("GET", {"HTTP_UPGRADE": "websocket"} | GUNICORN),
        ("GET", {"HTTP_UPGRADE": "h2c", "HTTP_CONNECTION": "Upgrade, HTTP2-Settings"} | GUNICORN),
        ("POST", {"HTTP_UPGRADE": "h2c", "HTTP_CONNECTION": "Upgrade, HTTP2-Settings"} | GUNICORN),
    ],
)
def test_an_upgrade_that_no_server_makes_switches_nothing_off(
    slow: Slow, method: str, sent: dict[str, Any]
) -> None:
    assert call(wrap(slow, budget=0), "/", method, **sent).status == 202
    assert call(wrap(slow, limits={"operations": 0}, budget=0), "/", method, **sent).status == 503


EVENTS = (b"accept", b"text/event-stream")


@pytest.mark.parametrize("app", [quick, marked])
@pytest.mark.parametrize("options", [{"budget": 0}, {"mode": "marked"}, {"mode": "prefer"}, {}])
def test_who_asks_for_events_is_never_deferred(app: Any, options: dict[str, Any]) -> None:
    wrapped = wrap(app, **options)
    for prefer in (b"respond-async", b"wait=0", b"none"):
        assert call(wrapped, "/", "GET", [EVENTS, (b"prefer", prefer)]).status == 200


@pytest.mark.parametrize("app", [quick, marked])
@pytest.mark.parametrize(
    "request_of",
    [
        {"HTTP_MCP_SESSION_ID": "1868a90c"},
        {"QUERY_STRING": "EIO=4&transport=polling"},
        {"HTTP_SEC_FETCH_MODE": "navigate", "HTTP_SEC_FETCH_DEST": "empty"},
    ],
)
def test_who_is_left_alone_is_never_deferred_unless_the_option_says_so(
    app: Any, request_of: dict[str, Any]
) -> None:
    assert call(wrap(app, budget=0), "/", "POST", **request_of).status == 200
    assert call(wrap(app, budget=0, left_alone=[]), "/", "POST", **request_of).status == 202


def test_middlewares_in_one_another_make_one_operation(slow: Slow) -> None:
    inner_store, outer_store = MemoryStore(), MemoryStore()
    app = wrap(wrap(slow, store=inner_store), store=outer_store)
    accepted = call(app)
    slow.go.set()
    assert follow(app, accepted).content == b"done"
    assert len(outer_store.find(Filter())[0]) == 1
    assert inner_store.find(Filter())[0] == []


def test_a_handler_can_say_how_far_it_is_and_hear_that_it_may_stop() -> None:
    heard: list[Any] = []
    stopped = threading.Event()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        operation = current_operation()
        operation.progress(1, 4, "begun")
        until(lambda: operation.cancelled)
        heard.append(operation.id)
        stopped.set()
        operation.raise_if_cancelled()
        return []

    wrapped = wrap(app)
    accepted = call(wrapped)
    path = path_of(accepted)
    until(lambda: b'"begun"' in call(wrapped, path).content)  # within a beat, which is a second
    assert call(wrapped, path, "DELETE").status == 202
    assert stopped.wait(30)
    assert follow(wrapped, accepted).status == 410
    assert heard == [path.rpartition("/")[2]]


def test_context_variables_of_the_servers_thread_are_seen_and_not_changed() -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("outer")

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        body = variable.get().encode()
        variable.set("inner")
        return answer(start_response, body)

    assert call(wrap(app, budget=60)).content == b"outer"
    assert variable.get() == "outer"
