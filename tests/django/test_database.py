"""Transactions and connections of handlers, on PostgreSQL and behind real servers."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.django.postgresql import SERVERS, Database, database, project, until
from tests.support.polling import poll
from tests.support.slow import others_slow

pytestmark = pytest.mark.server

AROUND = ["tests.django.project.asking_around"]
REQUESTS = int(os.environ.get("TEST_REQUESTS", "60"))
AT_ONCE = 10
THREADS = 8  # of gunicorn


@pytest.fixture
def made() -> Iterator[Database]:
    with database() as connected:
        yield connected


@pytest.fixture(params=others_slow(list(SERVERS)))
def server(request: pytest.FixtureRequest) -> str:
    return SERVERS[str(request.param)]


@pytest.mark.parametrize("around", [[], AROUND], ids=["alone", "within a sync middleware"])
def test_a_transaction_is_committed_before_the_operation_is_over(
    server: str, made: Database, tmp_path: Path, around: list[str]
) -> None:
    atomic = {"ATOMIC_REQUESTS": True}
    with project(server, made, tmp_path / "s.db", database=atomic, around=around) as (_, client):
        with made.lock() as lock:
            accepted = client.get(f"/insert?note=kept&lock={lock}")
            assert accepted.status_code == 202
            assert client.get(accepted.headers["location"]).status_code == 202
            assert not made.has("kept")
        answer = poll(client, accepted.headers["location"])
        assert made.has("kept")
    assert (answer.status_code, answer.text) == (200, "written")


def test_a_transaction_of_a_view_that_raises_is_rolled_back(
    server: str, made: Database, tmp_path: Path
) -> None:
    atomic = {"ATOMIC_REQUESTS": True}
    with project(server, made, tmp_path / "s.db", database=atomic) as (_, client):
        with made.lock() as lock:
            accepted = client.get(f"/insert?note=lost&lock={lock}&fail=1")
        answer = poll(client, accepted.headers["location"])
    assert answer.status_code == 500
    assert "Server Error (500)" in answer.text
    assert not made.has("lost")


# Under WSGI, Django runs each step of an async stream in another event loop.
STREAMED = [(SERVERS[name], "/rows") for name in SERVERS] + [
    (command, "/rows/async") for command in SERVERS.values() if "gunicorn" not in command
]


@pytest.mark.parametrize(("server", "path"), others_slow(STREAMED))
@pytest.mark.parametrize("budget", [0, 60])
def test_a_stream_reads_from_a_cursor_that_was_opened_before(
    server: str, made: Database, tmp_path: Path, path: str, budget: float
) -> None:
    with project(server, made, tmp_path / "s.db", BUDGET=budget) as (_, client):
        for _ in range(3):
            answer = client.get(path)
            if answer.status_code == 202:
                answer = poll(client, answer.headers["location"])
            assert answer.status_code == 200
            last = 200 if path == "/rows/async" else 2000
            assert answer.text.split() == [str(n) for n in range(1, last + 1)]
        until(lambda: made.clients() == 0)


ASKED = [*product(["/ask", "/ask/async", "/ask/marked"], [0, 60]), ("/ask", None)]


@pytest.mark.parametrize(("path", "age"), others_slow(ASKED))
def test_no_connection_is_left_behind(
    server: str, made: Database, tmp_path: Path, path: str, age: int | None
) -> None:
    # What middleware around opens under ASGI, Django itself leaves behind unless it is 0.
    around = AROUND if age == 0 or "gunicorn" in server else []
    settings: dict[str, Any] = {"database": {"CONN_MAX_AGE": age}, "around": around, "BUDGET": 0}
    with project(server, made, tmp_path / "s.db", **settings) as (_, client):
        most = _load(client, made, path)
        if age == 0:
            until(lambda: made.clients() == 0)
        left = made.clients()
    # A thread of the server and one of the handler for each request that runs at the same time;
    # and polls, each of which is a request, too.
    assert most <= 3 * AT_ONCE
    assert left <= 2 * AT_ONCE
    until(lambda: made.clients() == 0)


@pytest.mark.parametrize("path", ["/ask", "/ask/async"])
def test_requests_in_time_leave_no_connection_behind(
    server: str, made: Database, tmp_path: Path, path: str
) -> None:
    with project(server, made, tmp_path / "s.db", BUDGET=60) as (_, client):
        most = _load(client, made, path)
        until(lambda: made.clients() == 0)
    # One for each request, and such as are just being closed: by a thread that ends, or by the
    # server, when the next has begun. Two for each would be twice as many.
    assert most < 2 * (THREADS if "gunicorn" in server else AT_ONCE)


def _load(client: httpx.Client, made: Database, path: str) -> int:
    """Send many requests, follow each; return how many connections there were at most."""
    most, lock = 0, threading.Lock()

    def one(n: int) -> None:
        nonlocal most
        answer = client.get(path)
        if answer.status_code == 202:
            answer = poll(client, answer.headers["location"])
        assert answer.text == "asked"
        if not n % 5:
            with lock:
                most = max(most, made.clients())

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, range(REQUESTS)))
    return most


@pytest.mark.parametrize("budget", [0, 0.05, 60])
def test_clients_that_leave_take_their_connections_with_them(
    server: str, made: Database, tmp_path: Path, budget: float
) -> None:
    with project(server, made, tmp_path / "s.db", BUDGET=budget) as (process, client):
        for _ in range(AT_ONCE):
            with socket.create_connection(("127.0.0.1", process.port)) as leaving:
                leaving.sendall(b"GET /ask/slowly HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        until(lambda: made.clients() == 0)
        answer = client.get("/ask")
        assert answer.status_code in (200, 202)
        until(lambda: made.clients() == 0)
