"""The status monitor's views as tables: by state, resource, dialect, method and header field."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from raincheck.http.messages import Headers, Request, Response, StoredBody
from raincheck.http.problems import PROBLEM
from raincheck.monitor import views
from raincheck.monitor.dialects import DIALECTS
from raincheck.monitor.links import Links, Resource
from raincheck.monitor.views import View
from raincheck.operations.operation import Operation, Progress, Reason, Result, State
from raincheck.testing.material import make_operation

NOW = 1_000_060.0
LATER = NOW + 1e6
AGE = 60.0  # seconds
R = "https://example.org/operations/a"
R_BYTES = R.encode()
LINKS = Links(R, "/operations/a")
TAG, DATE = b'"tag"', b"Sat, 21 Nov 2026 20:00:00 GMT"
OLDER, NEWER = b"Fri, 20 Nov 2026 20:00:00 GMT", b"Sun, 22 Nov 2026 20:00:00 GMT"
GIVEN: Headers = (
    (b"content-type", b"text/csv"),
    (b"etag", TAG),
    (b"last-modified", DATE),
    (b"content-digest", b"sha-256=:0:"),
)


def result_of(status: int, *, length: int = 10, headers: Headers = GIVEN, **more: Any) -> Result:
    return Result(status, headers, length=length, chunk_size=4, fence=1, **more)


def operation_of(state: State = State.RUNNING, **fields: Any) -> Operation:
    fields = {"created": NOW - AGE, "updated": NOW - 1} | fields
    if state in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
        fields = {"expires": LATER} | fields
    return make_operation(state=state, **fields)


OPERATIONS = {
    "accepted": operation_of(State.ACCEPTED),
    "running": operation_of(),
    "cancelling": operation_of(State.CANCELLING),
    "succeeded": operation_of(State.SUCCEEDED, result=result_of(201)),
    "failed with a response": operation_of(State.FAILED, result=result_of(404)),
    "failed without": operation_of(State.FAILED, reason=Reason.INTERRUPTED),
    "canceled": operation_of(State.CANCELLED, reason=Reason.RESPONSE_DISCARDED),
    "expired": operation_of(State.SUCCEEDED, result=result_of(201), expires=NOW - 1),
    "forgotten": operation_of(State.SUCCEEDED, forgotten=True),
}


def view_of(operation: Operation, dialect: str = "location", **more: Any) -> View:
    return View(operation, LINKS, DIALECTS[dialect], NOW, **more)


def get(
    operation: Operation,
    *fields: tuple[bytes, bytes],
    resource: Resource = Resource.RESPONSE,
    dialect: str = "location",
    method: str = "GET",
) -> Response:
    request = Request(method, "/operations/a" + resource.value, headers=fields)
    return views.read(view_of(operation, dialect), resource, request)


def code_of(response: Response) -> Any:
    """Return the member to program against, if the response is a problem."""
    if response.header(b"content-type") != PROBLEM:
        return None
    assert isinstance(response.body, bytes)
    document = json.loads(response.body)
    assert document["status"] == response.status
    return document["code"]


# --- by state, resource and dialect ------------------------------------------------------------

NOT_READY, GONE = (404, "result-not-ready"), (410, "gone")
SHOWN = [
    # operation, dialect: at R, at M, at R/result
    ("accepted", "location", (202, None), (200, None), NOT_READY),
    ("running", "location", (202, None), (200, None), NOT_READY),
    ("cancelling", "location", (202, None), (200, None), NOT_READY),
    ("succeeded", "location", (201, None), (200, None), (201, None)),
    ("failed with a response", "location", (404, None), (200, None), (404, None)),
    ("failed without", "location", (500, "interrupted"), (200, None), (500, "interrupted")),
    ("canceled", "location", (410, "canceled"), (200, None), (410, "canceled")),
    ("expired", "location", GONE, GONE, GONE),
    ("forgotten", "location", GONE, GONE, GONE),
    ("running", "see-other", NOT_READY, (200, None), NOT_READY),
    ("cancelling", "see-other", NOT_READY, (200, None), NOT_READY),
    ("succeeded", "see-other", (201, None), (303, None), (201, None)),
    ("failed without", "see-other", (500, "interrupted"), (303, None), (500, "interrupted")),
    ("canceled", "see-other", (410, "canceled"), (303, None), (410, "canceled")),
    ("expired", "see-other", GONE, GONE, GONE),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("name", "dialect", "at_r", "at_m", "at_result"), SHOWN)
def test_each_state_is_shown_at_each_resource(
    name: str, dialect: str, at_r: object, at_m: object, at_result: object, method: str
) -> None:
    shown = [
        get(OPERATIONS[name], resource=one, dialect=dialect, method=method) for one in Resource
    ]
    by_resource = dict(zip(Resource, [(it.status, code_of(it)) for it in shown], strict=True))
    assert by_resource[Resource.RESPONSE] == at_r
    assert by_resource[Resource.STATUS] == at_m
    assert by_resource[Resource.RESULT] == at_result


@pytest.mark.parametrize(
    ("name", "said"),
    [("succeeded", b"succeeded"), ("failed with a response", b"failed"), ("canceled", b"canceled")],
)
def test_a_terminal_r_says_how_the_operation_has_ended(name: str, said: bytes) -> None:
    assert get(OPERATIONS[name]).header(b"operation-status") == said
    assert get(OPERATIONS["running"]).header(b"operation-status") is None


def test_a_result_that_is_not_ready_says_when_to_come_again() -> None:
    response = get(OPERATIONS["running"], resource=Resource.RESULT)
    assert response.header(b"retry-after") == b"6"


# --- the 202 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("dialect", "polled"), [("location", R), ("see-other", f"{R}/status")])
def test_the_202_names_what_is_to_be_polled(dialect: str, polled: str) -> None:
    response = views.started(view_of(OPERATIONS["running"], dialect))
    assert isinstance(response.body, bytes)
    assert response.status == 202
    assert response.headers == (
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(response.body)),
        (b"location", polled.encode()),
        (b"content-location", polled.encode()),
        (b"operation-location", R_BYTES + b"/status"),
        (b"link", b'<%s/status>; rel="status"' % R_BYTES),
        (b"retry-after", b"6"),
        (b"cache-control", b"no-store"),
    )


def test_the_202_says_which_preference_was_applied() -> None:
    response = views.started(view_of(OPERATIONS["running"]), "respond-async")
    assert response.headers[-2:] == (
        (b"preference-applied", b"respond-async"),
        (b"vary", b"Prefer"),
    )


def test_polls_of_a_running_r_and_a_cancellation_repeat_the_202() -> None:
    running = OPERATIONS["running"]
    assert get(running) == views.started(view_of(running)) == views.deleted(view_of(running))


@pytest.mark.parametrize(
    ("age", "seconds"),
    [(-5, 1), (0, 1), (10, 1), (10.1, 2), (299, 30), (300, 30), (1e6, 30)],
)
def test_retry_after_is_a_tenth_of_the_age_within_bounds(age: float, seconds: int) -> None:
    assert views.retry_after(view_of(operation_of(created=NOW - age))) == seconds


# --- the status document -----------------------------------------------------------------------


def document_of(operation: Operation, **more: Any) -> dict[str, Any]:
    return views.status_document(view_of(operation, **more))


def test_a_running_document_says_when_and_where() -> None:
    assert document_of(OPERATIONS["running"]) == {
        "id": "a",
        "status": "running",
        "created": "1970-01-12T13:46:40.000000Z",
        "updated": "1970-01-12T13:47:39.000000Z",
        "links": {
            "response": "/operations/a",
            "status": "/operations/a/status",
            "result": "/operations/a/result",
        },
    }


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (Progress(3), {"completed": 3}),
        (Progress(0, 0, ""), {"completed": 0, "total": 0, "message": ""}),
        (Progress(3, 10, "rendering"), {"completed": 3, "total": 10, "message": "rendering"}),
    ],
)
def test_a_document_has_what_is_known_of_the_progress(progress: Progress, shown: object) -> None:
    assert document_of(operation_of(progress=progress))["progress"] == shown


OWN_ERROR = result_of(422, error_code="invalid", error_message="No such month.")
ENDS = [
    # operation, response, error, whether its outcome is at R
    (OPERATIONS["succeeded"], {"status": 201}, None, True),
    (
        OPERATIONS["failed with a response"],
        {"status": 404},
        {"code": "http_404", "message": "The handler answered 404."},
        True,
    ),
    (
        operation_of(State.FAILED, result=OWN_ERROR),
        {"status": 422},
        {"code": "invalid", "message": "No such month."},
        True,
    ),
    (
        OPERATIONS["failed without"],
        None,
        {"code": "interrupted", "message": "The process that ran the handler is gone."},
        True,
    ),
    (
        operation_of(State.FAILED),
        None,
        {"code": "http_500", "message": "The handler answered 500."},
        True,
    ),
    (
        OPERATIONS["canceled"],
        None,
        {
            "code": "response_discarded",
            "message": "The handler answered all the same; its response was discarded.",
        },
        False,
    ),
    (operation_of(State.CANCELLED), None, None, False),
]


@pytest.mark.parametrize(("operation", "response", "error", "is_at_r"), ENDS)
def test_a_terminal_document_says_how_it_has_ended(
    operation: Operation, response: object, error: object, is_at_r: bool
) -> None:
    document = document_of(operation)
    assert document.get("response") == response
    assert document.get("error") == error
    assert document.get("resourceLocation") == (R if is_at_r else None)
    assert "result" not in document  # azure-core would take it for the result itself


def test_each_reason_has_an_explanation() -> None:
    assert set(views.EXPLANATIONS) == set(Reason)


def test_a_signed_link_is_in_the_document_of_who_may_hand_it_on() -> None:
    links = document_of(OPERATIONS["running"], signature="s")["links"]
    assert links["signed"] == "/operations/a?signature=s"


# --- M: conditions and Accept ------------------------------------------------------------------


def at_m(operation: Operation, *fields: tuple[bytes, bytes], method: str = "GET") -> Response:
    return get(operation, *fields, resource=Resource.STATUS, method=method)


def test_m_has_a_tag_of_what_it_shows_and_says_when_to_come_again() -> None:
    running, ended = at_m(OPERATIONS["running"]), at_m(OPERATIONS["succeeded"])
    assert running.header(b"retry-after") == b"6"
    assert ended.header(b"retry-after") is None
    assert running.header(b"etag") != ended.header(b"etag")
    assert running.header(b"cache-control") == ended.header(b"cache-control") == b"no-store"
    assert running.header(b"content-type") == b"application/json"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_m_is_not_modified_for_who_has_it(method: str) -> None:
    first = at_m(OPERATIONS["running"])
    tag = (b"if-none-match", first.header(b"etag") or b"")
    again = at_m(OPERATIONS["running"], tag, method=method)
    assert (again.status, again.body) == (304, b"")
    assert again.header(b"retry-after") == b"6"
    assert again.header(b"content-type") is again.header(b"content-length") is None
    assert at_m(OPERATIONS["cancelling"], tag).status == 200


@pytest.mark.parametrize(
    ("accept", "status"),
    [(b"*/*", 200), (b"application/*", 200), (b"text/html", 406), (b"application/json;q=0", 406)],
)
def test_m_is_406_for_who_can_not_read_it(accept: bytes, status: int) -> None:
    assert at_m(OPERATIONS["running"], (b"accept", accept)).status == status


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [(b"if-match", b'"other"', 412), (b"if-match", b"*", 200)],
)
def test_m_heeds_preconditions(name: bytes, value: bytes, status: int) -> None:
    assert at_m(OPERATIONS["running"], (name, value)).status == status


def test_a_303_leads_to_r() -> None:
    response = get(OPERATIONS["succeeded"], resource=Resource.STATUS, dialect="see-other")
    assert response.headers == (
        (b"location", R_BYTES),
        (b"content-length", b"0"),
        (b"cache-control", b"no-store"),
    )


# --- R: conditions and ranges ------------------------------------------------------------------

OK = operation_of(State.SUCCEEDED, result=result_of(200))
CREATED = OPERATIONS["succeeded"]
MISSING = OPERATIONS["failed with a response"]
SENT_ELSEWHERE = operation_of(
    State.SUCCEEDED, result=result_of(200, headers=((b"x-accel-redirect", b"/files/1"), *GIVEN))
)
PART = operation_of(State.SUCCEEDED, result=result_of(206))  # of what the first request asked for
EMPTY = operation_of(State.SUCCEEDED, result=result_of(200, length=0))
CONDITIONS = [
    # operation, method, field, value, status (RFC 9110 §13.2.2: whatever the status is)
    (OK, "GET", b"if-none-match", TAG, 304),
    (OK, "HEAD", b"if-none-match", b'"other", W/' + TAG, 304),
    (OK, "GET", b"if-none-match", b"*", 304),
    (OK, "GET", b"if-none-match", b'"other"', 200),
    (CREATED, "GET", b"if-none-match", TAG, 304),
    (MISSING, "GET", b"if-none-match", TAG, 304),
    (OK, "GET", b"if-modified-since", DATE, 304),
    (OK, "GET", b"if-modified-since", NEWER, 304),
    (OK, "GET", b"if-modified-since", OLDER, 200),
    (OK, "GET", b"if-modified-since", b"yesterday", 200),
    (OK, "GET", b"if-match", TAG, 200),
    (OK, "GET", b"if-match", b"W/" + TAG, 412),
    (OK, "GET", b"if-match", b'"other"', 412),
    (MISSING, "GET", b"if-match", b'"other"', 412),
    (OK, "GET", b"if-unmodified-since", OLDER, 412),
    (OK, "GET", b"if-unmodified-since", DATE, 200),
    (SENT_ELSEWHERE, "GET", b"if-none-match", TAG, 200),
    (SENT_ELSEWHERE, "GET", b"if-match", b'"other"', 200),
    (OK, "GET", b"range", b"bytes=2-5", 206),
    (OK, "HEAD", b"range", b"bytes=2-5", 200),
    (OK, "GET", b"range", b"bytes=10-", 416),
    (OK, "GET", b"range", b"lines=2-5", 200),
    (PART, "GET", b"range", b"bytes=2-5", 200),
    (EMPTY, "GET", b"range", b"bytes=0-", 416),
    (EMPTY, "GET", b"range", b"bytes=-1", 200),
    (CREATED, "GET", b"range", b"bytes=2-5", 201),
    (MISSING, "GET", b"range", b"bytes=10-", 404),
    (SENT_ELSEWHERE, "GET", b"range", b"bytes=2-5", 200),
]


@pytest.mark.parametrize(("operation", "method", "name", "value", "status"), CONDITIONS)
def test_conditions_and_ranges_at_r(
    operation: Operation, method: str, name: bytes, value: bytes, status: int
) -> None:
    response = get(operation, (name, value), method=method)
    assert response.status == status
    assert (code_of(response) == "precondition-failed") == (status == 412)


def test_a_304_has_the_fields_but_those_of_the_content() -> None:
    names = [name for name, _ in get(OK, (b"if-none-match", TAG)).headers]
    assert b"etag" in names
    assert b"last-modified" in names
    assert not {b"content-type", b"content-length", b"content-digest"} & set(names)


RANGES = [
    # Range: start, stop
    (b"bytes=0-0", 0, 1),
    (b"bytes=2-5", 2, 6),
    (b"bytes=8-99", 8, 10),
    (b"bytes=9-", 9, 10),
    (b"bytes=-3", 7, 10),
    (b"bytes=-99", 0, 10),
]


@pytest.mark.parametrize(("value", "start", "stop"), RANGES)
def test_a_range_is_a_part_of_what_is_stored(value: bytes, start: int, stop: int) -> None:
    response = get(OK, (b"range", value))
    assert response.status == 206
    assert response.body == StoredBody("a", 1, 4, start, stop)
    assert response.header(b"content-length") == b"%d" % (stop - start)
    assert response.header(b"content-range") == b"bytes %d-%d/10" % (start, stop - 1)
    assert response.header(b"content-digest") is None  # it was of the whole
    assert response.header(b"etag") == TAG


@pytest.mark.parametrize(
    ("condition", "status"),
    [(TAG, 206), (b'"other"', 200), (b"W/" + TAG, 200), (DATE, 206), (OLDER, 200), (b"x", 200)],
)
def test_a_range_is_of_the_representation_that_the_client_has(
    condition: bytes, status: int
) -> None:
    assert get(OK, (b"range", b"bytes=2-5"), (b"if-range", condition)).status == status


def test_a_range_that_is_not_there_says_how_much_is() -> None:
    response = get(OK, (b"range", b"bytes=10-"))
    assert code_of(response) == "range-not-satisfiable"
    assert response.header(b"content-range") == b"bytes */10"


# --- DELETE and repeated requests --------------------------------------------------------------


def refusal_of(operation: Operation, *fields: tuple[bytes, bytes]) -> Response | None:
    request = Request("DELETE", "/operations/a", headers=fields)
    return views.refused_deletion(view_of(operation), request)


@pytest.mark.parametrize(
    ("operation", "fields", "status"),
    [
        (OPERATIONS["running"], ((b"if-match", b'"other"'),), None),  # there is nothing to compare
        (OK, (), None),
        (OK, ((b"if-match", TAG),), None),
        (OK, ((b"if-match", b'"other"'),), 412),
        (OK, ((b"if-none-match", b"*"),), 412),
        (OK, ((b"if-unmodified-since", OLDER),), 412),
        (replace(OK, coalesced=True), (), 409),
        (replace(OPERATIONS["running"], coalesced=True), (), 409),
    ],
)
def test_what_must_not_be_deleted(
    operation: Operation, fields: Headers, status: int | None
) -> None:
    refusal = refusal_of(operation, *fields)
    assert (refusal.status if refusal is not None else None) == status


def test_what_is_deleted_is_gone_without_a_word() -> None:
    response = views.deleted(view_of(OPERATIONS["forgotten"]))
    assert response == Response(204, ((b"cache-control", b"no-store"),))


def test_a_repeated_request_gets_the_handlers_answer_with_its_own_status() -> None:
    started = operation_of(State.SUCCEEDED, result=result_of(202))
    response = views.repeated(view_of(started))
    assert response.status == 202
    assert response.header(b"operation-status") is None
    first = views.repeated(view_of(started), first=((b"set-cookie", b"s=1"),))
    assert first.header(b"set-cookie") == b"s=1"


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("expired", 410, "gone"),
        ("failed without", 500, "interrupted"),
        ("canceled", 410, "canceled"),
    ],
)
def test_a_repeated_request_without_a_response_is_told_why(
    name: str, status: int, code: str
) -> None:
    response = views.repeated(view_of(OPERATIONS[name]))
    assert (response.status, code_of(response)) == (status, code)


# --- what is said without an operation ---------------------------------------------------------

SAID = [
    (views.not_found(), 404, "not-found"),
    (views.gone("It is gone."), 410, "gone"),
    (views.key_reused(), 422, "idempotency-key-reused"),
    (views.key_in_use(view_of(OPERATIONS["running"])), 409, "idempotency-key-in-use"),
    (views.method_not_allowed(Resource.STATUS), 405, "method-not-allowed"),
]


@pytest.mark.parametrize(("response", "status", "code"), SAID)
def test_problems_have_a_code_to_program_against(
    response: Response, status: int, code: str
) -> None:
    assert (response.status, code_of(response)) == (status, code)
    assert response.header(b"cache-control") == b"no-store"


def test_who_meets_a_key_in_use_is_told_when_to_come_again() -> None:
    response = views.key_in_use(view_of(OPERATIONS["running"]))
    assert response.header(b"retry-after") == b"6"


@pytest.mark.parametrize(
    ("resource", "methods"),
    [
        (Resource.RESPONSE, b"GET, HEAD, DELETE"),
        (Resource.STATUS, b"GET, HEAD"),
        (Resource.RESULT, b"GET, HEAD"),
    ],
)
def test_methods_of_a_resource(resource: Resource, methods: bytes) -> None:
    assert views.method_not_allowed(resource).header(b"allow") == methods
    allowed = views.allowed(resource)
    assert (allowed.status, allowed.header(b"allow")) == (200, methods + b", OPTIONS")


def test_a_wait_that_was_honoured_is_said() -> None:
    waited = views.after_waiting(Response(200, ((b"a", b"b"),)), 2.5)
    assert waited.headers == ((b"a", b"b"), (b"preference-applied", b"wait=2.5"))


# --- how far it is ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (None, None),
        (Progress(3, 10, "rendering"), b"3/10"),
        (Progress(3), b"3/"),
        (Progress(0.0, 4.0), b"0/4"),
        (Progress(10, 10), b"10/10"),
        (Progress(10**14), b"100000000000000/"),
        (Progress(1e300), None),
        (Progress(0.5, 1), None),
        (Progress(-1, 1), None),
        (Progress(2, 1), None),
    ],
)
def test_progress_is_a_header_field_where_its_draft_allows_it(
    progress: Progress | None, expected: bytes | None
) -> None:
    operation = operation_of(progress=progress)
    for resource in (Resource.RESPONSE, Resource.STATUS):
        assert get(operation, resource=resource).header(b"progress") == expected
    ended = replace(OPERATIONS["succeeded"], progress=progress)
    for resource in Resource:
        assert get(ended, resource=resource).header(b"progress") is None
