"""Wrong requests, expiry, cancellation, owners, and the other dialect."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from raincheck.http.problems import PROBLEM
from tests.support.asgi import PATIENT, call, engine_of, follow, path_of
from tests.support.wire import BODY, Clock, Handler, assert_problem, document, finished, wrap

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("suffix", "method", "allow"),
    [
        ("", "POST", b"GET, HEAD, DELETE"),
        ("", "OPTIONS", b"GET, HEAD, DELETE"),
        ("/status", "DELETE", b"GET, HEAD"),
        ("/result", "PUT", b"GET, HEAD"),
    ],
)
async def test_other_methods_are_405(app: Any, suffix: str, method: str, allow: bytes) -> None:
    answer = await call(app, path_of(await call(app, "/thing")) + suffix, method)
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.header(b"allow") == allow


@pytest.mark.parametrize(
    "tail",
    [
        "",
        "x",
        "0" * 32,
        "0" * 32 + "/other",
        "\0",
        "../../etc/passwd",
        "ü" * 5000,
        "a/b/c/d",
        "%2F",
    ],
)
async def test_what_does_not_exist_is_404(app: Any, tail: str) -> None:
    assert_problem(await call(app, f"/operations/{tail}"), 404, "not-found")


async def test_a_status_that_is_not_accepted_is_406_and_r_never_is(
    app: Any, handler: Handler
) -> None:
    path = path_of(await call(app, "/thing"))
    pdf = [(b"accept", b"application/pdf")]
    assert_problem(await call(app, f"{path}/status", headers=pdf), 406, "not-acceptable")
    assert (await call(app, path, headers=pdf)).status == 202
    assert (await call(app, f"{path}/status", headers=[(b"accept", b"*/*")])).status == 200


async def test_unknown_queries_and_content_types_are_ignored(app: Any) -> None:
    path = path_of(await call(app, "/thing"))
    headers = [(b"content-type", b"application/json"), (b"prefer", b"odata.x, respond-sync")]
    polled = await call(app, path, headers=headers, query_string=b"api-version=1&log=True")
    assert polled.status == 202


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_a_strict_client_is_refused_before_anything_runs(
    app: Any, handler: Handler, method: str
) -> None:
    strict = [(b"prefer", b"respond-async, handling=strict")]
    answer = await call(app, "/thing", method, strict)
    assert answer.status == 400
    assert answer.header(b"content-type") == PROBLEM
    assert not handler.ended.is_set()


async def test_a_strict_client_with_too_much_is_413(handler: Handler) -> None:
    app = wrap(handler, limits={"request_body": 10})
    strict = [(b"prefer", b"respond-async, handling=strict"), (b"content-length", b"11")]
    answer = await call(app, "/thing", "POST", strict, [b"x" * 11])
    assert_problem(answer, 413, "request-too-large")


async def test_too_many_operations_are_503_before_anything_runs(handler: Handler) -> None:
    app = wrap(handler, limits={"operations": 1})
    assert (await call(app, "/thing")).status == 202
    answer = await call(app, "/thing")
    assert_problem(answer, 503, "unavailable")
    assert answer.header(b"retry-after") == b"5"


async def test_a_response_is_410_after_its_retention_and_404_much_later(
    app: Any, handler: Handler, clock: Clock
) -> None:
    path, _ = await finished(app, handler)
    clock.now += 86_399
    assert (await call(app, path)).status == 200
    clock.now += 1
    for url in (path, f"{path}/status", f"{path}/result"):
        assert_problem(await call(app, url), 410, "gone")
    engine_of(app).purge()
    assert_problem(await call(app, path), 410, "gone")
    clock.now += 86_400
    engine_of(app).purge()
    assert_problem(await call(app, path), 404, "not-found")


async def test_deleting_a_response_forgets_it(app: Any, handler: Handler) -> None:
    path, _ = await finished(app, handler)
    deleted = await call(app, path, "DELETE")
    assert (deleted.status, deleted.content) == (204, b"")
    for method in ("GET", "HEAD", "DELETE"):
        assert (await call(app, path, method)).status == 410


async def test_cancelling_is_said_until_the_handler_has_stopped(app: Any, handler: Handler) -> None:
    may_end = handler.may_end = anyio.Event()
    accepted = await call(app, "/thing")
    path = path_of(accepted)
    asked = await call(app, path, "DELETE")
    assert (asked.status, document(asked)["status"]) == (202, "cancelling")
    assert asked.header(b"location") == accepted.header(b"location")
    assert document(await call(app, f"{path}/status"))["status"] == "cancelling"
    assert not handler.ended.is_set()
    may_end.set()
    done = await follow(app, accepted)
    assert handler.ended.is_set()
    assert_problem(done, 410, "canceled")
    assert done.header(b"operation-status") == b"canceled"
    found = document(await call(app, f"{path}/status"))
    assert found["status"] == "canceled"
    assert "resourceLocation" not in found
    assert (await call(app, path, "DELETE")).status == 204


async def test_a_response_that_comes_after_the_cancellation_is_dropped(
    app: Any, handler: Handler
) -> None:
    accepted = await call(app, "/thing")
    await call(app, path_of(accepted), "DELETE")
    handler.go.set()
    assert_problem(await follow(app, accepted), 410, "canceled")


async def test_somebody_elses_operation_does_not_exist(handler: Handler) -> None:
    def owner(scope: Any) -> str | None:
        user: bytes | None = dict(scope["headers"]).get(b"x-user")
        return user.decode() if user else None

    app = wrap(handler, owner=owner)
    ann, bob = [(b"x-user", b"ann")], [(b"x-user", b"bob")]
    path = path_of(await call(app, "/thing", headers=ann))
    assert (await call(app, path, headers=ann)).status == 202
    unknown = await call(app, "/operations/" + "0" * 32, headers=bob)
    for method in ("GET", "DELETE"):
        for suffix in ("", "/status", "/result"):
            if method == "GET" or not suffix:
                theirs = await call(app, path + suffix, method, bob)
                assert theirs.sent == unknown.sent
    assert (await call(app, path)).status == 404
    assert (await call(app, path, headers=ann)).status == 202


async def test_see_other_polls_m_and_ends_in_a_303(handler: Handler) -> None:
    app = wrap(handler, dialect="see-other")
    accepted = await call(app, "/thing")
    monitor = path_of(accepted)
    assert monitor.endswith("/status")
    response = monitor.removesuffix("/status")
    running = await call(app, monitor)
    assert (running.status, document(running)["status"]) == (200, "running")
    assert_problem(await call(app, response), 404, "result-not-ready")
    handler.go.set()
    await handler.ended.wait()
    with anyio.fail_after(PATIENT):
        while (done := await call(app, monitor)).status != 303:  # noqa: ASYNC110
            await anyio.sleep(0.002)
    assert done.header(b"location") == f"http://testserver{response}".encode()
    assert (await call(app, response)).content == BODY
