"""Answers that break off, drip, or lead astray: no operation is lost or cancelled by them."""

from __future__ import annotations

import anyio
import httpx
import pytest
import requests
from urllib3 import Retry

from raincheck.client import (
    Adapter,
    AsyncTransport,
    DeadlineExceeded,
    LostTouch,
    Options,
    Progress,
    RedirectLoop,
    Transport,
    resume,
    resume_async,
)
from raincheck.client.exchange import Answer, Ask
from raincheck.client.fields import resolve
from tests.client.libraries import Library, Request
from tests.client.playing import answer, play
from tests.client.rough_server import RoughServer

QUICK = Options(wait=0)
ACCEPTED = answer(202, location="/operations/1")


# --- errors of libraries -----------------------------------------------------------------------


def test_errors_of_any_kind_at_a_poll_are_survived() -> None:
    def fail(ask: Ask) -> Answer:
        raise UnicodeError("no host has such a name")

    played = play([ACCEPTED, fail, answer(200, b"the report")])
    assert played.error is None
    assert not played.cancelled


def test_errors_of_any_kind_that_go_on_end_with_a_token_and_no_cancellation() -> None:
    def fail(ask: Ask) -> Answer:
        raise UnicodeError("no host has such a name")

    played = play([ACCEPTED, *[fail] * 20], Options(patience=3))
    assert isinstance(played.error, LostTouch)
    assert isinstance(played.error.__cause__, UnicodeError)
    assert played.error.token
    assert not played.cancelled


def test_errors_of_a_callback_cancel() -> None:
    def fail(progress: Progress) -> None:
        raise ValueError("no display")

    played = play([ACCEPTED, answer(202)], Options(on_progress=fail))
    assert isinstance(played.error, ValueError)
    assert played.cancelled == ["DELETE https://api.example/operations/1"]


def test_errors_after_the_retries_of_requests_cancel_nothing(rough: RoughServer) -> None:
    retrying = requests.adapters.HTTPAdapter(max_retries=Retry(2, status_forcelist=[503]))
    with requests.Session() as session:
        session.mount("http://", Adapter(retrying, QUICK))
        assert session.get(f"{rough.url}/start/busy", timeout=5).content == b"the report"
    assert rough.lines == ["GET /start/busy"] + ["GET /busy"] * 4


@pytest.mark.parametrize(
    "host", ["a" * 64 + ".com", ("a" * 60 + ".") * 5 + "com", "a..b", ".a", "a%b", "a*b", "ü..xn--"]
)
def test_hosts_to_which_nothing_can_be_sent_are_no_place(host: str) -> None:
    assert resolve("https://api.example/", f"http://{host}/") is None
    played = play([ACCEPTED, answer(302, location=f"http://{host}/")])
    assert isinstance(played.error, RedirectLoop)
    assert played.error.token
    assert not played.cancelled


@pytest.mark.parametrize("host", ["a_b", "127.0.0.1", "[::1]", "bücher.example", "a.example."])
def test_hosts_of_other_kinds_are_places(host: str) -> None:
    assert resolve("https://api.example/", f"http://{host}/x") == f"http://{host}/x"


# --- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [202, 429, 503])
def test_a_tiny_retry_after_makes_no_hot_loop(status: int) -> None:
    hasty = answer(status, retry_after="0.00001")
    played = play([ACCEPTED, *[hasty] * 5, answer(200, b"the report")])
    assert played.error is None
    assert min(played.waits) >= 0.1


def test_the_deadline_holds_while_an_answer_drips(ask: Library, rough: RoughServer) -> None:
    with pytest.raises(DeadlineExceeded):
        ask(Request(f"{rough.url}/start/dripping"), Options(deadline=0.3))
    assert not rough.half_sent.is_set()
    assert rough.lines[-1] == "DELETE /dripping"


def test_the_deadline_does_not_wait_for_the_answer_to_a_cancellation(
    ask: Library, rough: RoughServer
) -> None:
    with pytest.raises(DeadlineExceeded):
        ask(Request(f"{rough.url}/start/clinging"), Options(deadline=0.1, wait=0))
    assert rough.cancelled.is_set()
    assert not rough.half_sent.is_set()


# --- the first answer --------------------------------------------------------------------------


def test_a_202_that_breaks_off_is_followed_where_its_head_leads(
    ask: Library, rough: RoughServer
) -> None:
    got = ask(Request(f"{rough.url}/broken", "POST", content=b"x"), QUICK)
    assert (got.status, got.content) == (200, b"the report")
    assert rough.lines == ["POST /broken", "GET /report"]


def test_a_202_that_breaks_off_and_leads_nowhere_is_an_error_of_the_library(
    ask: Library, rough: RoughServer
) -> None:
    with pytest.raises((httpx.HTTPError, requests.RequestException)):
        ask(Request(f"{rough.url}/broken/alone", "POST", content=b"x"), QUICK)
    assert len(rough.lines) == 1


def test_a_202_that_is_a_stream_of_the_handler_is_not_held_back_in_httpx(
    rough: RoughServer,
) -> None:
    url = f"{rough.url}/stream"
    with httpx.Client(transport=Transport(), timeout=2) as client, client.stream("GET", url) as got:
        assert got.status_code == 202
        rough.goes_on.set()
        assert got.read() == b"data:"


def test_a_202_that_is_a_stream_of_the_handler_is_not_held_back_in_requests(
    rough: RoughServer,
) -> None:
    with requests.Session() as session:
        session.mount("http://", Adapter())
        with session.get(f"{rough.url}/stream", stream=True, timeout=2) as got:
            assert got.status_code == 202
            rough.goes_on.set()
            assert got.content == b"data:"


# --- the last ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/abroad/planting", "/abroad/planting_json"])
def test_another_origin_sets_no_cookie_in_the_name_of_the_first(
    ask: Library, rough: RoughServer, path: str
) -> None:
    got = ask(Request(f"{rough.url}{path}"), QUICK)
    assert (got.status, got.content) == (200, b"{}")
    assert "planted" not in got.cookies
    assert "set-cookie" not in got.headers


def test_the_first_origin_sets_cookies_with_its_response(ask: Library, rough: RoughServer) -> None:
    got = ask(Request(f"{rough.url}/start/planting"), QUICK)
    assert got.cookies["planted"] == "1"


def test_a_response_that_redirects_is_resumed_once_in_httpx(rough: RoughServer) -> None:
    token = _token_of(rough)
    with httpx.Client(transport=Transport(options=QUICK), follow_redirects=True) as client:
        client.params = httpx.QueryParams({"key": "1"})
        assert resume(token, client).content == b"the report"
    assert rough.lines.count("GET /leading") == 2


def test_a_response_that_redirects_is_resumed_once_in_an_event_loop(rough: RoughServer) -> None:
    async def go_on() -> bytes:
        transport = AsyncTransport(options=QUICK)
        async with httpx.AsyncClient(transport=transport, follow_redirects=True) as client:
            return (await resume_async(token, client)).content

    token = _token_of(rough)
    assert anyio.run(go_on) == b"the report"
    assert rough.lines.count("GET /leading") == 2


def _token_of(rough: RoughServer) -> str:
    tokens: list[str] = []
    options = Options(wait=0, on_token=tokens.append)
    with httpx.Client(transport=Transport(options=options)) as client:
        assert client.get(f"{rough.url}/start/leading").status_code == 303
    return tokens[-1]
