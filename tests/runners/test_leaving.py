"""A request whose handler runs elsewhere leaves each framework quietly."""

from __future__ import annotations

import httpx
import pytest

from tests.runners import asgi_apps, wsgi_apps
from tests.runners.handing import Steps, ask_asgi, ask_wsgi

ASGI = [pytest.param(*case, id="".join(case)) for case in asgi_apps.EXPECTED]
WSGI = [pytest.param(*case, id="".join(case)) for case in wsgi_apps.EXPECTED]
pytestmark = pytest.mark.framework


@pytest.mark.parametrize(("name", "path"), ASGI)
def test_an_asgi_handler_is_left_quietly_and_all_hooks_run(
    name: str, path: str, logged: list[str]
) -> None:
    steps: Steps = []
    app = asgi_apps.APPLICATIONS[name](steps)
    for _ in range(2):  # what the first has registered serves the second
        steps.clear()
        response = ask_asgi(app, path)
        assert (response.status_code, steps) == (202, asgi_apps.EXPECTED[name, path])
    assert logged == []


@pytest.mark.parametrize(("name", "path"), WSGI)
def test_a_wsgi_handler_is_left_quietly_and_all_hooks_run(
    name: str, path: str, logged: list[str]
) -> None:
    steps: Steps = []
    app = wsgi_apps.APPLICATIONS[name](steps)
    for _ in range(2):
        steps.clear()
        response: httpx.Response = ask_wsgi(app, path)
        assert (response.status_code, steps) == (202, wsgi_apps.EXPECTED[name, path])
    assert logged == []
