"""The Flask extension, beside those that people have in the same application."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import flask_login
import pytest
from cachelib import FileSystemCache
from flask import Blueprint, Flask, current_app, g, jsonify, request, session
from flask.testing import FlaskClient
from flask_compress import Compress
from flask_cors import CORS
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_session import Session
from flask_talisman import Talisman
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import TestResponse

from raincheck import ConfigurationError
from raincheck.flask import Raincheck, monitor_blueprint, status_url

PAGE = "https://app.example.org"
FROM_PAGE = {"origin": PAGE}
PREFLIGHT = FROM_PAGE | {
    "access-control-request-method": "GET",
    "access-control-request-headers": "authorization",
}
ALLOWED = "access-control-allow-origin"


class Shop:
    """An application whose report is ready when it is told so."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.app = Flask(__name__)
        self.app.config.update(
            SECRET_KEY="none",  # noqa: S106
            RAINCHECK_STORE="memory:",
            RAINCHECK_BUDGETS={"/report": 0},
        )
        self.app.add_url_rule("/report", view_func=self.report, methods=["GET", "POST"])
        self.app.add_url_rule("/fast", view_func=lambda: "fast")

    def report(self) -> Any:
        assert self.ready.wait(20)
        return jsonify(rows=list(range(1000)))

    def client(self) -> FlaskClient:
        return self.app.test_client()


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.ready.set()


def done(client: FlaskClient, url: str, **how: Any) -> TestResponse:
    """Poll until the response is there."""
    deadline = time.monotonic() + 20
    while (response := client.get(url, **how)).status_code == 202:
        assert time.monotonic() < deadline
    return response


def values(response: TestResponse, name: str) -> list[str]:
    return response.headers.getlist(name)


# --- the idiom ---------------------------------------------------------------------------------


def test_a_factory_gives_the_extension_its_application_later(shop: Shop) -> None:
    raincheck = Raincheck(budgets={"/report": 0})
    raincheck.init_app(shop.app)
    client = shop.client()
    assert client.get("/fast").text == "fast"
    accepted = client.get("/report")
    assert accepted.status_code == 202
    shop.ready.set()
    assert done(client, accepted.location).json == {"rows": list(range(1000))}


def test_options_are_configured_as_those_of_other_extensions(shop: Shop) -> None:
    shop.app.config["RAINCHECK_PREFIX"] = "/pending"
    Raincheck(shop.app)
    assert "/pending/" in shop.client().get("/report").location


def test_what_is_said_in_the_code_wins_over_the_configuration(shop: Shop) -> None:
    shop.app.config["RAINCHECK_PREFIX"] = "/pending"
    Raincheck(shop.app, prefix="/later")
    assert "/later/" in shop.client().get("/report").location


def test_a_misspelt_configuration_is_refused(shop: Shop) -> None:
    shop.app.config["RAINCHECK_BUGDET"] = 1
    with pytest.raises(ConfigurationError, match="budget"):
        Raincheck(shop.app)


def test_an_application_has_it_once(shop: Shop) -> None:
    raincheck = Raincheck(shop.app)
    with pytest.raises(ConfigurationError, match="once"):
        raincheck.init_app(shop.app)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_proxy_is_believed_wherever_proxyfix_was_put(shop: Shop, *, is_first: bool) -> None:
    def fix() -> None:
        fixed = ProxyFix(shop.app.wsgi_app, x_host=1, x_proto=1)
        shop.app.wsgi_app = fixed  # type: ignore[method-assign]

    if is_first:
        fix()
    Raincheck(shop.app)
    if not is_first:
        fix()
    headers = {"x-forwarded-host": "shop.example.org", "x-forwarded-proto": "https"}
    accepted = shop.client().get("/report", headers=headers)
    assert accepted.location.startswith("https://shop.example.org/operations/")


# --- what the application does to each of its responses -------------------------------------------


def test_a_page_of_another_origin_reads_all_that_raincheck_answers(shop: Shop) -> None:
    CORS(shop.app, origins=[PAGE], supports_credentials=True)
    Raincheck(shop.app)
    client = shop.client()
    accepted = client.get("/report", headers=FROM_PAGE)
    running = client.get(accepted.location, headers=FROM_PAGE)
    status = client.get(f"{accepted.location}/status", headers=FROM_PAGE)
    unknown = client.get("/operations/none", headers=FROM_PAGE)
    refused = client.post("/report", headers=FROM_PAGE | {"idempotency-key": "not a key"})
    shop.ready.set()
    ended = done(client, accepted.location, headers=FROM_PAGE)
    answers = (accepted, running, status, unknown, refused, ended)
    assert [answer.status_code for answer in answers] == [202, 202, 200, 404, 400, 200]
    assert [values(answer, ALLOWED) for answer in answers] == [[PAGE]] * len(answers)


def test_a_preflight_of_a_poll_is_allowed_without_credentials(shop: Shop) -> None:
    CORS(shop.app, origins=[PAGE])
    Raincheck(shop.app, owner=lambda environ: environ.get("HTTP_AUTHORIZATION"))
    client = shop.client()
    accepted = client.get("/report", headers={"authorization": "ada"})
    asked = client.options(accepted.location, headers=PREFLIGHT)
    assert (asked.status_code, values(asked, ALLOWED)) == (200, [PAGE])
    assert "GET" in asked.headers["allow"]
    assert client.get(accepted.location).status_code == 404


def test_a_blueprint_s_polls_have_each_header_field_once(shop: Shop) -> None:
    CORS(shop.app, origins=[PAGE])
    shop.app.register_blueprint(monitor_blueprint(), url_prefix="/pending")
    Raincheck(shop.app, status_url=status_url(shop.app))
    client = shop.client()
    accepted = client.get("/report", headers=FROM_PAGE)
    assert "/pending/" in accepted.location
    shop.ready.set()
    for answer in (accepted, done(client, accepted.location, headers=FROM_PAGE)):
        assert values(answer, ALLOWED) == [PAGE]


@pytest.mark.parametrize("has_blueprint", [True, False])
def test_a_replay_is_the_recorded_one_whatever_compresses(
    shop: Shop, *, has_blueprint: bool
) -> None:
    Compress(shop.app)
    if has_blueprint:
        shop.app.register_blueprint(monitor_blueprint(), url_prefix="/pending")
        Raincheck(shop.app, status_url=status_url(shop.app))
    else:
        Raincheck(shop.app)
    client = shop.client()
    plain = client.get("/report").location
    packed = client.get("/report", headers={"accept-encoding": "gzip"}).location
    shop.ready.set()
    asked = {"accept-encoding": "gzip"}
    unpacked, gzipped = (done(client, url, headers=asked) for url in (plain, packed))
    assert unpacked.json == {"rows": list(range(1000))}
    assert "content-encoding" not in unpacked.headers
    assert gzipped.headers["content-encoding"] == "gzip"
    assert len(gzipped.data) == int(gzipped.headers["content-length"]) < len(unpacked.data)
    again = client.get(plain, headers=asked | {"if-none-match": unpacked.headers["etag"]})
    assert again.status_code == 304


def test_security_header_fields_are_on_a_202(shop: Shop) -> None:
    Talisman(shop.app, force_https=False)
    Raincheck(shop.app)
    accepted = shop.client().get("/report")
    assert accepted.headers["x-content-type-options"] == "nosniff"
    assert accepted.headers["cache-control"] == "no-store"


def test_a_function_that_fails_keeps_no_other_from_a_202_and_is_logged_once(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    CORS(shop.app, origins=[PAGE])
    shop.app.before_request(lambda: setattr(g, "begun", time.monotonic()))

    @shop.app.after_request
    def tell_time(response: Any) -> Any:
        response.headers["x-time"] = str(time.monotonic() - g.begun)
        return response

    Raincheck(shop.app)
    client = shop.client()
    accepted = client.get("/report", headers=FROM_PAGE)
    assert (accepted.status_code, values(accepted, ALLOWED)) == (202, [PAGE])
    shop.ready.set()
    assert "x-time" in done(client, accepted.location, headers=FROM_PAGE).headers
    assert caplog.text.count("failed for a response") == 1


def test_functions_of_a_blueprint_are_for_its_own_202(shop: Shop) -> None:
    blueprint = Blueprint("imports", __name__)
    blueprint.add_url_rule("/report", view_func=shop.report)

    @blueprint.after_request
    def tell(response: Any) -> Any:
        response.headers["x-imports"] = request.endpoint
        return response

    shop.app.register_blueprint(blueprint, url_prefix="/imports")
    Raincheck(shop.app, budget=0)
    client = shop.client()
    assert client.get("/imports/report").headers["x-imports"] == "imports.report"
    assert "x-imports" not in client.get("/report").headers


# --- users, sessions, limits ----------------------------------------------------------------------


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


def test_an_operation_is_its_user_s_by_flask_login(shop: Shop) -> None:
    manager = flask_login.LoginManager(shop.app)
    manager.user_loader(User)

    @shop.app.post("/login/<name>")
    def login(name: str) -> str:
        flask_login.login_user(User(name))
        return name

    Raincheck(shop.app, owner=lambda: flask_login.current_user.get_id())
    ada, bob = shop.client(), shop.client()
    ada.post("/login/ada")
    bob.post("/login/bob")
    accepted = ada.get("/report")
    shop.ready.set()
    assert done(ada, accepted.location).status_code == 200
    assert bob.get(accepted.location).status_code == 404
    assert shop.client().get(accepted.location).status_code == 404


def test_an_owner_that_may_take_the_environ_is_given_it(shop: Shop) -> None:
    Raincheck(shop.app, owner=lambda environ=None: (environ or {}).get("HTTP_X_USER"))
    client = shop.client()
    accepted = client.get("/report", headers={"x-user": "ada"})
    shop.ready.set()
    assert done(client, accepted.location, headers={"x-user": "ada"}).status_code == 200
    assert client.get(accepted.location, headers={"x-user": "bob"}).status_code == 404


def test_what_a_view_asks_for_another_is_the_other_s(shop: Shop) -> None:
    @shop.app.get("/ask")
    def ask() -> str:
        asked = shop.client().get("/report", headers={"x-user": "ada"})
        return str(asked.location)

    Raincheck(shop.app, exclude=["/ask"], owner=lambda: request.headers.get("x-user"))
    shop.ready.set()
    client = shop.client()
    location = client.get("/ask", headers={"x-user": "bob"}).text
    assert done(client, location, headers={"x-user": "ada"}).status_code == 200
    assert client.get(location, headers={"x-user": "bob"}).status_code == 404


def test_a_poll_writes_no_session_back(shop: Shop, tmp_path: Path) -> None:
    shop.app.config.update(
        SESSION_TYPE="cachelib",
        SESSION_CACHELIB=FileSystemCache(str(tmp_path)),
        PERMANENT_SESSION_LIFETIME=timedelta(days=1),
    )
    Session(shop.app)

    @shop.app.post("/count")
    def count() -> str:
        session.permanent = True
        session["count"] = session.get("count", 0) + 1
        return str(session["count"])

    @shop.app.after_request
    def look(response: Any) -> Any:
        if response.status_code == 202:
            session["count"] = -1
        return response

    saved = list[str]()
    save = shop.app.session_interface.save_session

    def note(app: Flask, kept: Any, response: Any) -> None:
        saved.append(request.path)
        save(app, kept, response)

    shop.app.session_interface.save_session = note  # type: ignore[method-assign, assignment]
    Raincheck(shop.app)
    client = shop.client()
    assert client.post("/count").text == "1"
    accepted = client.get("/report")
    assert client.get(accepted.location).status_code == 202
    assert client.post("/count").text == "2"
    assert saved == ["/count", "/count"]


def test_polls_use_up_nobody_s_rate_limit(shop: Shop) -> None:
    Limiter(
        get_remote_address, app=shop.app, default_limits=["2 per hour"], storage_uri="memory://"
    )
    Raincheck(shop.app)
    client = shop.client()
    accepted = client.get("/report")
    assert {client.get(accepted.location).status_code for _ in range(5)} == {202}
    shop.ready.set()
    assert done(client, accepted.location).status_code == 200
    assert [client.get("/fast").status_code for _ in range(3)] == [200, 200, 429]


def test_a_fast_request_has_one_context_as_without(shop: Shop) -> None:
    torn = list[str]()
    shop.app.teardown_request(lambda error: torn.append(current_app.name))
    Raincheck(shop.app)
    assert shop.client().get("/fast").text == "fast"
    assert torn == [shop.app.name]
