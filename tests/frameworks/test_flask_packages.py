"""What people build Flask applications of: bare, in time and deferred it answers the same."""

# mypy: disable-error-code="misc, untyped-decorator"

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import marshmallow
import pytest
from dash import Dash, Input, Output, html
from flask import Flask, request
from flask.testing import FlaskClient
from flask_admin import Admin, BaseView, expose
from flask_restx import Api as Restx
from flask_restx import Resource, fields
from flask_smorest import Api as Smorest
from flask_smorest import Blueprint
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.test import TestResponse

from raincheck import current_operation
from raincheck.flask import Raincheck

LONG = 60.0  # seconds of a budget that no test uses up
WAYS = {"bare": None, "in time": LONG, "deferred": 0}


class Call(NamedTuple):
    """A request."""

    method: str
    path: str
    json: Any = None


Build = Callable[[Flask, Path], None]


def with_sqlalchemy(app: Flask, folder: Path) -> None:
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{folder}/rows.db"
    database = SQLAlchemy(app)

    class Row(database.Model):  # type: ignore[name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        note: Mapped[str]

    @app.post("/rows")
    def add() -> Any:
        row = Row(note=request.get_json()["note"])
        database.session.add(row)
        database.session.commit()
        return {"id": row.id, "note": row.note}, 201

    @app.get("/rows")
    def all_rows() -> Any:
        return [row.note for row in database.session.query(Row)]

    @app.get("/rows/<int:number>")
    def one(number: int) -> Any:
        return {"note": database.get_or_404(Row, number).note}

    with app.app_context():
        database.create_all()


def with_restx(app: Flask, folder: Path) -> None:
    api = Restx(app, prefix="/api", doc="/docs")
    shape = api.model("Report", {"rows": fields.Integer})

    @api.route("/report/<int:rows>")
    class Report(Resource):
        @api.marshal_with(shape)
        def get(self, rows: int) -> Any:
            if not rows:
                api.abort(404, "there are none")
            return {"rows": rows, "secret": "is left out"}


def with_smorest(app: Flask, folder: Path) -> None:
    app.config.update(API_TITLE="Shop", API_VERSION="v1", OPENAPI_VERSION="3.0.2")
    blueprint = Blueprint("imports", __name__, url_prefix="/imports")
    shape = marshmallow.Schema.from_dict({"rows": marshmallow.fields.Integer(required=True)})

    @blueprint.post("/")
    @blueprint.etag
    @blueprint.arguments(shape)
    @blueprint.response(201, shape)
    def start(data: Any) -> Any:
        return data

    Smorest(app).register_blueprint(blueprint)


def with_admin(app: Flask, folder: Path) -> None:
    class Report(BaseView):
        @expose("/")
        def index(self) -> Any:
            return self.render("report.html", rows=3)

    (folder / "templates").mkdir()
    page = "{% extends 'admin/master.html' %}{% block body %}{{ rows }} rows{% endblock %}"
    (folder / "templates/report.html").write_text(page)
    app.jinja_loader.searchpath.append(str(folder / "templates"))  # type: ignore[union-attr]
    Admin(app, name="Shop").add_view(Report(name="Report", endpoint="report"))


PACKAGES: dict[str, tuple[Build, list[Call]]] = {
    "Flask-SQLAlchemy": (
        with_sqlalchemy,
        [
            Call("POST", "/rows", {"note": "kept"}),
            Call("GET", "/rows"),
            Call("GET", "/rows/1"),
            Call("GET", "/rows/9"),
        ],
    ),
    "Flask-RESTX": (
        with_restx,
        [Call("GET", "/api/report/3"), Call("GET", "/api/report/0"), Call("GET", "/swagger.json")],
    ),
    "Flask-Smorest": (
        with_smorest,
        [Call("POST", "/imports/", {"rows": 3}), Call("POST", "/imports/", {"rows": "many"})],
    ),
    "Flask-Admin": (with_admin, [Call("GET", "/admin/report/"), Call("GET", "/admin/")]),
}


def done(client: FlaskClient, accepted: TestResponse) -> TestResponse:
    """Poll until the response is there."""
    deadline = time.monotonic() + 20
    while (response := client.get(accepted.location)).status_code == 202:
        assert time.monotonic() < deadline
    return response


def answered(build: Build, calls: list[Call], folder: Path, budget: float | None) -> list[Any]:
    """Return what is answered to each call, in the end."""
    folder.mkdir()
    app = Flask(__name__)
    app.config.update(SECRET_KEY="none")  # noqa: S106
    build(app, folder)
    if budget is not None:
        Raincheck(app, budget=budget, store="memory:")
    client, found = app.test_client(), list[Any]()
    for call in calls:
        answer = client.open(call.path, method=call.method, json=call.json)
        assert (answer.status_code == 202) is (budget == 0)
        if budget == 0:
            answer = done(client, answer)
        found.append((answer.status_code, answer.content_type, answer.data))
    if (database := app.extensions.get("sqlalchemy")) is not None:
        with app.app_context():
            database.engine.dispose()
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_it_answers_as_without_raincheck_in_time_and_deferred(package: str, tmp_path: Path) -> None:
    bare, in_time, deferred = (
        answered(*PACKAGES[package], tmp_path / way.replace(" ", ""), budget)
        for way, budget in WAYS.items()
    )
    assert {status for status, *_ in bare} <= {200, 201, 404, 422}
    assert in_time == bare
    assert deferred == bare


def dashboard(**options: Any) -> FlaskClient:
    app = Flask(__name__)
    pages = Dash(server=app)  # type: ignore[arg-type]  # as its documentation has it
    pages.layout = html.Div([html.Button(id="ask"), html.Div(id="told")])

    @pages.callback(Output("told", "children"), Input("ask", "n_clicks"))
    def tell(clicks: int) -> str:
        return f"{clicks} clicks, {'deferred' if current_operation().id else 'in time'}"

    Raincheck(app, store="memory:", **options)
    return app.test_client()


ASKED = {
    "output": "told.children",
    "outputs": {"id": "told", "property": "children"},
    "inputs": [{"id": "ask", "property": "n_clicks", "value": 3}],
    "changedPropIds": ["ask.n_clicks"],
}


@pytest.mark.parametrize(
    "options", [{"budget": LONG}, {"budget": 0, "exclude": ["/_dash-update-component"]}]
)
def test_dash_has_its_callbacks_answered_in_time_or_when_they_are_excluded(
    options: dict[str, Any],
) -> None:
    client = dashboard(**options)
    if "exclude" not in options:
        assert client.get("/").status_code == 200
    told = client.post("/_dash-update-component", json=ASKED)
    assert told.status_code == 200
    assert told.get_json()["response"]["told"]["children"] == "3 clicks, in time"
