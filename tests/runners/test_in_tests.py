"""How those who test an application run what it leaves to workers: in their own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, Response

from raincheck import long_running
from raincheck.runners.worker import Worker
from raincheck.wsgi import RaincheckMiddleware
from tests.support import wsgi


def test_a_test_runs_what_was_told_of_itself(tmp_path: Path) -> None:
    told: list[str] = []
    flask = Flask(__name__)

    @flask.route("/report")
    @long_running(runner="slow")
    def report() -> Response:
        return Response("the report", 201)

    options: dict[str, Any] = {"application": "tested here", "workers": {"slow": told.append}}
    app = RaincheckMiddleware(flask, store=f"sqlite://{tmp_path / 'a.db'}", **options)
    accepted = wsgi.call(app, "/report")
    path = wsgi.path_of(accepted)
    assert (accepted.status, wsgi.call(app, path).status, len(told)) == (202, 202, 1)
    worker = Worker(app)
    try:
        worker.run(told.pop())
        assert (wsgi.call(app, path).status, wsgi.call(app, path).content) == (201, b"the report")
    finally:
        worker.close()
