"""Requests that are captured and run again."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.validate import validator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raincheck import is_rerun, long_running
from raincheck.engine import heartbeat
from raincheck.engine.repository import Repository
from raincheck.handler import REQUEST
from raincheck.http.messages import Request
from raincheck.http.spool import Spooled
from raincheck.operations.operation import Reason
from raincheck.operations.transitions import Released
from raincheck.stores.memory import MemoryStore
from raincheck.wsgi.request_body import Unread, pieces, read_ahead
from raincheck.wsgi.translation import to_environ, to_request
from tests.support.wsgi import call, engine_of, environ_of, follow, path_of, until, wrap
from tests.wsgi.test_promotion import answer

FAST = 0.02  # seconds between what the heartbeat does here
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", FAST)
    monkeypatch.setattr(heartbeat, "RECOVER", FAST)


class Lost:
    """An application whose first run is lost; the second tells what it has seen."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.environs: list[dict[str, Any]] = []
        self.reruns: list[bool] = []
        self.on_begin: Callable[[dict[str, Any]], object] = lambda environ: None

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.environs.append(dict(environ))
        self.reruns.append(is_rerun())
        self.on_begin(environ)
        if not is_rerun():
            assert self.go.wait(30)
        # Not until the end, which a stream of a server need not have.
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return answer(start_response, hashlib.sha256(body).hexdigest().encode())


def lose(wrapped: Any, app: Lost, accepted: Any) -> Any:
    """Have an operation released by its worker, and return R when it has ended."""
    operation_id = path_of(accepted).rpartition("/")[2]
    assert Repository(engine_of(wrapped).store).change(operation_id, Released()) is not None
    app.go.set()
    return follow(wrapped, accepted)


SERVERS_OWN = {"wsgi.input", "wsgi.errors", "wsgi.multiprocess", "wsgi.input_terminated", REQUEST}


@pytest.mark.parametrize("size", [0, 5, 3 * MIB])
@pytest.mark.parametrize("budget", [0, 0.02])
def test_the_application_sees_the_same_environ_and_body(size: int, budget: float) -> None:
    app, body = Lost(), os.urandom(size)
    wrapped = wrap(app, budget=budget, retry={"/**": True})
    headers = [(b"x-a", b"1, \xe9"), (b"cookie", b"a=1; b=2"), (b"content-type", b"x/y; z")]
    more = {"SCRIPT_NAME": "/m\xc3\xa9", "QUERY_STRING": "q=%FF", "RAW_URI": "/m%C3%A9/x%2Fy?q=%FF"}
    accepted = call(wrapped, "/x/y", "PUT", headers, body, REMOTE_PORT="1234", **more)
    assert accepted.status == 202
    until(lambda: app.environs)
    path = path_of(accepted).removeprefix("/m%C3%A9")
    operation_id = path.rpartition("/")[2]
    assert Repository(engine_of(wrapped).store).change(operation_id, Released()) is not None
    app.go.set()
    until(lambda: call(wrapped, path, SCRIPT_NAME=more["SCRIPT_NAME"]).status != 202)
    done = call(wrapped, path, SCRIPT_NAME=more["SCRIPT_NAME"])
    assert done.content == hashlib.sha256(body).hexdigest().encode()
    assert app.reruns == [False, True]
    first, again = app.environs
    assert again | {"REQUEST_URI": None} == again | first | {"REQUEST_URI": None} | {
        name: again[name] for name in SERVERS_OWN
    }


def test_a_rerun_may_be_marked_and_is_known_as_one() -> None:
    @long_running(retry=True)
    def marked(environ: Any, start_response: Any) -> Iterable[bytes]:
        return app(environ, start_response)

    app = Lost()
    wrapped = wrap(marked, budget=60)
    accepted = call(wrapped, method="POST", body=b"order")
    assert lose(wrapped, app, accepted).content == hashlib.sha256(b"order").hexdigest().encode()
    assert len(app.environs) == 2


def test_a_handler_that_has_said_no_is_not_run_again() -> None:
    @long_running(retry=False)
    def marked(environ: Any, start_response: Any) -> Iterable[bytes]:
        return app(environ, start_response)

    app = Lost()
    wrapped = wrap(marked, budget=0)
    accepted = call(wrapped)
    until(lambda: app.environs)
    operation_id = path_of(accepted).rpartition("/")[2]
    operation = engine_of(wrapped).store.get(operation_id)
    assert operation is not None
    assert not operation.repeatable
    app.go.set()


@pytest.mark.parametrize(
    "told",
    [
        {"REMOTE_USER": "anne"},
        {"SSL_CLIENT_VERIFY": "SUCCESS"},
        {"SSL_CLIENT_S_DN": "CN=anne"},
        {"SSL_CLIENT_CERT": "-----BEGIN CERTIFICATE-----"},
    ],
)
def test_a_request_of_a_user_whom_only_the_server_knows_is_not_run_again(
    told: dict[str, Any],
) -> None:
    app = Lost()
    wrapped = wrap(app, budget=0)
    done = lose(wrapped, app, call(wrapped, **told))
    assert (done.status, b"interrupted" in done.content) == (500, True)
    assert len(app.environs) == 1


def test_a_path_that_is_no_text_is_run_again_as_it_came() -> None:
    app = Lost()
    wrapped = wrap(app, budget=0)
    done = lose(wrapped, app, call(wrapped, PATH_INFO="/\xff\xc3\xa9"))
    assert done.status == 200
    assert [each["PATH_INFO"] for each in app.environs] == ["/\xff\xc3\xa9"] * 2


def test_a_body_is_captured_while_its_handler_reads_it() -> None:
    app, body = Lost(), os.urandom(3 * MIB)
    read: list[bytes] = []
    app.on_begin = lambda environ: read.append(environ["wsgi.input"].read(1_500_000))
    wrapped = wrap(app, retry={"/**": True})
    accepted = call(wrapped, method="POST", body=body)
    until(lambda: read)
    lose(wrapped, app, accepted)
    assert read == [body[:1_500_000]] * 2


def test_a_body_that_its_handler_has_closed_is_not_captured() -> None:
    def close_and_defer(environ: dict[str, Any]) -> None:
        environ["wsgi.input"].close()
        long_running(lambda: None)()

    app = Lost()
    app.on_begin = close_and_defer
    wrapped = wrap(app, budget=60, retry={"/**": True})
    accepted = call(wrapped, method="POST", body=b"x" * 2 * MIB)
    operation = engine_of(wrapped).store.get(path_of(accepted).rpartition("/")[2])
    assert operation is not None
    assert not operation.captured
    app.go.set()


def test_a_stopping_process_runs_nothing_again() -> None:
    app, store = Lost(), MemoryStore()
    wrapped = wrap(app, budget=0, store=store, drain=0.0)
    accepted = call(wrapped)
    until(lambda: app.environs)
    threading.Timer(0.1, app.go.set).start()
    wrapped._gateway.running.drain()
    operation = store.get(path_of(accepted).rpartition("/")[2])
    assert operation is not None
    assert (operation.state.value, len(app.environs)) == ("accepted", 1)
    other = wrap(app, budget=0, store=store)
    assert follow(other, accepted).status == 200
    assert len(app.environs) == 2


def test_a_handler_that_takes_too_long_has_failed_and_counts_until_its_thread_ends() -> None:
    app = Lost()
    wrapped = wrap(app, budget=0, timeout=0.05)
    done = follow(wrapped, call(wrapped))
    assert (done.status, Reason.TIMEOUT.value.encode() in done.content) == (500, True)
    assert engine_of(wrapped).is_busy
    assert len(wrapped._gateway.running) == 1
    app.go.set()
    until(lambda: not engine_of(wrapped).is_busy and not wrapped._gateway.running)


# --- between environs and requests -------------------------------------------------------------

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
_LATIN = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"))
_NAMES = st.from_regex(r"[a-z]{1,9}(-[a-z]{1,9}){0,2}", fullmatch=True).filter(
    lambda name: not name.startswith("content-")
)


@relaxed
@given(
    path=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd")),
    root=st.sampled_from(["", "/a", "/é"]),
    query=_LATIN,
    fields=st.dictionaries(_NAMES, _LATIN),
    scheme=st.sampled_from(["http", "https"]),
)
def test_an_environ_survives_being_captured(
    path: str, root: str, query: str, fields: dict[str, str], scheme: str
) -> None:
    request = Request(
        "PUT",
        f"{root}/{path}",
        scheme=scheme,
        query=query.encode("latin-1"),
        root_path=root,
        headers=tuple((n.encode(), v.encode("latin-1")) for n, v in fields.items()),
        client=("10.0.0.1", 7),
        server=("example.org", 443),
    )
    assert to_request(to_environ(request, io.BytesIO())) == request


def test_an_environ_is_what_pep_3333_wants() -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    environ = to_environ(Request("GET", "/é", headers=((b"a", b"1"), (b"a", b"2"))), io.BytesIO())
    assert (environ["HTTP_A"], environ["PATH_INFO"]) == ("1,2", "/\xc3\xa9")
    result: Any = validator(app)(environ, lambda *_: lambda data: None)
    assert b"".join(result) == b"done"
    result.close()


def test_a_field_that_only_looks_like_another_is_dropped() -> None:
    headers = ((b"x-user", b"anne"), (b"x_user", b"root"))
    environ = to_environ(Request("GET", "/", headers=headers), io.BytesIO())
    assert environ["HTTP_X_USER"] == "anne"


# --- large bodies ------------------------------------------------------------------------------


@settings(relaxed, max_examples=30)
@given(
    size=st.integers(MIB - 2, MIB + 300_000),
    reads=st.lists(st.integers(0, 500_000), max_size=5),
    seek=st.integers(0, MIB + 400_000),
)
def test_a_large_body_is_read_from_anywhere_and_whole(
    size: int, reads: list[int], seek: int
) -> None:
    data, spooled = os.urandom(size), Spooled(10 * MIB)
    body = read_ahead(environ_of(method="POST", body=data), 10 * MIB, spooled)
    bare = io.BytesIO(data)
    with body:
        assert [body.read(n) for n in reads] == [bare.read(n) for n in reads]
        assert b"".join(pieces(body) or ()) == data
        body.seek(seek)
        bare.seek(seek)
        assert body.read() == bare.read()
    assert pieces(body) is None
    assert sum(spooled._bytes.values()) == 0


def test_a_body_for_which_there_is_no_room_is_read_from_the_server() -> None:
    data, spooled = os.urandom(3 * MIB), Spooled(MIB)
    with pytest.raises(Unread) as unread:
        read_ahead(environ_of(method="POST", body=data), 10 * MIB, spooled)
    assert not unread.value.has_room
    with unread.value.stream as stream:
        assert stream.read(len(data)) == data
    assert sum(spooled._bytes.values()) == 0
