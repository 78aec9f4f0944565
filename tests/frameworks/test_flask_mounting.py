"""The status monitor as a Flask blueprint, behind the application's own authentication."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import unquote

import pytest
from flask import Flask, Response, abort, request
from flask.testing import FlaskClient

from raincheck import ConfigurationError
from raincheck.flask import monitor_blueprint, status_url
from raincheck.wsgi import RaincheckMiddleware

BASE = "http://testserver"
BADGE = {"authorization": "good"}


def require_badge() -> None:
    if request.headers.get("authorization") != "good":
        abort(401)


class Bench:
    """An application whose only handler waits to be released."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.app = Flask(__name__)
        self.app.config["PROPAGATE_EXCEPTIONS"] = True
        self.app.add_url_rule("/report", view_func=self.report)
        options: dict[str, Any] = {"store": "memory:", "budget": 0, "include": ["/report"]}
        self.app.wsgi_app = RaincheckMiddleware(  # type: ignore[method-assign]
            self.app.wsgi_app, status_url=status_url(self.app), **options
        )

    def report(self) -> Response:
        self.go.wait(30)
        return Response(b"the report", headers=[("x-twice", "1"), ("x-twice", "2")])

    def mount(self) -> FlaskClient:
        monitor = monitor_blueprint()
        monitor.before_request(require_badge)
        self.app.register_blueprint(monitor, url_prefix="/pending")
        return self.app.test_client()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def until_done(client: FlaskClient, path: str, base: str = BASE) -> Any:
    while (response := client.get(path, base_url=base, headers=BADGE)).status_code == 202:
        pass
    return response


def test_links_follow_the_blueprint(bench: Bench) -> None:
    client = bench.mount()
    accepted = client.get("/report", base_url=BASE)
    bench.go.set()
    assert accepted.status_code == 202
    assert accepted.headers["location"].startswith(f"{BASE}/pending/")
    path = accepted.headers["location"].removeprefix(BASE)
    assert client.get(f"{path}/status", headers=BADGE).json["id"] == accepted.json["id"]  # type: ignore[index]
    done = until_done(client, path)
    assert (done.data, done.headers.getlist("x-twice")) == (b"the report", ["1", "2"])
    assert client.get(f"{path}/result", headers=BADGE).data == b"the report"
    assert client.delete(path, headers=BADGE).status_code == 204
    assert client.get(path, headers=BADGE).status_code == 410


def test_links_follow_the_blueprint_below_a_prefix_that_the_server_strips(bench: Bench) -> None:
    client, base = bench.mount(), f"{BASE}/api"
    accepted = client.get("/report", base_url=base)
    bench.go.set()
    assert accepted.headers["location"].startswith(f"{base}/pending/")
    path = accepted.headers["location"].removeprefix(base)
    assert until_done(client, path, base).data == b"the report"


@pytest.mark.parametrize("root", ["/caf\xe9", "/a\r\nset-cookie: pwned=1", "/%41", "/100%"])
def test_links_follow_the_blueprint_whatever_the_prefix(bench: Bench, root: str) -> None:
    client, given = bench.mount(), {"SCRIPT_NAME": root.encode().decode("latin-1")}
    accepted = client.get("/report", environ_overrides=given)
    bench.go.set()
    location = accepted.headers["location"]
    assert location.isprintable()
    below = f"http://localhost{root}"
    assert unquote(location).startswith(f"{below}/pending/")
    path = unquote(location).removeprefix(below)
    headers = {"headers": BADGE, "environ_overrides": given}
    while (done := client.get(path, **headers)).status_code == 202:
        pass
    assert done.data == b"the report"


def test_the_application_guards_the_monitor(bench: Bench) -> None:
    client = bench.mount()
    path = client.get("/report").headers["location"].removeprefix("http://localhost")
    bench.go.set()
    assert client.get(path).status_code == 401
    assert until_done(client, path).status_code == 200


def test_the_monitor_knows_what_to_say_to_a_wrong_method(bench: Bench) -> None:
    client = bench.mount()
    refused = client.post("/pending/unknown", headers=BADGE)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, DELETE")


def test_nothing_is_intercepted(bench: Bench) -> None:
    client = bench.mount()
    missing = client.get("/operations/unknown")
    assert (missing.status_code, missing.content_type) == (404, "text/html; charset=utf-8")


def test_a_blueprint_that_is_not_registered_is_said(bench: Bench) -> None:
    with pytest.raises(ConfigurationError, match="register monitor_blueprint"):
        bench.app.test_client().get("/report")


def test_a_blueprint_without_the_middleware_is_said() -> None:
    app = Flask(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.register_blueprint(monitor_blueprint(), url_prefix="/pending")
    with pytest.raises(ConfigurationError, match="no RaincheckMiddleware"):
        app.test_client().get("/pending/unknown")
