"""Following by conventions: which places are polled, and which response is the end; a table."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import formatdate

import pytest

from raincheck.client import (
    CredentialsRefused,
    DeadlineExceeded,
    FollowError,
    LostTouch,
    NothingToFollow,
    Options,
    Progress,
    RedirectLoop,
)
from raincheck.client.exchange import Answer
from raincheck.client.tokens import to_place
from tests.client.playing import HOME, WALL, Line, answer, held, play

R = "https://api.example/operations/1"
M = f"{R}/status"
DONE = answer(200, b"the report")
RAINCHECK = {"location": R, "content_location": R, "operation_location": M}
LINKS = {"links": {"response": "/operations/1", "status": "/operations/1/status"}}
RUNNING = {"id": "1", "status": "running"}
OGC = {"type": "process", "jobID": "1", "processID": "p"}
RESULTS = "http://www.opengis.net/def/rel/ogc/1.0/results"

Case = tuple[str, list[Line], list[str], int, object]
ENDS: list[Case] = [
    ("location", [answer(202, location="/operations/1"), DONE], [R], 200, b"the report"),
    ("location, relative", [answer(202, location="operations/1"), DONE], [R], 200, b"the report"),
    (
        "location that moves",
        [answer(202, location=R), answer(202, location="/operations/2"), DONE],
        [R, "https://api.example/operations/2"],
        200,
        b"the report",
    ),
    (
        "location, and none at a poll",
        [answer(202, location=R), answer(202), DONE],
        [R, R],
        200,
        b"the report",
    ),
    ("content-location", [answer(202, content_location=R), DONE], [R], 200, b"the report"),
    (
        "raincheck",
        [
            answer(202, RUNNING | LINKS, **RAINCHECK),
            answer(202, RUNNING | LINKS, **RAINCHECK),
            answer(404, b"no", operation_status="failed", retry_after="9"),
        ],
        [R, R],
        404,
        b"no",
    ),
    (
        "raincheck, see-other",
        [
            answer(202, RUNNING | LINKS, **(RAINCHECK | {"location": M, "content_location": M})),
            answer(200, RUNNING | LINKS, retry_after="1"),
            answer(303, location=R),
            answer(200, b"the report", operation_status="succeeded"),
        ],
        [M, M, R],
        200,
        b"the report",
    ),
    (
        "raincheck, a 202 of the handler's",
        [
            answer(202, **RAINCHECK),
            answer(200, b"x", operation_status="succeeded", operation_result_status="202"),
        ],
        [R],
        202,
        b"x",
    ),
    (
        "raincheck, a 303 of the handler's",
        [answer(202, **RAINCHECK), answer(303, operation_status="succeeded", location="/x")],
        [R],
        303,
        None,
    ),
    (
        "operation-location, resourceLocation",
        [
            answer(202, operation_location=M),
            answer(200, {"id": "1", "status": "NotStarted"}),
            answer(200, {"id": "1", "status": "Succeeded", "resourceLocation": R}),
            DONE,
        ],
        [M, M, R],
        200,
        b"the report",
    ),
    (
        "operation-location, result within",
        [answer(202, operation_location=M), answer(200, {"status": "Succeeded", "result": [1]})],
        [M],
        200,
        [1],
    ),
    (
        "operation-location beside a Location",
        [
            answer(202, operation_location=M, location=R),
            answer(200, {"status": "Succeeded"}),
            DONE,
        ],
        [M, R],
        200,
        b"the report",
    ),
    (
        "operation-location, failed",
        [
            answer(202, operation_location=M),
            answer(200, {"status": "Failed", "error": {"code": "Conflict", "status": 409}}),
        ],
        [M],
        409,
        {"status": "Failed", "error": {"code": "Conflict", "status": 409}},
    ),
    (
        "operation-location, canceled",
        [answer(202, operation_location=M), answer(200, {"status": "Canceled"})],
        [M],
        410,
        {"status": "Canceled"},
    ),
    (
        "azure-asyncoperation",
        [
            answer(201, {"id": "vm"}, azure_asyncoperation=M),
            answer(200, {"status": "InProgress"}),
            answer(200, {"status": "Succeeded"}),
        ],
        [M, M],
        200,
        {"status": "Succeeded"},
    ),
    (
        "AIP-151",
        [
            answer(202, {"name": "operations/1", "done": False}, location=R),
            answer(200, {"name": "operations/1", "done": False}),
            answer(200, {"name": "operations/1", "done": True, "response": {"n": 1}}),
        ],
        [R, R],
        200,
        {"n": 1},
    ),
    (
        "AIP-151, bytes",
        [
            answer(202, {"name": "operations/1", "done": False}, location=R),
            answer(
                200,
                {
                    "name": "operations/1",
                    "done": True,
                    "response": {
                        "@type": "type.googleapis.com/google.api.HttpBody",
                        "contentType": "text/plain",
                        "data": "dGhlIHJlcG9ydA==",
                    },
                },
            ),
        ],
        [R],
        200,
        b"the report",
    ),
    (
        "AIP-151, error",
        [
            answer(202, {"name": "operations/1", "done": False}, location=R),
            answer(200, {"name": "operations/1", "done": True, "error": {"code": 5}}),
        ],
        [R],
        404,
        {"name": "operations/1", "done": True, "error": {"code": 5}},
    ),
    (
        "OGC",
        [
            answer(201, OGC | {"status": "accepted"}, location="/jobs/1"),
            answer(200, OGC | {"status": "running"}),
            answer(200, OGC | {"status": "successful"}),
            DONE,
        ],
        ["https://api.example/jobs/1"] * 2 + ["https://api.example/jobs/1/results"],
        200,
        b"the report",
    ),
    (
        "OGC, promised without a body; several results",
        [
            answer(201, location="/jobs/1", preference_applied="respond-async"),
            answer(
                200,
                OGC
                | {
                    "status": "successful",
                    "links": [
                        {"rel": RESULTS, "href": "/html", "type": "text/html"},
                        {"rel": RESULTS, "href": "/json", "type": "application/json"},
                    ],
                },
            ),
            DONE,
        ],
        ["https://api.example/jobs/1", "https://api.example/json"],
        200,
        b"the report",
    ),
    (
        "OGC, failed",
        [
            answer(201, OGC | {"status": "accepted"}, location="/jobs/1"),
            answer(200, OGC | {"status": "failed"}),
            answer(400, {"type": "about:blank"}),
        ],
        ["https://api.example/jobs/1", "https://api.example/jobs/1/results"],
        400,
        {"type": "about:blank"},
    ),
    (
        "OGC, dismissed",
        [
            answer(201, OGC | {"status": "accepted"}, location="/jobs/1"),
            answer(200, OGC | {"status": "dismissed"}),
        ],
        ["https://api.example/jobs/1"],
        410,
        OGC | {"status": "dismissed"},
    ),
    (
        "OData, in place",
        [answer(202, location=R), answer(200, b"no such", asyncresult="404")],
        [R],
        404,
        b"no such",
    ),
    (
        "OData, enclosed",
        [
            answer(202, location=R),
            answer(
                200,
                b"HTTP/1.1 201 Created\r\nLocation: /x\r\n\r\n{}",
                asyncresult="201",
                content_type="application/http",
            ),
        ],
        [R],
        201,
        b"{}",
    ),
    (
        "FHIR",
        [
            answer(202, content_location=R),
            answer(202, x_progress="half"),
            answer(200, {"output": []}),
        ],
        [R, R],
        200,
        {"output": []},
    ),
    (
        "a link",
        [
            answer(202, link=f'<{M}>; rel="x status"'),
            answer(200, {"status": "done", "links": {"result": {"href": R}}}),
            DONE,
        ],
        [M, R],
        200,
        b"the report",
    ),
    (
        "links in the body",
        [
            answer(202, {"links": [{"rel": "monitor", "href": "/operations/1/status"}]}),
            answer(200, {"status": "completed"}),
        ],
        [M],
        200,
        {"status": "completed"},
    ),
    (
        "redirected polls",
        [answer(202, location="/a"), answer(307, location="/b"), answer(202), DONE],
        ["https://api.example/a", "https://api.example/b", "https://api.example/b"],
        200,
        b"the report",
    ),
    (
        "result not ready",
        [answer(202, location=R), answer(404, retry_after="1"), DONE],
        [R, R],
        200,
        b"the report",
    ),
    (
        "a result that looks like a monitor",
        [answer(202, location=R), answer(200, {"id": "vm-7", "status": "running"})],
        [R],
        200,
        {"id": "vm-7", "status": "running"},
    ),
    (
        "a result that is done and has a name",
        [answer(202, location=R), answer(200, {"name": "milk", "done": False})],
        [R],
        200,
        {"name": "milk", "done": False},
    ),
    (
        "a monitor without any hint",
        [
            answer(202, location=R),
            answer(200, {"status": "QUEUED"}),
            answer(303, location="/r"),
            DONE,
        ],
        [R, R, "https://api.example/r"],
        200,
        b"the report",
    ),
    (
        "a monitor that says again where it is (Fabric)",
        [
            answer(202, location=R),
            answer(200, {"status": "Running"}, location=R),
            answer(200, {"status": "Succeeded"}, location="/r"),
            DONE,
        ],
        [R, R, "https://api.example/r"],
        200,
        b"the report",
    ),
    (
        "what was accepted shows its own status",
        [
            answer(202, {"id": 7, "status": "running"}, location="/orders/7"),
            answer(200, {"id": 7, "status": "running"}),
            answer(200, {"id": 7, "status": "completed", "sum": 9}),
        ],
        ["https://api.example/orders/7"] * 2,
        200,
        {"id": 7, "status": "completed", "sum": 9},
    ),
]


@pytest.mark.parametrize(
    ("script", "urls", "status", "body"), [c[1:] for c in ENDS], ids=[c[0] for c in ENDS]
)
def test_following_comes_to_the_end(
    script: list[Line], urls: list[str], status: int, body: object
) -> None:
    played = play(script)
    assert played.error is None
    assert played.final is not None
    assert played.urls == urls
    assert played.final.status == status
    last = script[-1]
    assert isinstance(last, Answer)
    if played.final.body is not None:
        assert dict(played.final.headers)["content-length"] == str(len(played.final.body))
    content = played.final.body if played.final.body is not None else last.body
    if isinstance(body, bytes):
        assert content == body
    elif body is not None:
        assert json.loads(content or b"") == body


PASSED: list[tuple[str, Answer]] = [
    ("200", answer(200, {"status": "running", "id": "1"})),
    ("201 with a Location", answer(201, {"id": 1}, location="/things/1")),
    ("202 without a place", answer(202, {"queued": True})),
    ("202 without anything", answer(202)),
    ("an operation of AIP-151, unasked", answer(200, {"name": "operations/1", "done": False})),
    ("202 with a place that is none", answer(202, location="mailto:x@example.org")),
    (
        "202 with rubbish",
        answer(202, location="http://[::1", link="<<<;rel=status", content_location="http://a:b"),
    ),
    ("404", answer(404, location=R)),
    ("303", answer(303, location=R)),
]


@pytest.mark.parametrize("first", [c[1] for c in PASSED], ids=[c[0] for c in PASSED])
def test_following_leaves_alone_what_starts_nothing(first: Answer) -> None:
    played = play([first])
    assert (played.final, played.error, played.asks) == (None, None, [])


def test_following_strictly_makes_an_error_of_a_202_without_a_place() -> None:
    played = play([answer(202)], Options(strict=True))
    assert isinstance(played.error, NothingToFollow)
    assert played.error.status == 202


def test_following_takes_a_place_from_a_template() -> None:
    script: list[Line] = [answer(202, {"id": "a/b?c"}), answer(202, {"id": "a/b?c"}), DONE]
    assert (
        play(script, Options(place="/status/{id}")).urls
        == ["https://api.example/status/a/b%3Fc"] * 2
    )
    operation = {"name": "operations/1", "done": False}
    played = play([answer(200, operation), DONE], Options(place="/v1/{name}"))
    assert played.urls == ["https://api.example/v1/operations/1"]
    assert play([answer(202, {"other": 1})], Options(place="/status/{id}")).asks == []


def test_following_gets_a_put_resource_where_the_request_went() -> None:
    script: list[Line] = [
        answer(200, {"name": "vm"}, operation_location=M),
        answer(200, {"status": "Succeeded"}),
        answer(200, {"name": "vm", "ready": True}),
    ]
    assert play(script, method="PUT").urls == [M, HOME]


# --- waiting -------------------------------------------------------------------------------------

DATED = {"date": formatdate(WALL, usegmt=True)}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.25", 0.25),
        (formatdate(WALL + 30, usegmt=True), 30.0),
        (formatdate(WALL - 3600, usegmt=True), 0.5),  # it is over: as if nothing were said
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0.5),
        ("0", 0.5),
        ("-5", 0.5),
        ("soon", 0.5),
        ("", 0.5),
        ("nan", 0.5),
        ("inf", 0.5),
        ("1e400", 0.5),
        ("٣", 0.5),
        ("5, 5", 0.5),
        ("9" * 400, 0.5),
        ("999999999", 300.0),
        (formatdate(WALL + 1e7, usegmt=True), 300.0),
    ],
)
def test_following_bounds_what_retry_after_says(value: str, seconds: float) -> None:
    first = Answer(202, (("location", R), ("retry-after", value), ("date", DATED["date"])))
    assert play([first, DONE]).waits == [pytest.approx(seconds, abs=0.01)]


def test_following_waits_longer_and_longer_where_the_server_says_nothing() -> None:
    played = play([answer(202, location=R), *[answer(202)] * 12, DONE])
    assert played.waits[:3] == [0.5, 0.75, 1.125]
    assert played.waits == sorted(played.waits)
    assert played.waits[-1] == 10.0


def test_following_polls_at_once_where_the_server_holds_the_poll() -> None:
    waited = held(20, answer(202, preference_applied="wait=20", retry_after="3"))
    played = play([answer(202, retry_after="1", **RAINCHECK), waited, waited, DONE])
    assert played.waits == []
    assert dict(played.asks[0].headers)["prefer"] == "wait=20"
    assert played.asks[0].wait == 20


def test_following_waits_before_the_first_poll_where_nobody_holds_it() -> None:
    assert play([answer(202, content_location=R, retry_after="120"), DONE]).waits == [120]
    assert play([answer(202, location=R, retry_after="3"), DONE]).waits == [3]


def test_following_is_patient_with_who_says_that_it_asks_too_often() -> None:
    often = answer(429, retry_after="250")
    played = play([answer(202, location=R), often, often, DONE], Options(patience=1))
    assert played.waits == [0.5, 250, 250]


def test_following_does_not_believe_that_a_poll_was_held_which_was_not() -> None:
    lying = answer(202, preference_applied="wait=20")
    assert len(play([answer(202, location=R), *[lying] * 3, DONE]).waits) == 4


def test_following_shows_progress() -> None:
    seen: list[Progress] = []
    script: list[Line] = [
        answer(
            202,
            RUNNING
            | {
                "progress": {"completed": 1, "total": 3, "message": "so"},
                "estimate": "2026-11-30T12:00:00Z",
            },
            location=R,
        ),
        answer(202, {"percentComplete": 40}),
        answer(202, {"progress": 55, "message": "half"}),
        answer(202, x_progress="nearly"),
        answer(
            202, {"progress": {"completed": -1, "total": 1e400, "message": 7}, "estimate": "soon"}
        ),
        DONE,
    ]
    assert play(script, Options(on_progress=seen.append)).error is None
    when = datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert seen == [
        Progress(1, 3, "so", when),
        Progress(40, 100),
        Progress(55, 100, "half"),
        Progress(message="nearly"),
        Progress(),
    ]


# --- what goes wrong -----------------------------------------------------------------------------


def test_following_one_that_never_ends_is_over_at_the_deadline_and_cancels() -> None:
    def forever() -> list[Line]:
        return [answer(202, RUNNING, location=R), *[answer(202, retry_after="60")] * 100]

    played = play(forever(), Options(deadline=600))
    assert isinstance(played.error, DeadlineExceeded)
    assert played.error.token
    assert played.seconds == pytest.approx(600, abs=1)
    assert played.cancelled == [f"DELETE {R}"]
    assert play(forever(), Options(deadline=600, cancel=False)).cancelled == []
    assert isinstance(play(forever()).error, DeadlineExceeded)  # there is one by default


def test_following_tells_the_token_even_if_the_deadline_has_passed_with_the_202() -> None:
    tokens: list[str] = []
    late = Options(deadline=0, on_token=tokens.append)
    played = play([answer(202, location=R)], late)
    assert isinstance(played.error, DeadlineExceeded)
    assert tokens == [played.error.token]
    moved: list[Line] = [answer(202, location=R), answer(202), answer(202, location="/2"), DONE]
    tokens.clear()
    play(moved, Options(on_token=tokens.append))
    assert len(set(tokens)) == len(tokens) == 2


def test_tokens_hold_nothing_of_the_request_but_its_origin() -> None:
    url = "https://ada:pw@api.example/report?key=geheim"
    tokens: list[str] = []
    options = Options(on_token=tokens.append)
    play([answer(202, location="/operations/1"), DONE], options, url=url, headers=HEADERS)
    place = to_place(tokens[0])
    assert (place.url, place.asked) == (R, "https://api.example/")


def test_following_in_words_that_nobody_knows_ends_at_the_deadline() -> None:
    strange = answer(200, {"status": "Undefined"})
    played = play([answer(202, operation_location=M), *[strange] * 1000], Options(deadline=60))
    assert isinstance(played.error, DeadlineExceeded)


@pytest.mark.parametrize("trouble", [answer(502), answer(503), answer(504), ConnectionError()])
def test_following_survives_trouble_that_passes(trouble: Line) -> None:
    played = play([answer(202, location=R), *[trouble] * 8, answer(202), trouble, DONE])
    assert played.error is None
    assert played.sent == 1
    assert set(played.urls) == {R}


def test_following_honours_retry_after_of_a_503() -> None:
    assert play([answer(202, location=R), answer(503, retry_after="7"), DONE]).waits[1] == 7


@pytest.mark.parametrize("trouble", [answer(503), ConnectionError("gone")])
def test_following_loses_touch_after_its_patience_and_cancels_nothing(trouble: Line) -> None:
    played = play([answer(202, location=R), *[trouble] * 100], Options(patience=30))
    assert isinstance(played.error, LostTouch)
    assert played.seconds == pytest.approx(30, abs=2)
    assert played.cancelled == []
    resumed = play([DONE], token=played.error.token)
    assert resumed.final is not None
    assert resumed.urls == [R]
    assert resumed.sent == 0


def test_following_in_circles_is_an_error() -> None:
    played = play([answer(202, location=R), *[answer(302, location=R)] * 20])
    assert isinstance(played.error, RedirectLoop)
    assert len(played.asks) == 11
    assert isinstance(
        play([answer(202, location=R), answer(302, location="file:///x")]).error, RedirectLoop
    )


def test_following_never_returns_a_401_for_which_the_request_would_be_sent_again() -> None:
    played = play([answer(202, location=R), answer(401)])
    assert isinstance(played.error, CredentialsRefused)
    assert played.error.token
    handlers = play([answer(202, location=R), answer(401, operation_status="failed")])
    assert handlers.final is not None
    assert handlers.final.status == 401


def test_following_is_cancelled_with_the_caller() -> None:
    played = play([answer(202, **RAINCHECK), KeyboardInterrupt()])
    assert isinstance(played.error, KeyboardInterrupt)
    assert played.cancelled == [f"DELETE {R}"]


def test_following_cancels_when_the_progress_callback_raises() -> None:
    def stop(progress: Progress) -> None:
        raise RuntimeError("enough")

    played = play([answer(202, location=R), DONE], Options(on_progress=stop))
    assert isinstance(played.error, RuntimeError)
    assert played.cancelled == [f"DELETE {R}"]


def test_following_cancels_as_the_convention_has_it() -> None:
    operation = answer(202, {"name": "operations/1", "done": False}, location=R)
    assert play([operation, KeyboardInterrupt()]).cancelled == [f"POST {R}:cancel"]
    monitor = answer(202, RUNNING | LINKS, **(RAINCHECK | {"location": M, "content_location": M}))
    assert play([monitor, KeyboardInterrupt()]).cancelled == [f"DELETE {R}"]


def test_following_has_nothing_deleted_at_another_origin() -> None:
    played = play([answer(202, location="https://other.example/x"), KeyboardInterrupt()])
    assert played.cancelled == []


def test_errors_of_following_hold_no_credential() -> None:
    private = "https://ada:pw@api.example/operations/1?sig=secret"
    played = play([answer(202, location=private), *[answer(503)] * 9], Options(patience=1))
    assert isinstance(played.error, FollowError)
    assert "pw" not in str(played.error)
    assert "secret" not in str(played.error)
    assert "api.example/operations/1" in str(played.error)


# --- what polls carry ----------------------------------------------------------------------------

HEADERS = {
    "authorization": "Bearer x",
    "cookie": "a=1; b=2",
    "proxy-authorization": "Basic y",
    "x-api-key": "z",
    "accept": "text/csv",
    "accept-language": "de",
    "user-agent": "me",
    "content-type": "text/plain",
    "content-length": "3",
    "prefer": "respond-async",
    "if-none-match": "*",
    "range": "bytes=0-1",
    "idempotency-key": '"k"',
    "x-http-method-override": "DELETE",
    "host": "api.example",
}


def test_polls_carry_the_credentials_of_the_request_and_nothing_of_its_body() -> None:
    played = play([answer(202, location=R), DONE], headers=HEADERS, method="POST")
    carried = dict(played.asks[0].headers)
    assert carried.pop("prefer") == "wait=20"
    assert carried.pop("accept") == "text/csv, application/json;q=0.1"
    assert carried == {
        "authorization": "Bearer x",
        "cookie": "a=1; b=2",
        "proxy-authorization": "Basic y",
        "x-api-key": "z",
        "accept-language": "de",
        "user-agent": "me",
    }


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://other.example/x",
        "http://api.example/x",
        "https://api.example:8443/x",
        "//other.example/x",
        "https://api.example@other.example/x",
    ],
)
def test_polls_of_another_origin_carry_no_credential(elsewhere: str) -> None:
    direct = play([answer(202, location=elsewhere), DONE], headers=HEADERS)
    aside = play([answer(202, location=R), answer(307, location=elsewhere), DONE], headers=HEADERS)
    for ask in (direct.asks[0], aside.asks[1]):
        assert {name for name, _ in ask.headers} == {
            "accept",
            "accept-language",
            "user-agent",
            "prefer",
        }


def test_the_same_origin_is_the_same_with_its_port() -> None:
    played = play([answer(202, location="HTTPS://API.example:443/x"), DONE], headers=HEADERS)
    assert "authorization" in dict(played.asks[0].headers)


def test_polls_bring_the_cookies_that_answers_have_set() -> None:
    script: list[Line] = [
        answer(202, location=R, set_cookie="s=new; Path=/; HttpOnly"),
        answer(202, set_cookie="a=; Max-Age=0"),
        answer(202, set_cookie="p=1; Path=/elsewhere"),
        answer(200, b"the report", set_cookie="own=1"),
    ]
    played = play(script, headers={"cookie": "s=old; a=1", "authorization": "Bearer x"})
    assert {dict(ask.headers)["authorization"] for ask in played.asks} == {"Bearer x"}
    sent = [dict(ask.headers)["cookie"] for ask in played.asks]
    assert sent == ["s=new; a=1", "s=new", "s=new"]
    assert played.final is not None
    assert played.final.cookies == (
        "s=new; Path=/; HttpOnly",
        "a=; Max-Age=0",
        "p=1; Path=/elsewhere",
    )


# --- sending again -------------------------------------------------------------------------------

KEYED = {"idempotency-key": '"k"'}


def test_the_request_is_never_sent_again_without_a_key() -> None:
    for options in (Options(), Options(idempotency_key=True)):
        played = play([ConnectionError()], options, method="GET")
        assert isinstance(played.error, ConnectionError)
        assert played.sent == 1
    assert play([ConnectionError()], headers=KEYED, method="POST").sent == 1  # nobody has asked


def test_the_request_is_sent_again_under_a_key_while_its_answer_is_lost() -> None:
    options = Options(idempotency_key=True)
    script: list[Line] = [
        *(ConnectionError(), answer(502), answer(503, retry_after="3")),
        *(answer(409, retry_after="1"), answer(202, location=R), DONE),
    ]
    played = play(script, options, headers=KEYED, method="POST")
    assert played.sent == 5
    assert played.waits[:4] == [0.5, 1.0, 3.0, 1.0]
    assert played.urls == [R]


def test_the_request_is_not_sent_again_for_ever() -> None:
    options = Options(idempotency_key=True, patience=20)
    played = play([ConnectionError("a")] * 50, options, headers=KEYED, method="POST")
    assert isinstance(played.error, ConnectionError)
    assert played.seconds == pytest.approx(20, abs=2)
    first_409 = play([answer(409, retry_after="1")], options, headers=KEYED, method="POST")
    assert first_409.sent == 1
