"""What all examples have in common, and those for Starlette and FastAPI polled through.

The others have modules of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.examples.running import EXAMPLES, SLOW, asked, docstring, start
from tests.support.polling import poll

DESCRIBED = [
    *("starlette_app.py", "fastapi_app.py", "flask_app.py", "django_project/manage.py"),
    *("celery_offload/web.py", "django_offload/manage.py", "nightly_batch/app.py"),
]


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


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_example_says_what_it_requires_and_what_to_expect(name: str) -> None:
    headings = re.findall(r"^(Requires|To install|To run|What to expect)\b", docstring(name), re.M)
    assert headings == ["Requires", "To install", "To run", "What to expect"]
    assert re.search("^    curl -i .*http://127.0.0.1:8000/", docstring(name), re.MULTILINE)


def test_every_example_is_tested() -> None:
    paths = [path for path in EXAMPLES.iterdir() if not path.name.startswith(("_", "."))]
    top = {path.name for path in paths if path.suffix in ("", ".py")}  # and no database
    assert top == {name.partition("/")[0] for name in DESCRIBED}


@pytest.mark.server
def test_starlette_answers_few_digits_at_once(starlette_app: httpx.Client) -> None:
    response = asked(lambda: starlette_app.get("/pi/10"), 200)
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
