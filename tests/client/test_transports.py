"""What each library's transport does with a server that answers over a socket."""

from __future__ import annotations

import json
import threading

import pytest

from raincheck.client import CredentialsRefused, DeadlineExceeded, LostTouch, Options, Progress
from tests.client.libraries import Library, Request
from tests.client.rough_server import PATIENCE, RoughServer

QUICK = Options(wait=0)


def test_a_transport_survives_lost_connections_and_sends_the_request_once(
    ask: Library, rough: RoughServer
) -> None:
    got = ask(Request(f"{rough.url}/start/rough", "POST", content=b"data"), QUICK)
    assert (got.status, got.content) == (200, b"the report")
    assert rough.lines == ["POST /start/rough"] + ["GET /rough"] * 4
    assert rough.bodies[0] == b"data"
    assert not any(rough.bodies[1:])
    assert got.url == f"{rough.url}/start/rough"


def test_a_transport_gives_each_connection_back_to_a_pool_of_one(
    ask: Library, rough: RoughServer
) -> None:
    """As microsoft/kiota-python#564 has it, retried responses that stay open exhaust a pool."""
    got = ask(Request(f"{rough.url}/start/report", times=5), Options(wait=0))
    assert (got.status, got.content) == (200, b"the report")
    assert rough.lines.count("GET /report") == 5


def test_a_transport_brings_the_cookies_of_the_202_to_polls_and_to_its_client(
    ask: Library, rough: RoughServer
) -> None:
    got = ask(Request(f"{rough.url}/start/report"), QUICK)
    assert rough.asked("GET /report")[0]["cookie"] == "session=1"
    assert got.cookies == {"session": "1"}


def test_a_transport_repeats_the_credentials_of_the_request(
    ask: Library, rough: RoughServer
) -> None:
    headers = {"Authorization": "Bearer x", "X-Api-Key": "y"}
    ask(Request(f"{rough.url}/start/report", "POST", headers, b"x"), QUICK)
    poll = rough.asked("GET /report")[0]
    assert (poll["authorization"], poll["x-api-key"]) == ("Bearer x", "y")
    assert "content-type" not in poll
    assert poll.get("content-length", "0") == "0"


def test_a_transport_cancels_at_the_deadline(ask: Library, rough: RoughServer) -> None:
    with pytest.raises(DeadlineExceeded):
        ask(Request(f"{rough.url}/start/slow"), Options(deadline=0.2, wait=0))
    assert rough.cancelled.wait(PATIENCE)
    assert rough.lines[-1] == "DELETE /slow"


def test_a_transport_cancels_when_the_caller_is_interrupted(
    ask: Library, rough: RoughServer
) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(Request(f"{rough.url}/start/slow"), Options(on_progress=interrupt))
    assert rough.cancelled.wait(PATIENCE)


def test_a_transport_can_be_told_to_let_the_operation_go_on(
    ask: Library, rough: RoughServer
) -> None:
    with pytest.raises(DeadlineExceeded):
        ask(Request(f"{rough.url}/start/slow"), Options(deadline=0.1, cancel=False))
    assert not [line for line in rough.lines if "DELETE" in line]


def test_a_transport_resumes_with_a_token_and_other_credentials(
    ask: Library, rough: RoughServer
) -> None:
    tokens: list[str] = []
    with pytest.raises(CredentialsRefused) as refused:
        ask(Request(f"{rough.url}/start/refused"), Options(wait=0, on_token=tokens.append))
    assert refused.value.token == tokens[-1]
    with pytest.raises(CredentialsRefused):
        ask(Request("", token=tokens[-1], headers={"Authorization": "Bearer new"}), QUICK)
    assert rough.lines == ["GET /start/refused", "GET /refused", "GET /refused"]
    assert rough.asked("GET /refused")[-1]["authorization"] == "Bearer new"


def test_a_transport_resumes_to_the_end(ask: Library, rough: RoughServer) -> None:
    with pytest.raises(LostTouch) as lost:
        ask(Request(f"{rough.url}/start/rough"), Options(wait=0, patience=0))
    got = ask(Request("", token=lost.value.token), QUICK)
    assert (got.status, got.content) == (200, b"the report")
    assert rough.lines.count("GET /start/rough") == 1


def test_a_transport_adds_a_key_and_sends_the_request_again_under_it(
    ask: Library, rough: RoughServer
) -> None:
    options = Options(wait=0, idempotency_key=True)
    got = ask(Request(f"{rough.url}/lost_start", "POST", content=b"x"), options)
    assert got.content == b"the report"
    keys = [fields["idempotency-key"] for fields in rough.asked("POST /lost_start")]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert keys[0].startswith('"')
    assert rough.bodies[:2] == [b"x", b"x"]
    assert "idempotency-key" not in rough.asked("GET /report")[0]


def test_a_transport_adds_no_key_to_a_get_and_sends_it_once(
    ask: Library, rough: RoughServer
) -> None:
    with pytest.raises(Exception, match=r"(?i)disconnect|closed|aborted|reset|without"):
        ask(Request(f"{rough.url}/lost_start"), Options(idempotency_key=True))
    assert len(rough.lines) == 1


def test_a_transport_returns_json_that_is_too_long_for_a_status_document(
    ask: Library, rough: RoughServer
) -> None:
    got = ask(Request(f"{rough.url}/start/huge"), QUICK)
    assert len(got.content) > 3_000_000
    assert got.content.endswith(b'x"}')


@pytest.mark.parametrize(
    ("path", "status", "content"),
    [
        ("inside", 200, {"pages": 3}),
        ("failing", 404, {"code": 5, "message": "no such report"}),
        ("own_202", 202, b"queued"),
    ],
)
def test_a_transport_makes_the_response_that_is_only_told(
    path: str, status: int, content: object, ask: Library, rough: RoughServer
) -> None:
    got = ask(Request(f"{rough.url}/start/{path}"), QUICK)
    assert got.status == status
    if isinstance(content, bytes):
        assert got.content == content
        return
    assert got.headers["content-type"] == "application/json"
    assert int(got.headers["content-length"]) == len(got.content)
    found = json.loads(got.content)
    assert found.get("error", found) == content
    assert got.cookies == {"session": "1"}


def test_a_transport_leaves_other_responses_alone(ask: Library, rough: RoughServer) -> None:
    got = ask(Request(f"{rough.url}/report"), QUICK)
    assert (got.status, got.content, got.headers["etag"]) == (200, b"the report", '"1"')
    assert ask(Request(f"{rough.url}/conflict"), QUICK).status == 409


def test_a_transport_may_be_used_by_many_threads(rough: RoughServer) -> None:
    import httpx

    from raincheck.client import Transport

    with httpx.Client(transport=Transport(options=QUICK)) as client:
        found: list[str] = []
        get = lambda: found.append(client.get(f"{rough.url}/start/report").text)  # noqa: E731
        threads = [threading.Thread(target=get) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["the report"] * 8
