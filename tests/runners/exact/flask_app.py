"""The application in Flask."""

from __future__ import annotations

import hashlib
from typing import Any

from flask import Blueprint, Flask, Response, abort, jsonify, make_response, request, url_for
from flask import session as of_flask
from flask_compress import Compress

from raincheck.flask import Raincheck
from tests.runners.exact.material import (
    FIELDS,
    PIECES,
    RAINCHECK,
    SECRET,
    TEXT,
    WAYS,
    digest,
    environ_of,
    marked,
)

ALL = ["GET", "HEAD", "POST", "PUT", "DELETE"]


def with_fields(response: Response) -> Response:
    """Add fields of which some occur twice."""
    for name, value in FIELDS:
        response.headers.add(name, value)
    return response


def echo(rest: str) -> Response:
    """Answer with all that is seen of the request."""
    seen = {
        "environ": environ_of(request.environ),
        "url": request.url,
        "path": request.path,
        "root": request.script_root,
        "headers": [field for field in request.headers if field[0] != "Prefer"],
        "query": list(request.args.items(multi=True)),
        "parameters": rest,
        "cookies": request.cookies,
        "remote": request.remote_addr,
        "url_for": url_for(".echo", rest="a b/ü", _external=True),
        "body": digest([request.get_data()]),
    }
    return with_fields(make_response(jsonify(seen), 201))


def form() -> Response:
    """Answer with a form."""
    fields: list[Any] = [[name, value] for name, value in request.form.items(multi=True)]
    for name, value in request.files.items(multi=True):
        made = digest([value.read()])
        fields.append([name, value.filename, value.content_type, list(value.headers), made])
    return jsonify(fields)


def session() -> Response:
    """Answer with what is kept of a session; log in if asked to."""
    before = dict(of_flask)
    if "login" in request.args:
        of_flask.update(user="Müller", times=before.get("times", 0) + 1)
    return jsonify({"before": before})


def text() -> Response:
    """Answer with something to be compressed."""
    return Response(TEXT, mimetype="text/plain")


def stream() -> Response:
    """Answer with pieces."""
    return with_fields(Response(iter(PIECES), mimetype="application/x-pieces"))


def status() -> Response:
    """Answer with a status and nothing else."""
    return Response(status=int(request.args["status"]), headers={"etag": '"own"'})


def refuse() -> Response:
    """Answer with an error of the framework's."""
    abort(418)


def upload() -> Response:
    """Answer with the hash of a body that is never in memory."""
    hashed, length = hashlib.sha256(), 0
    while piece := request.stream.read(65536):
        hashed.update(piece)
        length += len(piece)
    return jsonify({"length": length, "sha256": hashed.hexdigest()})


def blueprint(way: str) -> Blueprint:
    """Return the routes of one way."""
    made = Blueprint(way, __name__, url_prefix=f"/{way}")
    handlers: dict[str, Any] = {"/echo/<path:rest>": echo, "/form": form, "/session": session}
    handlers |= {"/text": text, "/stream": stream, "/status": status, "/refuse": refuse}
    handlers |= {"/upload": upload}
    for path, handler in handlers.items():
        made.add_url_rule(path, handler.__name__, marked(way, handler), methods=ALL)
    return made


app = Flask(__name__)
app.secret_key = SECRET
app.config["COMPRESS_ALGORITHM"] = "gzip"
Compress(app)
for each in WAYS:
    app.register_blueprint(blueprint(each))
Raincheck(app, **RAINCHECK)
