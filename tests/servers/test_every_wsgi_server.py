"""What a client sees through a real WSGI server must be the same for all of them."""

from __future__ import annotations

import http.client
import secrets
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.servers.material import content
from tests.servers.servers import DEFERRED, TIMEOUT, http_client, status, wait_until
from tests.servers.wsgi_servers import WSGI_SERVERS, WsgiKind, WsgiSite
from tests.support.polling import poll
from tests.support.slow import others_slow

pytestmark = pytest.mark.server

BUDGET = 0.06  # seconds; below /patient it is so long that no fast handler exceeds it
SLOW = 0.3  # seconds a handler takes, well above the budget
LATE: dict[str, float] = {"seconds": SLOW} | DEFERRED
LIMIT = 4_000_000  # bytes that are read ahead of a handler
LARGE = 3_000_000  # bytes
ENORMOUS = 50_000_000  # bytes: more than systems and servers hold for a client that does not read


@pytest.fixture(scope="module", params=others_slow(WSGI_SERVERS, 2), ids=lambda kind: kind.name)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WsgiSite]:
    kind: WsgiKind = request.param
    site = WsgiSite(
        kind,
        tmp_path_factory.mktemp(kind.name),
        budget=BUDGET,
        budgets={"/patient/**": 20.0},
        exclude=["/bare/**", "/threads"],
        limits={"request_body": LIMIT},
        drain=0.0,
    )
    with site.process:
        yield site


@pytest.fixture
def client(site: WsgiSite) -> Iterator[httpx.Client]:
    # uwsgi closes connections without saying so before.
    limits = httpx.Limits(max_keepalive_connections=None if site.kind.keeps_connections else 0)
    with http_client(site.url, limits=limits) as client:
        yield client


@pytest.fixture
def name() -> str:
    """A path segment that tells this test's calls from those of others."""
    return secrets.token_hex(4)


def assert_connection_is_usable(
    site: WsgiSite, client: httpx.Client, before: httpx.Response
) -> None:
    after = client.get("/patient/fast")
    assert after.content == b"fast"
    one, other = (response.extensions["network_stream"] for response in (before, after))
    assert (one is other) is site.kind.keeps_connections


def start_slowly(client: httpx.Client, path: str, **query: Any) -> str:
    """Have an operation begun by a GET; returns where R is."""
    start = client.get(path, params={**LATE, **query})
    assert start.status_code == 202, start.text
    return start.headers["location"]


# --- responses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "size"), [("fast", 4), ("written", 200_000), ("file", 200_000), ("cookies", 2)]
)
def test_a_fast_request_is_passed_on_untouched(
    site: WsgiSite, client: httpx.Client, name: str, handler: str, size: int
) -> None:
    query = {"size": size, "seed": 1}
    bare, wrapped = (
        client.get(f"{path}/{handler}/{name}", params=query) for path in ("/bare", "/patient")
    )
    for response in (bare, wrapped):
        response.headers.pop("date", None)
    assert wrapped.status_code == bare.status_code == 200
    assert wrapped.content == bare.content
    assert len(wrapped.content) == size
    assert wrapped.headers.raw == bare.headers.raw
    assert site.operations(f"/patient/{handler}/{name}") == []


def test_a_slow_request_is_answered_202_and_r_gives_the_handlers_own_response(
    site: WsgiSite, client: httpx.Client
) -> None:
    query = LATE | {"seed": 7, "size": LARGE, "status": 201}
    start = client.get("/slow", params=query)
    assert start.status_code == 202
    assert start.json()["status"] == "running"
    assert_connection_is_usable(site, client, start)
    response = poll(client, start.headers["location"])
    assert response.status_code == 201
    assert response.headers.get_list("x-note") == ["one", "two"]
    assert response.headers["operation-status"] == "succeeded"
    assert response.content == content(7, LARGE)


@pytest.mark.parametrize("handler", ["written", "file"])
def test_other_ways_to_send_a_body_are_recorded_whole(client: httpx.Client, handler: str) -> None:
    location = start_slowly(client, f"/{handler}", seed=8, size=300_000)
    assert poll(client, location).content == content(8, 300_000)


def test_a_stream_that_begins_within_the_budget_is_not_deferred_and_closed_once(
    site: WsgiSite, client: httpx.Client, name: str
) -> None:
    query = {"between": SLOW, "seed": 1, "size": ENORMOUS}
    with client.stream("GET", f"/patient/streaming/{name}", params=query) as response:
        assert response.status_code == 200
        assert f"closed {name}" not in site.journal()
        assert response.read() == content(1, ENORMOUS)
    site.wait_for(f"closed {name}")
    assert site.journal().count(f"closed {name}") == 1


def test_a_stream_that_begins_after_the_budget_is_recorded_whole_and_closed_once(
    site: WsgiSite, client: httpx.Client, name: str
) -> None:
    query = {"before": SLOW, "between": 0.1, "seed": 2, "size": 50_000}
    location = start_slowly(client, f"/streaming/{name}", **query)
    response = poll(client, location)
    assert response.content == content(2, 50_000)
    assert response.headers["content-length"] == "50000"
    site.wait_for(f"closed {name}")
    assert site.journal().count(f"closed {name}") == 1


def test_an_exception_after_the_202_is_a_500_at_r(client: httpx.Client) -> None:
    response = poll(client, start_slowly(client, "/failing"))
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "exception"


def test_an_exception_within_the_budget_is_the_servers_500(site: WsgiSite) -> None:
    def answer(path: str) -> tuple[int, bytes] | None:
        with http_client(site.url) as client:
            try:
                response = client.get(path)
            except httpx.TransportError:
                return None  # some servers just close the connection
            return response.status_code, response.content

    assert answer("/patient/failing") == answer("/bare/failing")


def test_cookies_are_for_the_first_response_only(client: httpx.Client) -> None:
    assert client.get("/patient/cookies").headers.get_list("set-cookie") == ["a=1", "b=2"]
    replayed = poll(client, start_slowly(client, "/cookies"))
    assert replayed.content == b"ok"
    assert "set-cookie" not in replayed.headers


def test_a_head_request_is_never_deferred(site: WsgiSite, client: httpx.Client, name: str) -> None:
    response = client.head(f"/slow/{name}", params={"seconds": SLOW, "size": 1000})
    assert response.status_code == 200
    assert response.headers["content-length"] == "1000"
    assert site.operations(f"/slow/{name}") == []


def test_a_path_that_is_not_ascii_reaches_handler_and_store(
    site: WsgiSite, client: httpx.Client, name: str
) -> None:
    path = f"/echo/{name}/größe/日本"
    assert poll(client, start_slowly(client, path)).content.decode() == path
    assert len(site.operations(path)) == 1


def test_progress_is_seen_and_a_delete_cancels_the_handler(
    site: WsgiSite, client: httpx.Client, name: str
) -> None:
    start = client.get(f"/blocked/{name}")
    expected = {"completed": 3, "total": 10, "message": "rendering"}
    wait_until(lambda: status(client, start).get("progress") == expected, "progress at M")
    assert client.delete(start.headers["location"]).json()["status"] == "cancelling"
    site.wait_for(f"cancelled {name}")
    assert poll(client, start.headers["location"]).status_code == 410
    assert status(client, start)["status"] == "canceled"


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [("respond-async", 202), ("respond-async, wait=10", 200), ("wait=10", 200)],
)
def test_a_client_may_say_how_long_it_waits(
    client: httpx.Client, prefer: str, expected: int
) -> None:
    query = (LATE if expected == 202 else {"seconds": SLOW}) | {"seed": 3, "size": 10}
    start = client.get("/slow", params=query, headers={"prefer": prefer})
    assert start.status_code == expected
    response = poll(client, start.headers["location"]) if expected == 202 else start
    assert response.content == content(3, 10)


# --- uploads -----------------------------------------------------------------------------------


def test_a_large_upload_that_the_handler_has_not_read_at_the_202_arrives_whole(
    site: WsgiSite, client: httpx.Client
) -> None:
    sent = content(4, LARGE)
    start = client.post("/upload", params=DEFERRED | {"before": SLOW}, content=sent)
    assert start.status_code == 202
    assert_connection_is_usable(site, client, start)
    assert poll(client, start.headers["location"]).content == sent


def test_a_chunked_upload_is_deferred_where_raincheck_can_read_it(
    site: WsgiSite, client: httpx.Client, name: str
) -> None:
    sent = content(5, 300_000)
    parts = (sent[n : n + 7_000] for n in range(0, len(sent), 7_000))
    query = (DEFERRED if site.kind.reads_chunked else {}) | {"before": SLOW}
    start = client.post(f"/upload/{name}", params=query, content=parts)
    assert start.request.headers["transfer-encoding"] == "chunked"
    if site.kind.reads_chunked:
        assert start.status_code == 202
        assert poll(client, start.headers["location"]).content == sent
    else:
        assert start.status_code == 200
        assert site.operations(f"/upload/{name}") == []


def test_an_upload_over_the_limit_stays_synchronous(
    site: WsgiSite, client: httpx.Client, name: str
) -> None:
    sent = content(6, LIMIT + 500_000)
    response = client.post(f"/upload/{name}", params={"before": SLOW}, content=sent)
    assert response.status_code == 200
    assert response.content == sent
    assert site.operations(f"/upload/{name}") == []


def test_a_client_that_leaves_in_the_middle_of_an_upload_leaves_no_operation(
    site: WsgiSite, client: httpx.Client, name: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.process.port, timeout=TIMEOUT)
    with closing(connection):
        connection.putrequest("POST", f"/upload/{name}?before={SLOW}")
        connection.putheader("content-length", "100000")
        connection.endheaders()
        connection.send(b"x" * 50_000)
    assert client.get("/patient/fast").content == b"fast"
    if site.kind.starts_before_body:
        site.wait_for(f"finished {name}")
    assert (f"started {name}" in site.journal()) is site.kind.starts_before_body
    assert site.operations(f"/upload/{name}") == []


# --- clients that leave ------------------------------------------------------------------------


def test_a_handler_whose_client_leaves_before_the_202_runs_on_as_an_operation(
    site: WsgiSite, client: httpx.Client, name: str
) -> None:
    path = f"/slow/{name}?seconds={SLOW}&seed=9&size=1000&deferred=1"
    address = ("127.0.0.1", site.process.port)
    with socket.create_connection(address, timeout=TIMEOUT) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        site.wait_for(f"started {name}")
    site.wait_for(f"finished {name}")
    [operation] = site.operations(f"/slow/{name}")
    assert poll(client, f"/operations/{operation.id}").content == content(9, 1000)


def test_a_client_that_leaves_after_the_202_finds_its_response_later(
    site: WsgiSite, client: httpx.Client
) -> None:
    with http_client(site.url) as leaving:
        location = start_slowly(leaving, "/slow", seed=10, size=1000)
    response = poll(client, location)
    assert (response.status_code, response.content) == (200, content(10, 1000))


# --- threads -----------------------------------------------------------------------------------


def test_raincheck_knows_how_many_threads_serve(site: WsgiSite, client: httpx.Client) -> None:
    count, _, thread = client.get("/threads").text.partition(" ")
    assert count == str(site.kind.pool), f"in {thread}"
