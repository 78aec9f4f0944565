"""Every library against raincheck behind real servers, in ASGI and WSGI, in both dialects."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from raincheck.client import DeadlineExceeded, Options, Progress
from tests.client.libraries import LIBRARIES, Library, Request, with_httpx
from tests.support.processes import ServerProcess

pytestmark = pytest.mark.server

UVICORN = ["-m", "uvicorn", "--log-level", "warning", "--port", "{port}"]
GUNICORN = ["-m", "gunicorn", "--threads", "8", "--no-control-socket", "-b", "127.0.0.1:{port}"]
SERVERS = {
    "uvicorn": [*UVICORN, "tests.client.application:asgi"],
    "uvicorn, see-other": [*UVICORN, "tests.client.application:see_other"],
    "gunicorn": [*GUNICORN, "tests.client.application:wsgi"],
}


@pytest.fixture(scope="module", params=SERVERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with ServerProcess(SERVERS[request.param]) as server:
        yield server.url


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_slow_handler_answers_as_if_it_were_fast(library: str, url: str) -> None:
    ask: Library = LIBRARIES[library]
    got = ask(Request(f"{url}/report", "POST", content=b"data"), Options())
    assert (got.status, got.content) == (200, b"the report of data")
    assert got.headers["operation-status"] == "succeeded"


@pytest.mark.parametrize("status", [201, 202, 409, 503])
def test_a_slow_handler_s_own_status_is_the_response_s(status: int, url: str) -> None:
    got = with_httpx(Request(f"{url}/report?status={status}"), Options())
    assert (got.status, got.content) == (status, b"the report of ")


def test_a_slow_handler_s_redirection_is_followed_by_the_client(url: str) -> None:
    from raincheck.client import Transport

    with httpx.Client(transport=Transport(), follow_redirects=True) as client:
        assert client.get(f"{url}/elsewhere").text == "fast"


def test_a_slow_handler_s_progress_is_told(url: str) -> None:
    told: list[Progress] = []
    with_httpx(Request(f"{url}/report"), Options(on_progress=told.append))
    assert Progress(1, 4, "rendering") in [
        Progress(one.completed, one.total, one.message) for one in told
    ]


def test_a_slow_handler_is_cancelled_at_the_deadline(url: str) -> None:
    tokens: list[str] = []
    with pytest.raises(DeadlineExceeded) as late:
        with_httpx(Request(f"{url}/endless"), Options(deadline=0.5, on_token=tokens.append))
    assert late.value.token is not None
    got = with_httpx(Request("", token=late.value.token), Options())
    assert got.status == 410
