"""However a server starts an application, a worker that is given it runs what it has accepted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.servers import http_client
from tests.support.processes import ServerProcess
from tests.support.slow import others_slow

pytestmark = pytest.mark.server

SLOW = 60.0  # seconds; a machine under load is slow
ASGI = """
import os
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from raincheck import long_running
from raincheck.asgi import RaincheckMiddleware


@long_running(runner="workers")
async def work(request):
    return JSONResponse({"pid": os.getpid()})


def create():
    made = Starlette(routes=[Route("/work", work)])
    made.add_middleware(RaincheckMiddleware)
    return made


app = create()
if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]))
"""
WSGI = """
import os
import sys

from flask import Flask

from raincheck import long_running
from raincheck.flask import Raincheck


def create_app():
    made = Flask(__name__)
    Raincheck(made)
    made.add_url_rule("/work", view_func=work)
    return made


@long_running(runner="workers")
def work():
    return {"pid": os.getpid()}


app = create_app()
if __name__ == "__main__":
    app.run(port=int(sys.argv[1]))
"""
DJANGO = """
import os

from django.http import JsonResponse
from django.urls import path

from raincheck import long_running

SECRET_KEY = "secret"
ALLOWED_HOSTS = ["*"]
DEBUG = True
ROOT_URLCONF = __name__
INSTALLED_APPS = ["raincheck.django"]
MIDDLEWARE = ["raincheck.django.RaincheckMiddleware"]


@long_running(runner="workers")
def work(request):
    return JsonResponse({"pid": os.getpid()})


urlpatterns = [path("work", work)]
"""
SETTINGS = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n'
FILES = {
    "m.py": ASGI,
    "run.py": 'import sys, uvicorn\nuvicorn.run("m:app", port=int(sys.argv[1]))\n',
    "f.py": WSGI,
    "conf.py": "threads = 4\n",
    "manage.py": f"{SETTINGS}import sys\nfrom django.core.management import *\n"
    "execute_from_command_line(sys.argv)\n",
    "shop/__init__.py": "",
    "shop/settings.py": DJANGO,
    **{
        f"shop/{kind}.py": f"{SETTINGS}from django.core.{kind} import get_{kind}_application\n"
        f"application = get_{kind}_application()\n"
        for kind in ("wsgi", "asgi")
    },
}
GUNICORN = "-m gunicorn --bind 127.0.0.1:{port} --no-control-socket"
STARTED = [
    (f"{GUNICORN} -c conf.py f:app", "f:app"),
    ("-m uvicorn --factory m:create --port {port}", "m:create()"),
    ("manage.py runserver {port} --noreload", "shop.wsgi:application"),
    ("-m uvicorn m:app --port {port}", "m:app"),
    ("-m hypercorn m:app --bind 127.0.0.1:{port}", "m:app"),
    ("-m granian m:app --interface asgi --host 127.0.0.1 --port {port}", "m:app"),
    ("m.py {port}", "m:app"),
    ("-m m {port}", "m:app"),
    ("run.py {port}", "m:app"),
    (f"{GUNICORN} f:app", "f:app"),
    (f"{GUNICORN} f:create_app()", "f:create_app()"),
    ("-m waitress --port={port} --call f:create_app", "f:create_app()"),
    ("-m flask --app f run --port {port}", "f:app"),
    ("-m flask --app f:create_app run --port {port}", "f:create_app()"),
    ("f.py {port}", "f:app"),
    ("manage.py runserver {port}", "shop.wsgi:application"),
    (f"{GUNICORN} shop.wsgi", "shop.wsgi:application"),
    (f"{GUNICORN} shop.wsgi:application", "shop.asgi:application"),
    ("-m uvicorn shop.asgi:application --port {port}", "shop.wsgi:application"),
    ("-m daphne shop.asgi:application -p {port}", "shop.asgi:application"),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "srv" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "srv"


def work(target: str, directory: Path, store: str) -> subprocess.CompletedProcess[str]:
    """Run what is due, as who has nothing but the application's name."""
    command = [sys.executable, "-m", "raincheck", "work", target, "--queue", "workers", "--once"]
    return subprocess.run(
        command,
        cwd=directory,
        env=environment(directory, store),
        capture_output=True,
        text=True,
        timeout=SLOW,
    )


def environment(directory: Path, store: str) -> dict[str, str]:
    state = str(directory.parent / "state")
    return os.environ | {"RAINCHECK_STORE": store, "XDG_STATE_HOME": state}


def serve(command: str, directory: Path, store: str) -> ServerProcess:
    return ServerProcess(command.split(), cwd=directory, env=environment(directory, store))


@pytest.mark.parametrize(("command", "target"), others_slow(STARTED, usual=3))
def test_a_worker_runs_what_was_accepted_by(command: str, target: str, directory: Path) -> None:
    store = f"sqlite://{directory.parent}/operations.db"
    with serve(command, directory, store) as web, http_client(web.url) as client:
        location = client.get("/work").headers["location"]
        ended = work(target, directory, store)
        assert ended.stdout == "1 run: 1 succeeded\n", ended.stderr
        assert client.get(location).json()["pid"] != web.pid


def test_both_say_so_where_a_worker_can_find_nothing_of_what_was_accepted(directory: Path) -> None:
    with (
        serve(f"{GUNICORN} -c conf.py f:app", directory, "") as web,
        http_client(web.url) as client,
    ):
        assert client.get("/work").status_code == 202
        ended = work("f:app", directory, "")
        assert ended.stdout == "Nothing was due\n"
        assert "where this worker does not look" in ended.stderr
        assert "but no store is named" in web.kill()
