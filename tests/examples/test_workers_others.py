"""The guide to workers of other engines: its blocks become files, and commands that run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.examples.running import SLOW
from tests.runners.engines.jobs import database
from tests.runners.engines.sites import Worker
from tests.servers.servers import wait_until
from tests.support.polling import poll
from tests.support.processes import ROOT, ServerProcess
from tests.support.real_servers import RedisServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

GUIDE = (ROOT / "examples" / "workers_others.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", GUIDE, re.DOTALL | re.MULTILINE))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MANAGE = """
import sys
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
WSGI = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"


@contextmanager
def started(section: str, directory: Path, replaced: dict[str, str]) -> Iterator[ServerProcess]:
    """Write a section's files, run its commands, and supply its web server."""
    blocks = BLOCK.findall(SECTIONS[section])
    for text in [text for kind, text in blocks if kind == "python"]:
        name = text.partition("\n")[0].removeprefix("# ")
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(adapted(text, replaced))
    commands = "".join(text for kind, text in blocks if kind == "sh")
    env = {
        "XDG_STATE_HOME": str(directory / "state"),
        "PYTHONPATH": str(directory),
        "DJANGO_SETTINGS_MODULE": "shop.settings",
    }
    *first, web, worker = [line.split()[1:] for line in commands.splitlines()]
    with ExitStack() as stack:
        for command in first:
            subprocess.run(
                [sys.executable, *command], cwd=directory, env=env, check=True, timeout=60
            )
        there = [adapted(part, replaced) for part in worker]
        stack.enter_context(Worker(there, cwd=directory, env=env))
        here = [part.replace("localhost:8000", "127.0.0.1:{port}") for part in web]
        here = [part.replace("8000", "{port}") for part in here]
        yield stack.enter_context(ServerProcess(here, cwd=directory, env=env))


def adapted(text: str, replaced: dict[str, str]) -> str:
    for said, meant in replaced.items():
        text = text.replace(said, meant)
    return text


def check(web: ServerProcess) -> None:
    with httpx.Client(base_url=web.url, timeout=SLOW, headers={"host": "localhost"}) as client:
        accepted = client.post("/reports")
        assert accepted.status_code == 202, accepted.text
        path = httpx.URL(accepted.headers["location"]).path
        done = poll(client, path)
        assert (done.status_code, done.json()) == (200, {"report": "done"})


def test_procrastinate(tmp_path: Path) -> None:
    with database(is_empty=True) as place:
        replaced = {"postgresql://localhost/shop": place.url}
        with started("Procrastinate", tmp_path, replaced) as web:
            check(web)
            wait_until(lambda: not place.jobs(), "the job is over, and deleted")


def make_project(directory: Path) -> None:
    (directory / "shop").mkdir()
    (directory / "shop" / "__init__.py").touch()
    (directory / "shop" / "wsgi.py").write_text(WSGI)
    (directory / "manage.py").write_text(MANAGE)


def test_procrastinate_in_django(tmp_path: Path) -> None:
    make_project(tmp_path)
    with database(is_empty=True) as place:
        named = conninfo_to_dict(place.url)
        there = {key.upper(): str(named.get(key, "")) for key in ("host", "port", "user")}
        there |= {"NAME": str(named["dbname"]), "PASSWORD": str(named.get("password", ""))}
        replaced = {
            "postgresql://localhost/shop": place.url,
            '{"HOST": "localhost", "NAME": "shop"}': repr(
                there | {"OPTIONS": {"options": named["options"]}}
            ),
        }
        with started("Procrastinate in Django", tmp_path, replaced) as web:
            check(web)
            wait_until(lambda: not place.jobs(), "the job is over, and deleted")


@pytest.mark.parametrize("section", ["Dramatiq", "RQ"])
def test_engines_on_redis(section: str, tmp_path: Path) -> None:
    with RedisServer() as server:
        replaced = {"localhost:6379": f"127.0.0.1:{server.port}"}
        replaced["Redis(db=1"] = f"Redis(port={server.port}, db=1"
        with started(section, tmp_path, replaced) as web:
            check(web)


@pytest.mark.parametrize("engine", ["huey", "taskiq", "saq"])
def test_engines_that_take_the_web_of_another(engine: str, tmp_path: Path) -> None:
    """Their blocks are a `tasks.py` each, whose first line says how its worker is started."""
    blocks = [text for _, text in BLOCK.findall(SECTIONS["Huey, Taskiq, SAQ"])]
    tasks = next(text for text in blocks if f"python -m {engine}" in text)
    others = BLOCK.findall(SECTIONS["RQ"])
    web = next(text for _, text in others if text.startswith("# web.py"))
    command = next(text for kind, text in others if kind == "sh").splitlines()[0]
    with RedisServer() as server:
        replaced = {"localhost:6379": f"127.0.0.1:{server.port}"}
        (tmp_path / "web.py").write_text(adapted(web, replaced))
        (tmp_path / "tasks.py").write_text(adapted(tasks, replaced))
        env = {"XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONPATH": str(tmp_path)}
        there = tasks.partition("\n")[0].partition("for: python ")[2].split()
        here = command.replace("localhost:8000", "127.0.0.1:{port}").split()[1:]
        with (
            Worker(there, cwd=tmp_path, env=env),
            ServerProcess(here, cwd=tmp_path, env=env) as process,
        ):
            check(process)


@pytest.mark.skipif(find_spec("django_tasks_db") is None, reason="django-tasks-db is not installed")
def test_tasks_of_django(tmp_path: Path) -> None:
    django_6 = find_spec("django.tasks") is not None
    if not django_6 and find_spec("django_tasks") is None:
        pytest.skip("this needs Django 6, or django-tasks")
    make_project(tmp_path)
    replaced = {} if django_6 else {"django.tasks": "django_tasks"}
    with started("Django's tasks", tmp_path, replaced) as web:
        check(web)


def test_every_section_is_run() -> None:
    run = {section for section, text in SECTIONS.items() if BLOCK.search(text)}
    procrastinate = {"Procrastinate", "Procrastinate in Django"}
    on_redis = {"Dramatiq", "RQ", "Huey, Taskiq, SAQ"}
    assert run == procrastinate | on_redis | {"Django's tasks"}
