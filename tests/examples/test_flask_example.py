"""The Flask example: started as its docstring says, asked with its own commands, polled through."""

from __future__ import annotations

import csv
import io
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.examples.running import SLOW, asked, commands, docstring, documented, prepare, serve
from tests.support.polling import poll
from tests.support.processes import ServerProcess

NAME = "flask_app.py"
STATIONS = 12
DAYS = 20 * 365
WAITRESS = "python -m waitress --listen=127.0.0.1:8000 flask_app:app"

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flask")
    prepare(NAME, path)
    return path


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[ServerProcess]:
    with serve(commands(NAME)[-1], directory) as running:
        yield running


def client_of(server: ServerProcess, user: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer token-of-{user}"}
    return httpx.Client(base_url=server.url, headers=headers, timeout=SLOW)


@pytest.fixture
def ada(server: ServerProcess) -> Iterator[httpx.Client]:
    with client_of(server, "ada") as client:
        yield client


def select(directory: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(directory / "rain.db")) as database:
        return database.execute(query).fetchall()


def status_of(client: httpx.Client, accepted: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = client.get(accepted.headers["operation-location"]).json()
    return found


COMMANDS = [
    (line.strip(), status)
    for line, status in zip(
        [it for it in docstring(NAME).splitlines() if "curl" in it and "<" not in it],
        [200, 401, 202, 202, 404, 202, 200, 202],
        strict=True,
    )
]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
@pytest.mark.parametrize(("line", "status"), COMMANDS)
def test_a_documented_command_is_answered_as_it_says(
    server: ServerProcess, tmp_path: Path, line: str, status: int
) -> None:
    line = line.replace("http://127.0.0.1:8000", server.url) + " -s -w '%{stderr}%{http_code}'"
    for _ in range(9):
        done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, timeout=SLOW)
        if (status, done.stderr) != (200, b"202"):  # what is fast may outlast its budget under load
            break
    assert done.stderr.decode() == str(status)


def test_both_workers_find_the_readings_of_all_stations(ada: httpx.Client, directory: Path) -> None:
    found = select(directory, "SELECT station, count(*) FROM reading GROUP BY station")
    stations = asked(lambda: ada.get("/stations"), 200).json()
    assert [(station, DAYS) for station in stations] == found


def test_an_unmarked_view_that_takes_long_is_promoted(ada: httpx.Client) -> None:
    accepted = ada.get("/similarities")
    assert accepted.status_code == 202
    response = poll(ada, accepted.headers["location"], timeout=SLOW)
    assert response.status_code == 200
    found = response.json()
    assert len(found) == STATIONS * (STATIONS - 1) / 2
    assert found["aberdeen bergen"] < 0.1 < 0.4 < found["leeds porto"] < 1


def test_cancelling_stops_the_work(ada: httpx.Client) -> None:
    accepted = ada.get("/similarities")
    assert ada.delete(accepted.headers["location"]).status_code == 202
    response = poll(ada, accepted.headers["location"], timeout=SLOW)
    assert (response.status_code, response.json()["code"]) == (410, "canceled")
    progress = status_of(ada, accepted)["progress"]
    assert progress["completed"] < progress["total"] - 1


def test_a_report_says_what_the_database_has(ada: httpx.Client, directory: Path) -> None:
    accepted = ada.post("/stations/bergen/reports")
    assert accepted.status_code == 202
    response = poll(ada, accepted.headers["location"])
    assert response.status_code == 200
    report = response.json()
    assert list(report) == [str(year) for year in range(2005, 2025)]
    day, wettest = report["2010"]["wettest"]
    window = f"station = 'bergen' AND day BETWEEN '{day}' AND date('{day}', '+29 days')"
    [(total,)] = select(directory, f"SELECT sum(millimetres) FROM reading WHERE {window}")  # noqa: S608
    assert wettest == pytest.approx(total)


def test_a_report_that_fails_says_so_in_the_end(ada: httpx.Client) -> None:
    accepted = ada.post("/stations/tromso/reports")
    assert accepted.status_code == 202
    response = poll(ada, accepted.headers["location"])
    assert response.status_code == 500
    assert response.json() == {"error": "there is no negative rain"}
    assert response.headers["operation-status"] == "failed"
    assert status_of(ada, accepted)["error"]["code"] == "http_500"


def test_an_operation_belongs_to_the_user_who_started_it(
    ada: httpx.Client, server: ServerProcess
) -> None:
    location = ada.post("/stations/bergen/reports").headers["location"]
    with client_of(server, "bob") as bob:
        assert bob.get(location).status_code == 404
        assert bob.delete(location).status_code == 404
    assert httpx.get(location, timeout=SLOW).status_code == 404
    assert poll(ada, location).status_code == 200


@pytest.mark.parametrize("preference", ["", "respond-async"])
def test_the_readings_are_the_same_streamed_and_deferred(
    ada: httpx.Client, directory: Path, preference: str
) -> None:
    expected = 202 if preference else 200
    response = asked(lambda: ada.get("/readings.csv", headers={"Prefer": preference}), expected)
    assert response.status_code == expected
    if preference:
        response = poll(ada, response.headers["location"], timeout=SLOW)
        assert response.headers["content-length"] == str(len(response.content))
    else:
        assert response.headers["transfer-encoding"] == "chunked"
    head, *rows = csv.reader(io.StringIO(response.text, newline=""))
    assert head == ["station", "day", "millimetres"]
    kept = select(directory, "SELECT * FROM reading ORDER BY station, day")
    assert [(station, day, float(amount)) for station, day, amount in rows] == kept


def test_waitress_serves_it_as_well(directory: Path) -> None:
    with serve(documented(NAME, WAITRESS), directory) as server, client_of(server, "ada") as ada:
        accepted = ada.post("/stations/bergen/reports")
        assert accepted.status_code == 202
        assert poll(ada, accepted.headers["location"]).status_code == 200
