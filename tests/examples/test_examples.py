"""Every example, started as its docstring says, and polled through."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.polling import poll
from tests.support.processes import ROOT, ServerProcess

EXAMPLES = ROOT / "examples"
SLOW = 90.0  # seconds
DESCRIBED = ["starlette_app.py", "fastapi_app.py", "django_asgi/manage.py"]


def docstring(name: str) -> str:
    return ast.get_docstring(ast.parse((EXAMPLES / name).read_text())) or ""


def commands(name: str) -> list[list[str]]:
    """Return the lines below "To run", without the interpreter."""
    found = re.search(r"^To run.*:\n((?:    .+\n)+)", docstring(name), re.MULTILINE)
    assert found is not None
    return [line.removeprefix("python ").split() for line in textwrap.dedent(found[1]).splitlines()]


def start(name: str, directory: Path) -> ServerProcess:
    """Do what the docstring says, in a copy of the example."""
    shutil.copytree((EXAMPLES / name).parent, directory, dirs_exist_ok=True)
    *preparations, serve = commands(name)
    for command in preparations:
        subprocess.run([sys.executable, *command], cwd=directory, check=True, capture_output=True)
    environment = {"XDG_STATE_HOME": str(directory / "state"), "RAINCHECK_STORE": ""}
    return ServerProcess([*serve, "--port", "{port}"], cwd=directory, env=environment)


def serve(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    server = start(name, tmp_path_factory.mktemp("example"))
    with server, httpx.Client(base_url=server.url, timeout=SLOW) as client:
        yield client


@pytest.fixture(scope="module")
def starlette_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    yield from serve("starlette_app.py", tmp_path_factory)


@pytest.fixture(scope="module")
def fastapi_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    yield from serve("fastapi_app.py", tmp_path_factory)


@pytest.fixture(scope="module")
def django_asgi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    yield from serve("django_asgi/manage.py", tmp_path_factory)


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_example_says_what_it_requires_and_what_to_expect(name: str) -> None:
    headings = re.findall(r"^(Requires|To install|To run|What to expect)\b", docstring(name), re.M)
    assert headings == ["Requires", "To install", "To run", "What to expect"]
    assert "curl -i http://127.0.0.1:8000/" in docstring(name)


def test_every_example_is_tested() -> None:
    top = {path.name for path in EXAMPLES.iterdir() if not path.name.startswith(("_", "."))}
    assert top == {name.partition("/")[0] for name in DESCRIBED}


@pytest.mark.server
def test_starlette_answers_few_digits_at_once(starlette_app: httpx.Client) -> None:
    response = starlette_app.get("/pi/10")
    assert (response.status_code, response.text) == (200, "3141592653\n")


@pytest.mark.server
def test_starlette_answers_many_digits_through_the_location(starlette_app: httpx.Client) -> None:
    accepted = starlette_app.get("/pi/5000")
    assert accepted.status_code == 202
    response = poll(starlette_app, accepted.headers["location"], timeout=SLOW)
    assert response.status_code == 200
    assert response.text.startswith("31415926535897932384626433832795028841971693993751")
    assert len(response.text) == 5001


@pytest.mark.server
def test_starlette_stops_counting_when_it_is_cancelled(starlette_app: httpx.Client) -> None:
    accepted = starlette_app.get("/pi/1000000")
    assert starlette_app.delete(accepted.headers["location"]).status_code == 202
    assert poll(starlette_app, accepted.headers["location"], timeout=SLOW).status_code == 410


@pytest.mark.server
def test_fastapi_answers_a_report_to_the_user_who_ordered_it(fastapi_app: httpx.Client) -> None:
    ada, bob = {"X-User": "ada"}, {"X-User": "bob"}
    accepted = fastapi_app.post("/reports", headers=ada, json={"title": "Rain", "pages": 3})
    assert accepted.status_code == 202
    location = accepted.headers["location"]
    assert fastapi_app.get(location, headers=bob).status_code == 404
    fastapi_app.headers.update(ada)
    response = poll(fastapi_app, location)
    del fastapi_app.headers["X-User"]
    assert response.status_code == 200
    assert response.json()["pages"] == ["Rain, page 1", "Rain, page 2", "Rain, page 3"]


@pytest.mark.server
@pytest.mark.parametrize(
    ("headers", "pages", "status"), [({"X-User": "ada"}, 0, 422), ({}, 40, 401)]
)
def test_fastapi_validates_and_authenticates_before_any_202(
    fastapi_app: httpx.Client, headers: dict[str, str], pages: int, status: int
) -> None:
    order = {"title": "Rain", "pages": pages}
    response = fastapi_app.post("/reports", headers=headers, json=order)
    assert response.status_code == status


@pytest.mark.server
def test_django_answers_the_front_page_at_once(django_asgi: httpx.Client) -> None:
    response = django_asgi.get("/")
    assert (response.status_code, response.json()["sales"]) == (200, 8 * 365)


@pytest.mark.server
def test_django_answers_the_report_through_the_location(django_asgi: httpx.Client) -> None:
    accepted = django_asgi.get("/report", params={"product": "rain"})
    assert accepted.status_code == 202
    response = poll(django_asgi, accepted.headers["location"], timeout=SLOW)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/csv"
    head, first, *rest = response.text.splitlines()
    assert head == "product,day,average of 30 days"
    assert first.startswith("rain,2025-01-01,")
    assert len(rest) == 364


@pytest.mark.server
def test_django_checks_before_any_202(django_asgi: httpx.Client) -> None:
    assert django_asgi.get("/report", params={"product": "snow"}).status_code == 404
