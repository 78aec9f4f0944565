"""The wire through the WSGI gateway, from the 202 to the end of the response.

What the wire is decides `monitor`, which the ASGI tests exercise in full; here is what a WSGI
gateway could get wrong of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from raincheck import StoreUnavailable, current_operation
from raincheck.stores.memory import MemoryStore
from raincheck.wsgi import RaincheckMiddleware
from tests.support.wire import BODY, HEADERS, Clock, assert_problem, document, names
from tests.support.wsgi import Call, Pairs, call, engine_of, environ_of, follow, path_of


class Handler:
    """An application whose handler waits to be told what to answer."""

    def __init__(self) -> None:
        self.status = "200 OK"
        self.headers = [(name.decode(), value.decode("latin-1")) for name, value in HEADERS]
        self.body = BODY
        self.go = threading.Event()

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        current_operation().progress(1, 4, "begun")
        assert self.go.wait(30)
        start_response(self.status, self.headers)
        return [self.body]


@pytest.fixture
def handler() -> Iterator[Handler]:
    """Return what answers when it is told to, or when its test is over."""
    made = Handler()
    yield made
    made.go.set()


@pytest.fixture
def app(handler: Handler, clock: Clock) -> RaincheckMiddleware:
    """Wrap the handler so that all its requests are deferred."""
    return wrap(handler, store=MemoryStore(clock=clock))


def wrap(handler: Any, **options: Any) -> RaincheckMiddleware:
    chosen: dict[str, Any] = {"budget": 0, "store": "memory:", "application": "tests"} | options
    return RaincheckMiddleware(handler, **chosen)


def finished(app: Any, handler: Handler, headers: Pairs = ()) -> tuple[str, Any]:
    """Defer a request, let its handler answer, and return R's path and final answer."""
    accepted = call(app, "/thing", headers=headers)
    handler.go.set()
    return path_of(accepted), follow(app, accepted)


def test_the_202_says_where_to_look_and_when(app: Any) -> None:
    accepted = call(app, "/thing", "POST", [(b"authorization", b"secret")], QUERY_STRING="q")
    assert accepted.status_line == "202 Accepted"
    response_url = accepted.header(b"location")
    assert response_url.startswith(b"http://testserver/operations/")
    status_url = response_url + b"/status"
    assert accepted.headers == [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(accepted.content)),
        (b"location", response_url),
        (b"content-location", response_url),
        (b"operation-location", status_url),
        (b"link", b'<%s>; rel="status"' % status_url),
        (b"retry-after", b"1"),
        (b"cache-control", b"no-store"),
    ]
    path = path_of(accepted)
    found = document(accepted)
    assert found.pop("progress", None) in (None, {"completed": 1, "total": 4, "message": "begun"})
    assert found == {
        "id": path.rpartition("/")[2],
        "status": "running",
        "created": "2023-11-14T22:13:20.000000Z",
        "updated": "2023-11-14T22:13:20.000000Z",
        "links": {"response": path, "status": f"{path}/status", "result": f"{path}/result"},
    }


def test_r_m_and_the_result_while_it_runs(app: Any) -> None:
    path = path_of(call(app, "/thing"))
    assert call(app, path, headers=[(b"prefer", b"respond-async")]).status == 202
    assert call(app, path, headers=[(b"if-none-match", b"*")]).status == 202
    status = call(app, f"{path}/status")
    assert (status.status, document(status)["status"]) == (200, "running")
    assert_problem(call(app, f"{path}/result"), 404, "result-not-ready")


def test_r_is_the_handlers_response(app: Any, handler: Handler) -> None:
    handler.status = "201 Made up"
    path, done = finished(app, handler)
    assert done.status_line == "201 Created"
    assert done.headers == [
        (b"content-type", b"application/x-thing"),
        (b"X-Twice", b"1"),
        (b"x-twice", b"\xff2"),
        (b"content-length", b"%d" % len(BODY)),
        (b"cache-control", b"no-store"),
        (b"operation-status", b"succeeded"),
    ]
    assert done.content == BODY
    for suffix in ("", "/result", "/result/"):
        again = call(app, path + suffix)
        assert (again.headers, again.content) == (done.headers, done.content)
    found = document(call(app, f"{path}/status"))
    assert (found["status"], found["response"]) == ("succeeded", {"status": 201})


def test_a_status_without_a_name_has_one_in_wsgi(app: Any, handler: Handler) -> None:
    handler.status = "299 Odd"
    assert finished(app, handler)[1].status_line == "299 Unknown"


@pytest.mark.usefixtures("by_hand")  # or progress might come in between
@pytest.mark.parametrize("suffix", ["", "/status", "/result"])
@pytest.mark.parametrize("is_over", [False, True])
def test_a_head_says_what_a_get_would_and_sends_nothing(
    app: Any, handler: Handler, suffix: str, is_over: bool
) -> None:
    path = finished(app, handler)[0] if is_over else path_of(call(app, "/thing"))
    head, get = call(app, path + suffix, "HEAD"), call(app, path + suffix)
    assert (head.status, head.headers, head.content) == (get.status, get.headers, b"")


def test_r_and_m_have_validators(app: Any, handler: Handler) -> None:
    path, _ = finished(app, handler)
    for url in (path, f"{path}/status"):
        first = call(app, url)
        same = call(app, url, headers=[(b"if-none-match", first.header(b"etag"))])
        assert (same.status_line, same.content) == ("304 Not Modified", b"")
        assert b"content-type" not in names(same)
        assert call(app, url, headers=[(b"if-none-match", b'"other"')]).content == first.content


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        (b"bytes=0-0", "206 Partial Content", BODY[:1]),
        (b"bytes=-10", "206 Partial Content", BODY[-10:]),
        (b"bytes=0-1,5-6", "200 OK", BODY),
        (b"bytes=768-", "416", None),
    ],
)
def test_ranges_of_r(
    app: Any, handler: Handler, asked: bytes, status: str, content: bytes | None
) -> None:
    path, _ = finished(app, handler)
    part = call(app, path, headers=[(b"range", asked)])
    assert part.status_line.startswith(status)
    assert part.header(b"content-length") == b"%d" % len(part.content)
    assert content is None or part.content == content


def test_a_large_response_is_served_piece_by_piece(app: Any, handler: Handler) -> None:
    handler.body = bytes(n % 251 for n in range(1_000_000))
    path, done = finished(app, handler)
    assert done.content == handler.body
    assert max(map(len, done.chunks)) <= 256 * 1024
    part = call(app, path, headers=[(b"range", b"bytes=262140-786450")])
    assert part.content == handler.body[262140:786451]


@pytest.mark.parametrize(
    ("suffix", "method", "allow"),
    [
        ("", "POST", b"GET, HEAD, DELETE"),
        ("", "OPTIONS", b"GET, HEAD, DELETE"),
        ("/status", "DELETE", b"GET, HEAD"),
        ("/result", "PUT", b"GET, HEAD"),
    ],
)
def test_other_methods_are_405(app: Any, suffix: str, method: str, allow: bytes) -> None:
    answer = call(app, path_of(call(app, "/thing")) + suffix, method)
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.header(b"allow") == allow


@pytest.mark.parametrize(
    "tail", ["", "x", "0" * 32, "0" * 32 + "/other", "\0", "../../etc", "ü" * 5000, "a/b/c", "%2F"]
)
def test_what_does_not_exist_is_404(app: Any, tail: str) -> None:
    assert_problem(call(app, f"/operations/{tail}"), 404, "not-found")


def test_a_path_that_is_not_utf_8_is_404(app: Any) -> None:
    assert_problem(call(app, PATH_INFO="/operations/\xff\xfe"), 404, "not-found")


def test_what_only_looks_like_an_operation_is_the_applications(app: Any, handler: Handler) -> None:
    handler.go.set()
    for path in ("/operations", "/operationsx/1", "/x/operations/1"):
        assert call(app, path, "HEAD").header(b"X-Twice") == b"1"


def test_a_status_that_is_not_accepted_is_406(app: Any) -> None:
    path = path_of(call(app, "/thing"))
    pdf = [(b"accept", b"application/pdf")]
    assert_problem(call(app, f"{path}/status", headers=pdf), 406, "not-acceptable")
    assert call(app, path, headers=pdf).status == 202


def test_a_response_is_410_after_its_retention(app: Any, handler: Handler, clock: Clock) -> None:
    path, _ = finished(app, handler)
    clock.now += 86_400
    assert_problem(call(app, path), 410, "gone")
    engine_of(app).purge()
    clock.now += 86_400
    engine_of(app).purge()
    assert_problem(call(app, path), 404, "not-found")


def test_deleting_a_response_forgets_it(app: Any, handler: Handler) -> None:
    path, _ = finished(app, handler)
    deleted = call(app, path, "DELETE")
    assert (deleted.status_line, deleted.content) == ("204 No Content", b"")
    for method in ("GET", "HEAD", "DELETE"):
        assert call(app, path, method).status == 410


def test_cancelling_is_said_until_the_handler_has_stopped(app: Any, handler: Handler) -> None:
    accepted = call(app, "/thing")
    asked = call(app, path_of(accepted), "DELETE")
    assert (asked.status, document(asked)["status"]) == (202, "cancelling")
    handler.go.set()
    assert_problem(follow(app, accepted), 410, "canceled")


def test_a_store_that_fails_is_503(handler: Handler) -> None:
    class Down(MemoryStore):
        down = ""

        def __getattribute__(self, name: str) -> Any:
            if name == object.__getattribute__(self, "down"):
                raise StoreUnavailable("down")
            return object.__getattribute__(self, name)

    store = Down()
    app = wrap(handler, store=store)
    path, _ = finished(app, handler)
    for method in ("get", "read_chunks"):
        store.down = method
        answer = call(app, path)
        assert_problem(answer, 503, "unavailable")
        assert answer.header(b"retry-after") == b"5"
        assert call(app, path, "HEAD").content == b""


@pytest.mark.parametrize("kept", [slice(0, -1), slice(0, 0)])
def test_a_body_that_ends_early_is_cut_and_never_whole(handler: Handler, kept: slice) -> None:
    class Short(MemoryStore):
        def read_chunks(self, *arguments: Any) -> Any:
            yield from (chunk[kept] for chunk in super().read_chunks(*arguments))

    _, done = finished(wrap(handler, store=Short()), handler)
    assert done.error is not None


def test_somebody_elses_operation_does_not_exist(handler: Handler) -> None:
    seen: list[Any] = []

    def owner(environ: Any) -> str | None:
        seen.append(environ)
        user: str | None = environ.get("HTTP_X_USER")
        return user

    app = wrap(handler, owner=owner)
    ann, bob = [(b"x-user", b"ann")], [(b"x-user", b"bob")]
    environ = environ_of("/thing", headers=ann)
    app(environ, lambda *_: print)
    assert seen[0] is environ
    path = path_of(call(app, "/thing", headers=ann))
    unknown = call(app, "/operations/" + "0" * 32, headers=bob)
    for theirs in (call(app, path, headers=bob), call(app, path, "DELETE", bob), call(app, path)):
        assert (theirs.headers, theirs.content) == (unknown.headers, unknown.content)
    assert call(app, path, headers=ann).status == 202


def test_see_other_polls_m_and_ends_in_a_303(handler: Handler) -> None:
    app = wrap(handler, dialect="see-other")
    accepted = call(app, "/thing")
    monitor = path_of(accepted)
    handler.go.set()
    while (answer := call(app, monitor)).status == 200:
        assert document(answer)["status"] in ("running", "succeeded")
    assert answer.status_line == "303 See Other"
    response = answer.header(b"location").decode().removeprefix("http://testserver")
    assert call(app, response).content == BODY


# --- hostile requests --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["\0", "x" * 100_000, "..", "%2e", "' OR 1=1", "\x80"])
def test_no_id_makes_a_poll_fail(name: str, tmp_path: Any) -> None:
    app = wrap(lambda environ, start_response: [], store=f"sqlite:///{tmp_path}/operations.db")
    for method in ("GET", "HEAD", "DELETE", "POST"):
        answer = call(app, PATH_INFO=f"/operations/{name}", method=method)
        assert answer.status == 404
    engine_of(app).close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_IF_NONE_MATCH", '"' * 9000),
        ("HTTP_RANGE", "bytes=0-0," * 5000),
        ("HTTP_RANGE", "bytes=" + "9" * 5000 + "-"),
        ("HTTP_HOST", "a\r\nx: y"),
        ("HTTP_HOST", "\xff" * 9000),
        ("HTTP_PREFER", 'a;"a,' * 5000),
        ("HTTP_PREFER", "wait=\xb2"),
        ("HTTP_ACCEPT", "a/b;q=" * 9000),
        ("REMOTE_PORT", ""),
        ("SERVER_PORT", ""),
        ("REQUEST_URI", "\xff\u20ac"),
        ("SERVER_PROTOCOL", ""),
        ("QUERY_STRING", "\xff"),
    ],
)
def test_nothing_in_the_environ_makes_a_poll_fail(
    app: Any, handler: Handler, name: str, value: str
) -> None:
    path, _ = finished(app, handler)
    more: dict[str, Any] = {name: value}
    for resource in ("", "/status"):
        answered = call(app, path + resource, **more)
        assert answered.error is None
        assert answered.status < 500


def test_an_environ_with_the_least_that_pep_3333_demands_is_enough(handler: Handler) -> None:
    handler.go.set()
    environ = environ_of()
    for name in ("HTTP_HOST", "REMOTE_ADDR", "PATH_INFO", "SCRIPT_NAME", "QUERY_STRING"):
        del environ[name]
    assert Call(wrap(handler), environ).run().status_line == "202 Accepted"
