"""An application whose handlers run on workers, and note each of their runs in a file."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import raincheck.asgi
import raincheck.wsgi
from raincheck import current_operation, is_rerun, long_running

RUNS = Path(os.environ.get("TEST_RUNS", "/dev/null"))
OPTIONS: Any = {
    "budget": 60,
    "runners": {"/path/*": "workers"},
    "drain": float(os.environ.get("TEST_DRAIN", "10")),
}


def note(name: str) -> None:
    """Note a run, with one write: other processes note theirs."""
    line = json.dumps([name, os.getpid(), is_rerun()]) + "\n"
    descriptor = os.open(RUNS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)


@long_running(runner="workers")
async def work(req: Request) -> JSONResponse:
    note(req.query_params["name"])
    body = await req.body()
    current_operation().progress(1, total=2)
    await asyncio.sleep(float(req.query_params.get("seconds", "0")))
    return JSONResponse({"pid": os.getpid(), "length": len(body)}, 201, {"x-own": "1"})


async def by_path(req: Request) -> JSONResponse:
    note(req.path_params["name"])
    return JSONResponse({"pid": os.getpid()})


@long_running(queue="nightly")
async def nightly(req: Request) -> JSONResponse:
    note(req.query_params["name"])
    return JSONResponse({"pid": os.getpid()}, int(req.query_params.get("status", "200")))


asgi_app = raincheck.asgi.RaincheckMiddleware(
    Starlette(
        routes=[
            Route("/work", work, methods=["GET", "POST"]),
            Route("/path/{name}", by_path),
            Route("/nightly", nightly),
        ]
    ),
    **OPTIONS,
    application="asgi-site",
)

flask_app = Flask(__name__)


@flask_app.route("/work", methods=["GET", "POST"])
@long_running(runner="workers")
def sync_work() -> Response:
    note(request.args["name"])
    data = request.get_data()
    time.sleep(float(request.args.get("seconds", "0")))
    document = json.dumps({"pid": os.getpid(), "length": len(data)})
    return Response(document, 201, {"x-own": "1"}, mimetype="application/json")


wsgi_app = raincheck.wsgi.RaincheckMiddleware(flask_app, **OPTIONS, application="wsgi-site")
