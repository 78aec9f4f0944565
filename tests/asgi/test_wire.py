"""The wire of the default dialect, from the 202 to the end of the response."""

from __future__ import annotations

from typing import Any

import pytest

from raincheck.asgi import MOUNTED, RaincheckMiddleware
from raincheck.monitor.links import Resource
from tests.support import handlers
from tests.support.asgi import call, engine_of, follow, path_of
from tests.support.wire import BODY, Clock, Handler, assert_problem, document, finished, names, wrap

pytestmark = pytest.mark.anyio


async def test_the_202_says_where_to_look_and_when(app: Any) -> None:
    accepted = await call(app, "/thing")
    response_url = accepted.header(b"location")
    assert response_url is not None
    assert response_url.startswith(b"http://testserver/operations/")
    status_url = response_url + b"/status"
    assert accepted.header(b"content-location") == response_url
    assert accepted.header(b"operation-location") == status_url
    assert accepted.header(b"link") == b'<%s>; rel="status"' % status_url
    assert accepted.header(b"retry-after") == b"1"
    assert accepted.header(b"cache-control") == b"no-store"
    assert accepted.header(b"content-type") == b"application/json"
    assert accepted.header(b"content-length") == b"%d" % len(accepted.content)
    assert b"vary" not in names(accepted)
    assert b"preference-applied" not in names(accepted)


async def test_the_status_document(app: Any) -> None:
    accepted = await call(app, "/thing", "POST", [(b"authorization", b"secret")], query_string=b"q")
    path = path_of(accepted)
    operation_id = path.rpartition("/")[2]
    assert document(accepted) == {
        "id": operation_id,
        "status": "running",
        "created": "2023-11-14T22:13:20.000000Z",
        "updated": "2023-11-14T22:13:20.000000Z",
        "links": {"response": path, "status": f"{path}/status", "result": f"{path}/result"},
    }


@pytest.mark.usefixtures("by_hand")  # or a beat that has read it late might write what was before
async def test_progress_is_seen_after_a_beat(app: Any, handler: Handler) -> None:
    path = path_of(await call(app, "/thing"))
    await handler.begun.wait()
    handler.operation.progress(2, 4)
    engine_of(app).beat()
    status = await call(app, f"{path}/status")
    assert document(status)["progress"] == {"completed": 2, "total": 4}


async def test_a_preference_that_was_applied_is_said(handler: Handler) -> None:
    app = wrap(handler, mode="prefer")
    accepted = await call(app, "/thing", headers=[(b"prefer", b"respond-async, wait=0")])
    assert accepted.header(b"preference-applied") == b"respond-async"
    assert accepted.header(b"vary") == b"Prefer"


@pytest.mark.usefixtures("by_hand")  # or progress might come in between
async def test_r_repeats_the_202_while_it_runs(app: Any) -> None:
    accepted = await call(app, "/thing")
    polled = await call(app, path_of(accepted), headers=[(b"prefer", b"respond-async")])
    assert (polled.status, polled.headers) == (202, accepted.headers)
    assert polled.content == accepted.content


@pytest.mark.usefixtures("by_hand")  # or progress might come in between
async def test_m_is_200_while_it_runs(app: Any) -> None:
    accepted = await call(app, "/thing")
    status = await call(app, path_of(accepted) + "/status")
    assert (status.status, status.header(b"retry-after")) == (200, b"1")
    assert document(status) == document(accepted)


@pytest.mark.usefixtures("by_hand")  # or progress might tell how long it takes still
async def test_polls_are_asked_for_less_often_as_time_goes_by(app: Any, clock: Clock) -> None:
    path = path_of(await call(app, "/thing"))
    seen = []
    for age in (5, 10, 11, 100, 100_000):
        clock.now = 1_700_000_000.0 + age
        seen.append((await call(app, path)).header(b"retry-after"))
    assert seen == [b"1", b"1", b"2", b"10", b"30"]


async def test_a_running_operation_is_never_not_modified(app: Any) -> None:
    path = path_of(await call(app, "/thing"))
    assert (await call(app, path, headers=[(b"if-none-match", b"*")])).status == 202


async def test_the_result_does_not_exist_before_the_end(app: Any, handler: Handler) -> None:
    path = path_of(await call(app, "/thing"))
    early = await call(app, f"{path}/result")
    assert_problem(early, 404, "result-not-ready")
    assert early.header(b"retry-after") == b"1"


@pytest.mark.usefixtures("by_hand")  # or progress might come in between
@pytest.mark.parametrize("path", ["", "/status"])
async def test_a_head_says_what_a_get_would_and_sends_nothing(app: Any, path: str) -> None:
    path = path_of(await call(app, "/thing")) + path
    head, get = await call(app, path, "HEAD"), await call(app, path)
    assert (head.status, head.headers, head.content) == (get.status, get.headers, b"")


async def test_a_head_of_the_original_is_never_deferred(app: Any, handler: Handler) -> None:
    handler.go.set()
    assert (await call(app, "/thing", "HEAD")).status == 200


async def test_r_is_the_handlers_response(app: Any, handler: Handler) -> None:
    handler.status = 201
    path, done = await finished(app, handler)
    assert done.status == 201
    assert done.headers == [
        (b"content-type", b"application/x-thing"),
        (b"X-Twice", b"1"),
        (b"x-twice", b"\xff2"),
        (b"content-length", b"%d" % len(BODY)),
        (b"cache-control", b"no-store"),
        (b"operation-status", b"succeeded"),
    ]
    assert done.content == BODY
    again = await call(app, path)
    assert (again.headers, again.content) == (done.headers, done.content)
    result = await call(app, f"{path}/result/")
    assert (result.headers, result.content) == (done.headers, done.content)


async def test_cookies_are_kept_if_they_are_wanted(handler: Handler) -> None:
    _, done = await finished(wrap(handler, keep_cookies=True), handler)
    assert done.header(b"set-cookie") == b"a=1"


@pytest.mark.parametrize("name", [b"cache-control", b"Expires"])
async def test_the_handlers_own_cache_policy_stands(handler: Handler, name: bytes) -> None:
    handler.headers.append((name, b"max-age=5"))
    _, done = await finished(wrap(handler), handler)
    assert [value for _, value in done.headers].count(b"no-store") == 0


async def test_m_says_how_it_ended(app: Any, handler: Handler) -> None:
    path, _ = await finished(app, handler)
    status = await call(app, f"{path}/status")
    assert status.status == 200
    assert b"retry-after" not in names(status)
    found = document(status)
    assert found["status"] == "succeeded"
    assert found["response"] == {"status": 200}
    assert found["resourceLocation"] == f"http://testserver{path}"
    assert "error" not in found


async def test_an_error_status_is_failed_and_still_the_handlers_response(
    app: Any, handler: Handler
) -> None:
    handler.status = 404
    path, done = await finished(app, handler)
    assert (done.status, done.content) == (404, BODY)
    assert done.header(b"operation-status") == b"failed"
    found = document(await call(app, f"{path}/status"))
    assert (found["status"], found["response"]) == ("failed", {"status": 404})
    assert found["error"] == {"code": "http_404", "message": "The handler answered 404."}


async def test_m_has_the_handlers_own_json_error(app: Any, handler: Handler) -> None:
    handler.status, handler.headers = 409, [(b"content-type", b"application/json")]
    handler.body = b'{"error":{"code":"Boom","message":"it failed","token":"secret"}}'
    path, done = await finished(app, handler)
    assert (done.status, done.content) == (409, handler.body)
    found = await call(app, f"{path}/status")
    assert document(found)["error"] == {"code": "Boom", "message": "it failed"}
    assert document(found)["response"] == {"status": 409}
    assert "result" not in document(found)


@pytest.mark.parametrize(
    "body", [b'{"message":"%s"}' % (b"x" * 70_000), b'{"message":"%s"}' % (b"x" * 600_000)]
)
async def test_a_large_error_is_not_looked_through(app: Any, handler: Handler, body: bytes) -> None:
    handler.status, handler.headers = 500, [(b"content-type", b"application/json")]
    handler.body = body
    path, done = await finished(app, handler)
    assert done.content == handler.body
    found = document(await call(app, f"{path}/status"))
    assert found["error"] == {"code": "http_500", "message": "The handler answered 500."}


async def test_an_exception_is_a_problem_that_gives_nothing_away(
    app: Any, handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    handler.error = ValueError("secret")
    path, done = await finished(app, handler)
    assert_problem(done, 500, "exception")
    assert done.header(b"operation-status") == b"failed"
    found = document(await call(app, f"{path}/status"))
    assert found["error"]["code"] == "exception"
    assert b"secret" not in done.content
    logged = [record for record in caplog.records if record.exc_info]
    assert len(logged) == 1
    assert path.rpartition("/")[2] not in logged[0].getMessage()


async def test_a_final_202_does_not_make_pollers_loop(app: Any, handler: Handler) -> None:
    handler.status = 202
    _, done = await finished(app, handler)
    assert (done.status, done.content) == (200, BODY)
    assert done.header(b"operation-result-status") == b"202"


async def test_a_response_without_content_has_no_length(app: Any, handler: Handler) -> None:
    handler.status, handler.body = 204, b""
    _, done = await finished(app, handler)
    assert (done.status, done.content, done.header(b"content-length")) == (204, b"", None)


async def test_an_empty_response_is_kept(app: Any, handler: Handler) -> None:
    handler.body = b""
    _, done = await finished(app, handler)
    assert (done.status, done.content, done.header(b"content-length")) == (200, b"", b"0")


@pytest.mark.parametrize("declared", [b"5", b"100000", b"x"])
async def test_a_body_of_another_length_than_declared_is_no_response(
    app: Any, handler: Handler, declared: bytes
) -> None:
    handler.headers.append((b"Content-Length", declared))
    _, done = await finished(app, handler)
    assert_problem(done, 500, "exception")


async def test_trailers_come_back_where_the_server_can_send_them(handler: Handler) -> None:
    async def trailing(scope: Any, receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": [], "trailers": True}
        await send(start)
        await send({"type": "http.response.body", "body": b"x"})
        for n in range(2):
            fields = [(b"x-sum", b"%d" % n)]
            more = {"headers": fields, "more_trailers": n == 0}
            await send({"type": "http.response.trailers"} | more)

    app = RaincheckMiddleware(trailing, store="memory:", budget=0)
    accepted = await call(app, "/thing")
    plain = await follow(app, accepted)
    assert [m["type"] for m in plain.sent] == ["http.response.start", "http.response.body"]
    able: dict[str, Any] = {"http.response.trailers": {}}
    done = await call(app, path_of(accepted), extensions=able)
    assert done.sent[0]["trailers"] is True
    assert done.sent[-1]["headers"] == [(b"x-sum", b"0"), (b"x-sum", b"1")]


async def test_r_and_m_have_validators(app: Any, handler: Handler) -> None:
    path, _ = await finished(app, handler)
    for url, content in ((path, BODY), (f"{path}/status", None)):
        first = await call(app, url)
        etag = first.header(b"etag")
        assert etag is not None
        same = await call(app, url, headers=[(b"if-none-match", etag)])
        assert (same.status, same.content) == (304, b"")
        assert same.header(b"etag") == etag
        assert same.header(b"content-type") is None
        other = await call(app, url, headers=[(b"if-none-match", b'"other"')])
        assert (other.status, other.content) == (200, content or first.content)
        failed = await call(app, url, headers=[(b"if-match", b'"other"')])
        assert_problem(failed, 412, "precondition-failed")


async def test_the_handlers_own_validator_is_used(app: Any, handler: Handler) -> None:
    handler.headers.append((b"ETag", b'W/"mine"'))
    path, done = await finished(app, handler)
    assert [v for n, v in done.headers if n.lower() == b"etag"] == [b'W/"mine"']
    assert (await call(app, path, headers=[(b"if-none-match", b'"mine"')])).status == 304


@pytest.mark.parametrize(
    ("asked", "status", "content", "said"),
    [
        (b"bytes=0-0", 206, BODY[:1], b"bytes 0-0/768"),
        (b"bytes=700-", 206, BODY[700:], b"bytes 700-767/768"),
        (b"bytes=-10", 206, BODY[-10:], b"bytes 758-767/768"),
        (b"bytes=0-1,5-6", 200, BODY, None),
        (b"bytes=768-", 416, None, b"bytes */768"),
    ],
)
async def test_ranges_of_r(
    app: Any, handler: Handler, asked: bytes, status: int, content: bytes | None, said: bytes | None
) -> None:
    path, _ = await finished(app, handler)
    part = await call(app, path, headers=[(b"range", asked)])
    assert (part.status, part.header(b"content-range")) == (status, said)
    assert part.header(b"content-length") == b"%d" % len(part.content)
    if content is None:
        assert_problem(part, 416, "range-not-satisfiable")
    else:
        assert part.content == content


async def test_a_range_of_a_large_body_crosses_chunks(app: Any, handler: Handler) -> None:
    handler.body = bytes(n % 251 for n in range(1_000_000))
    path, done = await finished(app, handler)
    assert done.content == handler.body
    part = await call(app, path, headers=[(b"range", b"bytes=262140-786450")])
    assert part.content == handler.body[262140:786451]


@pytest.mark.parametrize(
    ("status", "body", "fields", "state"),
    [
        (206, BODY, [(b"content-range", b"bytes 9-776/9999")], b"succeeded"),
        (304, b"", [(b"content-length", b"9999"), (b"content-encoding", b"gzip")], b"succeeded"),
        (416, b"none", [(b"content-range", b"bytes */9999")], b"failed"),
    ],
)
async def test_what_answers_the_original_requests_range_or_condition_is_a_200_at_r(
    app: Any, handler: Handler, status: int, body: bytes, fields: Any, state: bytes
) -> None:
    digests = [(b"Content-Digest", b"c"), (b"Repr-Digest", b"r"), (b"digest", b"d")]
    handler.status, handler.body, handler.headers = status, body, [*fields, *digests]
    path, done = await finished(app, handler)
    for resource in ("", "/result"):
        answer = await call(app, path + resource, headers=[(b"range", b"bytes=0-0")])
        assert (answer.status, answer.content) == (200, body)
        assert answer.header(b"content-length") == b"%d" % len(body)
        assert answer.header(b"operation-result-status") == b"%d" % status
        assert answer.header(b"operation-status") == state
    kept = {
        name.lower() for name in (name for name, _ in done.headers) if b"digest" in name.lower()
    }
    assert kept == {206: {b"content-digest"}, 304: set()}.get(
        status, {b"content-digest", b"repr-digest", b"digest"}
    )
    assert b"content-encoding" not in names(done)
    found = document(await call(app, f"{path}/status"))
    assert found["response"] == {"status": status}


@pytest.mark.parametrize(
    "name",
    [
        b"X-Accel-Redirect",
        b"x-sendfile",
        b"X-Sendfile2",
        b"X-Lighttpd-Send-File",
        b"X-LIGHTTPD-send-file",
    ],
)
async def test_what_a_front_server_is_told_to_send_has_no_ranges_and_no_conditions_here(
    app: Any, handler: Handler, name: bytes
) -> None:
    handler.headers, handler.body = [(name, b"/protected/a.zip"), (b"etag", b'"a"')], b""
    path, done = await finished(app, handler)
    assert b"accept-ranges" not in names(done)
    for condition in (
        (b"range", b"bytes=1000-"),
        (b"range", b"bytes=-5"),
        (b"if-match", b'"of the file"'),
        (b"if-none-match", b'"a"'),
    ):
        answer = await call(app, path, headers=[condition])
        assert (answer.status, answer.headers) == (200, done.headers)


async def test_no_shared_cache_may_keep_what_an_owner_alone_may_see(handler: Handler) -> None:
    app = wrap(handler, owner=lambda scope: "ada")
    handler.headers = [(b"Cache-Control", b"public, max-age=60"), (b"etag", b'"a"')]
    path, done = await finished(app, handler)
    assert done.header(b"cache-control") == b"private, max-age=60"
    for condition, status in (((b"range", b"bytes=0-9"), 206), ((b"if-none-match", b"*"), 304)):
        answer = await call(app, path, headers=[condition])
        assert (answer.status, answer.header(b"cache-control")) == (status, b"private, max-age=60")


async def test_a_part_has_no_digest_of_the_whole_content(app: Any, handler: Handler) -> None:
    gone = [(b"Content-Digest", b"c"), (b"Digest", b"d"), (b"Content-MD5", b"m")]
    handler.headers = [*gone, (b"Repr-Digest", b"r"), (b"etag", b'"a"')]
    path, done = await finished(app, handler)
    assert {name for name, _ in gone} < set(names(done))
    part = await call(app, path, headers=[(b"range", b"bytes=0-9")])
    none = await call(app, path, headers=[(b"if-none-match", b'"a"')])
    for answer, status in ((part, 206), (none, 304)):
        assert answer.status == status
        assert not {name for name, _ in gone} & set(names(answer))
        assert answer.header(b"Repr-Digest") == b"r"


@pytest.mark.parametrize(
    ("asked", "status"), [(b"bytes=-5", 200), (b"bytes=-0", 416), (b"bytes=0-", 416)]
)
async def test_a_suffix_of_an_empty_body_is_all_of_it(
    app: Any, handler: Handler, asked: bytes, status: int
) -> None:
    handler.body = b""
    path, _ = await finished(app, handler)
    assert (await call(app, path, headers=[(b"range", asked)])).status == status


async def test_the_202_of_each_request_leads_to_where_status_url_says_for_it() -> None:
    def tenant_url(scope: Any, operation_id: str) -> str:
        return f"/{scope['path'].split('/')[1]}/pending/{operation_id}"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if MOUNTED in scope:
            operation_id = scope["path"].rpartition("/")[2]
            await scope[MOUNTED](scope, receive, send, operation_id, Resource.RESPONSE)
        else:
            await handlers.answer(send)

    wrapped = handlers.wrap(app, budget=0, status_url=tenant_url)
    for tenant in ("acme", "globex"):
        accepted = await call(wrapped, f"/{tenant}/report")
        assert path_of(accepted).startswith(f"/{tenant}/pending/")
        assert (await follow(wrapped, accepted)).status == 200
