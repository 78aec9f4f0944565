"""What requests' users rely on, above an adapter that follows."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from raincheck import ConfigurationError
from raincheck.client import Adapter, LostTouch, Options, resume_session
from tests.client.rough_server import BIG, HALF, RoughServer

QUICK = Options(wait=0)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.mount("http://", Adapter(options=QUICK))
        yield session


def test_requests_streams_the_final_response_as_it_comes(
    session: requests.Session, rough: RoughServer
) -> None:
    with session.get(f"{rough.url}/start/drip", stream=True) as response:
        received = 0
        for chunk in response.iter_content(HALF):
            received += len(chunk)
            if received == HALF:
                rough.goes_on.set()
    assert received == len(BIG)


def test_requests_reads_json_that_was_looked_into(
    session: requests.Session, rough: RoughServer
) -> None:
    with session.get(f"{rough.url}/start/huge", stream=True) as response:
        assert len(b"".join(response.iter_content(1000))) > 3_000_000
    assert session.get(f"{rough.url}/start/huge").json()["status"] == "running"


def test_requests_sends_a_body_that_streams_once(
    session: requests.Session, rough: RoughServer
) -> None:
    assert session.post(f"{rough.url}/start/report", data=iter([b"a", b"b"])).ok
    assert rough.bodies[0] == b"ab"


def test_requests_calls_its_hooks_once(session: requests.Session, rough: RoughServer) -> None:
    seen: list[Any] = []
    hooks = {"response": lambda response, **_: seen.append(response.url)}
    session.get(f"{rough.url}/start/report", hooks=hooks)
    assert seen == [f"{rough.url}/start/report"]


def test_requests_timeouts_hold_for_each_poll_and_leave_room_for_a_held_one(
    rough: RoughServer,
) -> None:
    with requests.Session() as session:
        session.mount("http://", Adapter(options=Options(wait=5, patience=0)))
        assert session.get(f"{rough.url}/start/holding", timeout=(5, 0.8)).text == "the report"
        session.mount("http://", Adapter(options=Options(wait=0, patience=0)))
        with pytest.raises(LostTouch) as lost:
            session.get(f"{rough.url}/start/held", timeout=0.8)
    assert isinstance(lost.value.__cause__, requests.ReadTimeout)


def test_requests_resuming_needs_the_adapter(rough: RoughServer) -> None:
    tokens: list[str] = []
    with requests.Session() as session:
        session.mount("http://", Adapter(options=Options(wait=0, on_token=tokens.append)))
        session.get(f"{rough.url}/start/report")
    with requests.Session() as plain, pytest.raises(ConfigurationError, match="Adapter"):
        resume_session(tokens[0], plain)


class Scripted(BaseAdapter):
    """Answers 202 with a place at another origin, and then the end; remembers how it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[requests.PreparedRequest, dict[str, Any]]] = []

    def send(self, request: requests.PreparedRequest, **how: Any) -> requests.Response:  # type: ignore[override]
        self.asked.append((request, how))
        response = requests.Response()
        first = len(self.asked) == 1
        headers = {"Location": "https://other.example/r"} if first else {}
        response.status_code = 202 if first else 200
        response.raw = HTTPResponse(io.BytesIO(b"x"), headers, preload_content=False)
        response.headers.update(headers)
        return response

    def close(self) -> None:
        pass


def test_requests_shows_no_certificate_to_another_origin() -> None:
    wrapped = Scripted()
    with requests.Session() as session:
        session.mount("https://", Adapter(wrapped, QUICK))
        session.get("https://api.example/report", cert="key.pem", headers={"X-Key": "secret"})
    (first, how), (poll, how_polled) = wrapped.asked
    assert (how["cert"], first.headers["X-Key"]) == ("key.pem", "secret")
    assert how_polled["cert"] is None
    assert "x-key" not in poll.headers
