"""What a client sees through a real server must be the same for all of them."""

from __future__ import annotations

import base64
import http.client
import secrets
import select
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlencode

import httpx
import pytest

from tests.servers.material import content
from tests.servers.servers import (
    DEFERRED,
    SERVERS,
    TIMEOUT,
    Kind,
    Site,
    http_client,
    status,
    wait_until,
)
from tests.support.polling import poll
from tests.support.slow import others_slow

pytestmark = pytest.mark.server

BUDGET = 0.15  # seconds
PATIENT = 2.5  # seconds: the budget of handlers that are to do something within it
SLOW = 0.45  # seconds a handler takes, well above the budget
LATE: dict[str, float] = {"seconds": SLOW} | DEFERRED
LIMIT = 1_000_000  # bytes that are read ahead of a handler


@pytest.fixture(scope="module", params=others_slow(SERVERS), ids=lambda kind: kind.name)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    kind: Kind = request.param
    site = Site(
        kind,
        tmp_path_factory.mktemp(kind.name),
        budget=BUDGET,
        budgets={"/fast/**": 20.0, "/*/patiently/**": PATIENT},
        exclude=["/bare/**"],
        limits={"request_body": LIMIT},
        drain=0.0,
    )
    with site.process:
        yield site


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    with http_client(site.url) as client:
        yield client


@pytest.fixture
def name() -> str:
    """A path segment that tells this test's calls from those of others."""
    return secrets.token_hex(4)


def local_port(response: httpx.Response) -> int:
    """Tell which connection a response came over."""
    return int(response.extensions["network_stream"].get_extra_info("client_addr")[1])


def assert_connection_is_usable(client: httpx.Client, before: httpx.Response) -> None:
    after = client.get("/fast/again")
    assert after.content == b"fast"
    assert local_port(after) == local_port(before)


# --- responses ---------------------------------------------------------------------------------


def test_a_fast_request_is_passed_on_untouched(site: Site, client: httpx.Client, name: str) -> None:
    bare, wrapped = (client.get(f"{path}/fast/{name}") for path in ("/bare", ""))
    for response in (bare, wrapped):
        response.headers.pop("date", None)
    assert wrapped.status_code == bare.status_code == 200
    assert wrapped.content == bare.content == b"fast"
    assert wrapped.headers.raw == bare.headers.raw
    assert site.operations(f"/fast/{name}") == []


@pytest.mark.parametrize("handler", ["slow", "thread"])
def test_a_slow_request_is_answered_202_and_r_gives_the_handlers_own_response(
    client: httpx.Client, handler: str
) -> None:
    query = LATE | {"seed": 7, "size": 300_000, "status": 201}
    start = client.get(f"/{handler}", params=query)
    assert start.status_code == 202
    assert start.json()["status"] == "running"
    response = poll(client, start.headers["location"])
    assert response.status_code == 201
    assert response.headers.get_list("x-note") == ["one", "two"]
    assert response.headers["operation-status"] == "succeeded"
    assert response.content == content(7, 300_000)


@pytest.mark.parametrize("handler", ["fast", "slow"])
def test_a_connection_serves_the_next_request_after_each_answer(
    client: httpx.Client, handler: str
) -> None:
    start = client.get(f"/{handler}/first", params=LATE)
    assert start.status_code == (202 if handler == "slow" else 200)
    assert_connection_is_usable(client, start)


def test_a_stream_that_begins_within_the_budget_is_not_deferred(client: httpx.Client) -> None:
    query = {"between": PATIENT + SLOW, "seed": 1, "size": 50_000}
    response = client.get("/streaming/patiently/a", params=query)
    assert response.status_code == 200
    assert response.content == content(1, 50_000)


def test_a_stream_that_begins_after_the_budget_is_recorded_whole(client: httpx.Client) -> None:
    query = DEFERRED | {"before": SLOW, "between": 0.1, "seed": 2, "size": 50_000}
    start = client.get("/streaming", params=query)
    assert start.status_code == 202
    response = poll(client, start.headers["location"])
    assert response.content == content(2, 50_000)
    assert response.headers["content-length"] == "50000"


def test_an_exception_after_the_202_is_a_500_at_r_and_the_connection_stays_usable(
    client: httpx.Client,
) -> None:
    start = client.get("/failing", params=LATE)
    assert start.status_code == 202
    response = poll(client, start.headers["location"])
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "exception"
    assert_connection_is_usable(client, start)


def test_a_head_request_is_never_deferred(site: Site, client: httpx.Client, name: str) -> None:
    response = client.head(f"/slow/{name}", params={"seconds": SLOW, "size": 1000})
    assert response.status_code == 200
    assert response.headers["content-length"] == "1000"
    assert site.operations(f"/slow/{name}") == []


def test_a_range_of_the_recorded_response_can_be_fetched(client: httpx.Client) -> None:
    query = LATE | {"seed": 3, "size": 600_000}
    location = client.get("/slow", params=query).headers["location"]
    assert poll(client, location).status_code == 200
    part = client.get(location, headers={"range": "bytes=262140-262149"})
    assert part.status_code == 206
    assert part.headers["content-range"] == "bytes 262140-262149/600000"
    assert part.content == content(3, 600_000)[262140:262150]


def test_progress_is_seen_and_a_delete_cancels_the_handler(
    site: Site, client: httpx.Client, name: str
) -> None:
    start = client.get(f"/blocked/{name}")
    expected = {"completed": 3, "total": 10, "message": "rendering"}
    wait_until(lambda: status(client, start).get("progress") == expected, "progress at M")
    assert client.delete(start.headers["location"]).json()["status"] == "cancelling"
    site.wait_for(f"cancelled {name}")
    assert poll(client, start.headers["location"]).status_code == 410
    assert status(client, start)["status"] == "canceled"


# --- uploads -----------------------------------------------------------------------------------


def test_an_upload_that_the_handler_has_not_read_at_the_202_arrives_whole(
    client: httpx.Client,
) -> None:
    sent = content(4, 300_000)
    start = client.post("/upload", params=DEFERRED | {"before": SLOW}, content=sent)
    assert start.status_code == 202
    assert poll(client, start.headers["location"]).content == sent
    assert_connection_is_usable(client, start)


def test_a_chunked_upload_that_the_handler_has_not_read_at_the_202_arrives_whole(
    client: httpx.Client,
) -> None:
    sent = content(5, 300_000)
    parts = (sent[n : n + 7_000] for n in range(0, len(sent), 7_000))
    start = client.post("/upload", params=DEFERRED | {"before": SLOW}, content=parts)
    assert start.request.headers["transfer-encoding"] == "chunked"
    assert start.status_code == 202
    assert poll(client, start.headers["location"]).content == sent
    assert_connection_is_usable(client, start)


def test_an_upload_over_the_limit_stays_synchronous(
    site: Site, client: httpx.Client, name: str
) -> None:
    sent = content(6, LIMIT + 500_000)
    response = client.post(f"/upload/{name}", params={"before": SLOW}, content=sent)
    assert response.status_code == 200
    assert response.content == sent
    assert site.operations(f"/upload/{name}") == []


@contextmanager
def begin_upload(
    site: Site, name: str, size: int, **query: float
) -> Iterator[http.client.HTTPConnection]:
    """Announce an upload of `size` bytes, and leave at the end."""
    connection = http.client.HTTPConnection("127.0.0.1", site.process.port, timeout=TIMEOUT)
    with closing(connection):
        connection.putrequest("POST", f"/upload/{name}?{urlencode(query)}")
        connection.putheader("content-length", str(size))
        connection.endheaders()
        yield connection


def is_silent(connection: http.client.HTTPConnection, seconds: float) -> bool:
    """Tell whether the server says nothing for so long."""
    return select.select([connection.sock], [], [], seconds) == ([], [], [])


# A handler that reads at once is reading when the budget ends, the other one is not.
@pytest.mark.parametrize("query", [{"after": SLOW}, {"before": 2.5 * SLOW}], ids=["reads", "works"])
def test_a_202_waits_for_the_end_of_a_slow_upload(
    site: Site, client: httpx.Client, name: str, query: dict[str, float]
) -> None:
    sent = content(8, 100_000)
    with begin_upload(site, name, len(sent), **query, **DEFERRED) as connection:
        connection.send(sent[:50_000])
        assert is_silent(connection, 3 * BUDGET)
        connection.send(sent[50_000:])
        start = connection.getresponse()
        assert start.status == 202, start.read()
        location = start.headers["location"]
    assert poll(client, location).content == sent


def test_a_client_that_leaves_in_the_middle_of_an_upload_leaves_no_operation(
    site: Site, client: httpx.Client, name: str
) -> None:
    with begin_upload(site, name, 100_000, before=2.5 * SLOW) as connection:
        connection.send(b"x" * 50_000)
        assert is_silent(connection, 3 * BUDGET)
    if site.kind.starts_before_body:
        site.wait_for(f"left {name}")
    assert client.get("/fast").content == b"fast"
    assert (f"started {name}" in site.journal()) is site.kind.starts_before_body
    assert site.operations(f"/upload/{name}") == []


# --- clients that leave ------------------------------------------------------------------------


def send_get(site: Site, path: str) -> socket.socket:
    """Send a request, and leave the answer to the caller."""
    connection = socket.create_connection(("127.0.0.1", site.process.port), timeout=TIMEOUT)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    return connection


def test_a_handler_whose_client_leaves_before_the_202_runs_on_as_an_operation(
    site: Site, client: httpx.Client, name: str
) -> None:
    with send_get(site, f"/slow/{name}?seconds={SLOW}&seed=9&size=1000&deferred=1"):
        site.wait_for(f"started {name}")
    site.wait_for(f"finished {name}")
    [operation] = site.operations(f"/slow/{name}")
    assert poll(client, f"/operations/{operation.id}").content == content(9, 1000)


def test_a_handler_that_hears_its_client_leave_within_the_budget_is_not_deferred(
    site: Site, name: str
) -> None:
    path = f"/listening/patiently/{name}"
    with send_get(site, f"{path}?seconds={TIMEOUT}&after={PATIENT + SLOW}"):
        site.wait_for(f"started patiently/{name}")
    site.wait_for(f"finished patiently/{name}")
    assert f"http.disconnect patiently/{name}" in site.journal()
    assert site.operations(path) == []


def test_a_client_that_leaves_after_the_202_finds_its_response_later(
    site: Site, client: httpx.Client, name: str
) -> None:
    with http_client(site.url) as leaving:
        start = leaving.get(f"/slow/{name}", params=LATE | {"seed": 10, "size": 1000})
    assert start.status_code == 202
    response = poll(client, start.headers["location"])
    assert (response.status_code, response.content) == (200, content(10, 1000))


def test_a_handler_that_listens_does_not_hear_its_client_leave_after_the_202(
    site: Site, client: httpx.Client, name: str
) -> None:
    with http_client(site.url) as leaving:
        start = leaving.get(f"/listening/{name}", params=DEFERRED | {"seconds": 2 * SLOW})
    assert start.status_code == 202
    assert poll(client, start.headers["location"]).content == b"nothing"


# --- what is no HTTP request -------------------------------------------------------------------


def receive(connection: socket.socket, size: int) -> bytes:
    """Read so many bytes."""
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        assert piece, f"closed after {data!r}"
        data += piece
    return data


def shake_hands(connection: socket.socket) -> bytes:
    """Open a WebSocket (RFC 6455 §4.1) and return the server's status line."""
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    connection.sendall(
        f"GET /ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += receive(connection, 1)
    return head.partition(b"\r\n")[0]


def test_a_websocket_passes_through(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.process.port), timeout=TIMEOUT) as connection:
        assert shake_hands(connection).split()[1] == b"101"
        no_mask = bytes(4)
        connection.sendall(b"\x81\x85" + no_mask + b"hello")  # a final text frame of 5 bytes
        assert receive(connection, 7) == b"\x81\x05hello"
