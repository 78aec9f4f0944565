"""The Django example: exports through the page and through the API, on WSGI and ASGI servers."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import openpyxl
import pytest

from tests.examples.running import EXAMPLES, SLOW, commands, documented, prepare, serve
from tests.support.browser import PROGRAMS, Browser, is_installed
from tests.support.polling import poll
from tests.support.processes import ServerProcess

NAME = "django_project/manage.py"
ORDERS = "40000"  # a spreadsheet of so many takes some seconds on any machine
PRODUCT = "wind"
COLUMNS = ["order", "placed", "customer", "product", "quantity", "price", "total"]
SERVERS = {
    "gunicorn": commands(NAME)[-1],
    "uvicorn": documented(NAME, "python -m uvicorn shop.asgi:application"),
}

RUNSERVER = documented(NAME, "python manage.py runserver")

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("project")
    prepare(NAME, directory, **{"100000": ORDERS})
    return directory


@pytest.fixture(scope="module", params=SERVERS)
def server(project: Path, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with serve(SERVERS[request.param], project) as running:
        yield running


def manage(project: Path, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", "manage.py", *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.fixture(scope="module")
def tokens(project: Path) -> dict[str, str]:
    return {user: manage(project, "token", user) for user in ("ada", "bob")}


def with_token(server: ServerProcess, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=server.url, headers=headers, timeout=SLOW)


@pytest.fixture
def ada(server: ServerProcess, tokens: dict[str, str]) -> Iterator[httpx.Client]:
    with with_token(server, tokens["ada"]) as client:
        yield client


@pytest.fixture
def bob(server: ServerProcess, tokens: dict[str, str]) -> Iterator[httpx.Client]:
    with with_token(server, tokens["bob"]) as client:
        yield client


@pytest.fixture
def visitor(server: ServerProcess) -> Iterator[httpx.Client]:
    """A browser without JavaScript, logged in as ada."""
    with httpx.Client(base_url=server.url, timeout=SLOW) as client:
        client.get("/login")
        done = client.post(
            "/login", data=forged({"username": "ada", "password": "umbrella"}, client)
        )
        assert (done.status_code, done.headers["location"]) == (302, "/")
        yield client


def forged(fields: dict[str, str], client: httpx.Client) -> dict[str, str]:
    """Add to a form what keeps other sites from sending it."""
    return fields | {"csrfmiddlewaretoken": client.cookies["csrftoken"]}


def orders(project: Path, product: str = "%") -> list[list[Any]]:
    """Return the rows that an export has to have; prices in cents."""
    query = (
        "SELECT id, substr(placed, 1, 16), customer, product, quantity, round(price * 100)"
        "FROM shop_order WHERE product LIKE ? ORDER BY id"
    )
    with closing(sqlite3.connect(project / "db.sqlite3")) as database:
        found = database.execute(query, (product,)).fetchall()
    return [[*row[:5], int(row[5]), int(row[5]) * row[4]] for row in found]


def rows_of_csv(content: bytes) -> list[list[Any]]:
    head, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    assert head == COLUMNS
    return [[int(n), *texts, int(q), cents(p), cents(t)] for n, *texts, q, p, t in rows]


def rows_of_xlsx(content: bytes) -> list[list[Any]]:
    workbook = openpyxl.load_workbook(io.BytesIO(content), read_only=True)
    head, *rows = workbook["orders"].iter_rows(values_only=True)
    workbook.close()
    assert list(head) == COLUMNS
    return [[*row[:5], cents(row[5]), cents(row[6])] for row in rows]


def cents(amount: str | float) -> int:
    return round(float(amount) * 100)


def status_of(client: httpx.Client, accepted: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = client.get(accepted.headers["operation-location"]).json()
    return found


def test_checks_are_silent_and_migrations_complete(project: Path) -> None:
    assert manage(project, "check") == "System check identified no issues (0 silenced)."
    assert manage(project, "makemigrations", "--check") == "No changes detected"


def test_the_api_answers_all_orders_as_csv(ada: httpx.Client, project: Path) -> None:
    accepted = ada.post("/api/exports", json={"format": "csv"})
    assert accepted.status_code == 202
    response = poll(ada, accepted.headers["location"], timeout=SLOW)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/csv")
    assert response.headers["content-disposition"] == 'attachment; filename="orders.csv"'
    rows = rows_of_csv(response.content)
    assert len(rows) == int(ORDERS)
    assert rows == orders(project)


def test_a_session_answers_a_spreadsheet_of_one_product(
    visitor: httpx.Client, project: Path
) -> None:
    wanted = {"format": "xlsx", "product": PRODUCT}
    accepted = visitor.post("/exports", data=forged(wanted, visitor))
    assert accepted.status_code == 202
    response = poll(visitor, accepted.json()["links"]["response"], timeout=SLOW)
    assert response.status_code == 200
    rows = rows_of_xlsx(response.content)
    assert rows
    assert rows == orders(project, PRODUCT)


def test_the_development_server_does_it_too(project: Path, tokens: dict[str, str]) -> None:
    with serve(RUNSERVER, project) as server, with_token(server, tokens["ada"]) as ada:
        accepted = ada.post("/api/exports", json={"format": "csv", "product": PRODUCT})
        assert accepted.status_code == 202
        response = poll(ada, accepted.headers["location"], timeout=SLOW)
    assert rows_of_csv(response.content) == orders(project, PRODUCT)


def test_cancelling_stops_the_work_and_leaves_no_file(ada: httpx.Client, project: Path) -> None:
    accepted = ada.post("/api/exports", json={"format": "xlsx"})
    deadline = time.monotonic() + SLOW
    while "progress" not in status_of(ada, accepted):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert ada.delete(accepted.headers["location"]).status_code == 202
    response = poll(ada, accepted.headers["location"], timeout=SLOW)
    assert (response.status_code, response.json()["code"]) == (410, "canceled")
    found = status_of(ada, accepted)
    assert found["status"] == "canceled"
    assert 0 < found["progress"]["completed"] < found["progress"]["total"] == int(ORDERS)
    assert list((project / "temporary").glob("openpyxl*")) == []


def test_an_operation_belongs_to_the_user_who_started_it(
    ada: httpx.Client, bob: httpx.Client, visitor: httpx.Client
) -> None:
    accepted = ada.post("/api/exports", json={"format": "csv", "product": PRODUCT})
    location = accepted.headers["location"]
    for url in (location, accepted.headers["operation-location"]):
        assert bob.get(url).status_code == 404
    assert bob.delete(location).status_code == 404
    assert poll(ada, location, timeout=SLOW).status_code == 200
    assert visitor.get(location).status_code == 200  # ada again, with a session
    stranger = httpx.get(location, timeout=SLOW)
    assert (stranger.status_code, stranger.headers["location"].partition("?")[0]) == (302, "/login")


def test_requests_are_refused_before_any_202(
    ada: httpx.Client, visitor: httpx.Client, server: ServerProcess
) -> None:
    assert ada.post("/api/exports", json={"format": "pdf"}).status_code == 400
    assert visitor.post("/exports", data=forged({}, visitor)).status_code == 400
    assert visitor.post("/exports", data={"format": "csv"}).status_code == 403  # CSRF
    assert visitor.post("/api/exports", json={"format": "csv"}).status_code == 401
    headers = {"Authorization": "Bearer 1:2:3"}
    wrong = httpx.post(f"{server.url}/api/exports", headers=headers, timeout=SLOW)
    assert wrong.status_code == 401


FOLLOWING = """
const [cookie, url, fields] = JSON.parse(process.argv.at(-1));
const request = globalThis.fetch;
globalThis.fetch = (to, how) => request(to, { ...how, headers: { cookie } });
const operation = await start(url, new URLSearchParams(fields));
if (fields.format === "xlsx") await cancel(operation);
const said = [];
const last = await follow(operation, (found) => {
  said.push(describe(found));
});
console.log(JSON.stringify([operation.response, last.status, said]));
"""


def follow(visitor: httpx.Client, **fields: str) -> tuple[str, str, list[str]]:
    """Have the page's functions do an export; return R, the last status and what was shown."""
    script = (EXAMPLES / "django_project/shop/templates/shop/export.js").read_text()
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    arguments = json.dumps(
        [cookie, str(visitor.base_url.join("/exports")), forged(fields, visitor)]
    )
    command = ["node", "--input-type=module", "--eval", script + FOLLOWING, arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SLOW, check=False)
    assert done.returncode == 0, done.stderr
    location, status, said = json.loads(done.stdout)
    return location, status, said


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")


@needs_node
def test_the_script_of_the_page_follows_an_export(visitor: httpx.Client, project: Path) -> None:
    location, status, said = follow(visitor, format="csv", product=PRODUCT)
    assert status == "succeeded"
    assert re.fullmatch(r"succeeded(: (\d+) of \2 orders)?", said[-1])
    assert rows_of_csv(visitor.get(location).content) == orders(project, PRODUCT)


@needs_node
def test_the_script_of_the_page_cancels_an_export(visitor: httpx.Client) -> None:
    _, status, said = follow(visitor, format="xlsx", product="")
    assert status == "canceled"
    assert said[-1].startswith("canceled")


# --- in a browser -------------------------------------------------------------------------------


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


@pytest.fixture
def browser(downloads: Path) -> Iterator[Browser]:
    if not is_installed() and os.environ.get("CI") != "true":
        pytest.skip(f"there is no {' or no '.join(PROGRAMS)} here")
    # `ServerProcess` starts Python programs, and this is none.
    execute = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
    command = ["-c", execute, "chromedriver", "--port={port}"]
    with ServerProcess(command) as driver, Browser(driver.url, downloads) as started:
        yield started


def log_in(browser: Browser, url: str, name: str) -> None:
    browser.open(url)
    browser.write("#id_username", name)
    browser.write("#id_password", "umbrella")
    browser.click("button")
    browser.wait_for("h1", "orders")


def saved(directory: Path, name: str) -> bytes:
    """Return what the browser has saved; it writes under another name until it is complete."""
    deadline = time.monotonic() + SLOW
    while not (directory / name).exists():
        assert time.monotonic() < deadline, list(directory.iterdir())
        time.sleep(0.05)
    return (directory / name).read_bytes()


@pytest.mark.parametrize("server", ["gunicorn"], indirect=True)  # the other serves the same page
def test_a_browser_exports_downloads_and_cancels(
    browser: Browser, server: ServerProcess, project: Path, downloads: Path
) -> None:
    log_in(browser, server.url, "ada")
    browser.click("button[value=csv]")
    browser.wait_for("#download", "Download")
    assert not browser.is_shown("#cancel")
    browser.click("#download")
    assert rows_of_csv(saved(downloads, "orders.csv")) == orders(project)
    browser.click("button[value=xlsx]")
    browser.wait_for("output", f"of {ORDERS} orders")
    browser.click("#cancel")
    assert browser.wait_for("output", "canceled", "succeeded").startswith("canceled")
    assert not browser.is_shown("#download")
