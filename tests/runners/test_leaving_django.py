"""A request whose handler runs elsewhere leaves Django quietly, and rolls back each transaction."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator, no-any-unimported"

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.asgi import get_asgi_application
from django.core.signals import got_request_exception, request_finished
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.test import override_settings

from tests.runners import django_rest_views, django_views
from tests.runners.django_rest_views import QUIET, WITHOUT_TRANSACTION
from tests.runners.django_views import DATABASE, steps
from tests.runners.handing import ask_asgi, ask_wsgi, loud

pytestmark = pytest.mark.framework

AROUND, HANDING_OVER = f"{django_views.__name__}.Around", f"{django_views.__name__}.HandingOver"
loud_rest_handler = loud(steps)
WAYS = pytest.mark.parametrize("way", ["wsgi", "asgi"])


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a database beside the default one, with a transaction for each request."""
    file = tmp_path / "database"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE rows (text)")
    setting = {"ENGINE": "django.db.backends.sqlite3", "NAME": file, "ATOMIC_REQUESTS": True}
    made = connections.configure_settings({"default": {}, DATABASE: setting})
    monkeypatch.setitem(connections.settings, DATABASE, made[DATABASE])
    yield file
    connections[DATABASE].close()
    del connections[DATABASE]  # it would go on with this file


@pytest.fixture(autouse=True)
def heard(database: Path) -> Iterator[list[str]]:
    """Return what signals say, with these views for URLs."""
    found: list[str] = []

    def fail(sender: Any, **more: Any) -> None:
        found.append("got_request_exception")

    def finish(sender: Any, **more: Any) -> None:
        found.append("request_finished")

    steps.clear()
    got_request_exception.connect(fail)
    request_finished.connect(finish)
    rest = {"EXCEPTION_HANDLER": f"{__name__}.loud_rest_handler"}
    with override_settings(ROOT_URLCONF=django_rest_views.__name__, REST_FRAMEWORK=rest):
        yield found
    got_request_exception.disconnect(fail)
    request_finished.disconnect(finish)


def ask(way: str, path: str, debug: bool = False) -> httpx.Response:
    """Ask a project that has raincheck's middleware innermost."""
    with override_settings(MIDDLEWARE=[AROUND, HANDING_OVER], DEBUG=debug):
        if way == "wsgi":
            return ask_wsgi(get_wsgi_application(), f"/{path}")
        return ask_asgi(get_asgi_application(), f"/{path}")


def rows(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM rows")]


@WAYS
@pytest.mark.parametrize("path", QUIET)
def test_a_view_is_left_quietly_and_all_it_wrote_is_rolled_back(
    way: str, path: str, database: Path, heard: list[str], logged: list[str]
) -> None:
    response = ask(way, path)
    assert (response.status_code, response.content) == (202, b"")
    assert steps == ["middleware: 202"]
    assert rows(database) == []
    assert heard == ["request_finished"]
    assert logged == []


@WAYS
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("path", WITHOUT_TRANSACTION)
def test_an_async_operation_of_ninja_is_left_quietly(
    way: str, path: str, debug: bool, heard: list[str], logged: list[str]
) -> None:
    connections.settings[DATABASE]["ATOMIC_REQUESTS"] = False
    assert ask(way, path, debug).status_code == 202
    assert (steps, heard, logged) == (["middleware: 202"], ["request_finished"], [])


@pytest.mark.parametrize("path", QUIET)
def test_a_view_is_left_quietly_with_debug(
    path: str, heard: list[str], database: Path, logged: list[str]
) -> None:
    assert ask("wsgi", path, debug=True).status_code == 202
    assert (steps, rows(database)) == (["middleware: 202"], [])
    assert (heard, logged) == (["request_finished"], [])


@WAYS
@pytest.mark.parametrize(("path", "status"), [("not-atomic", 202), ("commits", 200)])
def test_what_is_in_no_transaction_or_in_one_that_ends_well_stays_written(
    way: str, path: str, status: int, database: Path
) -> None:
    assert ask(way, path).status_code == status
    assert rows(database) == ["before"]


@WAYS
def test_code_that_catches_all_around_a_handler_sees_the_exception_and_answers_itself(
    way: str, heard: list[str], logged: list[str]
) -> None:
    assert ask(way, "catches").status_code == 500
    caught = "caught: this request is handed over to a worker, so its handler does not run here"
    assert steps == [caught, "middleware: 500"]
    assert logged == ["django.request: Internal Server Error: /catches"]
    assert heard == ["request_finished"]


def test_rest_framework_handles_what_else_is_raised_by_a_view_that_was_left() -> None:
    assert ask("wsgi", "rest/refuses").text == "handled: PermissionDenied"
    assert steps[0] == "caught: True"


@WAYS
def test_other_exceptions_stay_what_they_are(way: str, heard: list[str], logged: list[str]) -> None:
    assert ask(way, "fails").status_code == 500
    assert heard == ["got_request_exception", "request_finished"]
    assert logged == ["django.request: Internal Server Error: /fails"]
