"""`python -m raincheck work`: workers of their own processes, that look into the store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.polling import poll
from tests.support.processes import ROOT, ServerProcess, children

SLOW = 60.0  # seconds; a machine under load is slow
UVICORN = "-m uvicorn tests.runners.site:{app} --port {{port}} --log-level warning --no-access-log"
GUNICORN = (
    "-m gunicorn tests.runners.site:{app} --bind 127.0.0.1:{{port}} --log-level warning "
    "--worker-class gthread --threads 8 --no-control-socket"
)
COMMANDS = {"asgi_app": UVICORN, "wsgi_app": GUNICORN}


class Site:
    """A web server, and workers as a test wants them."""

    def __init__(self, app: str, directory: Path) -> None:
        self.app = app
        self.runs = directory / "runs"
        self.env = {
            "RAINCHECK_STORE": f"sqlite://{directory}/operations.db",
            "TEST_RUNS": str(self.runs),
            "TEST_DRAIN": "0.2",
        }
        command = COMMANDS[app].format(app=app).split()
        self.web = ServerProcess(command, env=self.env)
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Site:
        self.web.__enter__()
        self.client = httpx.Client(base_url=self.web.url, timeout=SLOW, trust_env=False)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        self.client.close()
        self.web.__exit__(*exc_info)

    def command(self, *arguments: str, queue: str = "workers") -> list[str]:
        target = f"tests.runners.site:{self.app}"
        return [sys.executable, "-m", "raincheck", "work", target, "--queue", queue, *arguments]

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = self.command(*arguments)
        worker = subprocess.Popen(command, cwd=ROOT, env=os.environ | self.env)
        self.workers.append(worker)
        return worker

    def once(self, queue: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command("--once", *arguments, queue=queue),
            cwd=ROOT,
            env=os.environ | self.env,
            capture_output=True,
            text=True,
            timeout=SLOW,
        )

    def accepted(self, path: str, method: str = "GET", **more: Any) -> str:
        response = self.client.request(method, path, **more)
        assert response.status_code == 202, response.text
        return str(response.headers["location"])

    def noted(self) -> list[tuple[str, int, bool]]:
        if not self.runs.exists():
            return []
        return [tuple(json.loads(line)) for line in self.runs.read_text().splitlines()]

    def response(self, location: str) -> httpx.Response:
        return poll(self.client, location, timeout=SLOW)


@pytest.fixture(params=COMMANDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with Site(request.param, tmp_path) as site:
        yield site


@pytest.fixture
def asgi(tmp_path: Path) -> Iterator[Site]:
    with Site("asgi_app", tmp_path) as site:
        yield site


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SLOW
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.server
def test_a_worker_runs_what_a_web_process_has_accepted(site: Site) -> None:
    location = site.accepted("/work?name=a", "POST", content=b"x" * 300_000)
    assert site.client.get(location).status_code == 202
    worker = site.begin()
    done = site.response(location)
    assert (done.status_code, done.headers["x-own"]) == (201, "1")
    assert done.json() == {"pid": worker.pid, "length": 300_000}
    assert site.noted() == [("a", worker.pid, False)]
    worker.terminate()
    assert worker.wait(SLOW) == 0


@pytest.mark.server
def test_what_waits_for_the_night_is_run_once_somebody_says_so(asgi: Site) -> None:
    locations = [asgi.accepted(f"/nightly?name={n}&status={n}") for n in (200, 200, 404)]
    other = asgi.accepted("/path/other")
    ended = asgi.once("nightly")
    assert (ended.returncode, ended.stdout) == (0, "3 run: 1 failed, 2 succeeded\n")
    assert [asgi.response(each).status_code for each in locations] == [200, 200, 404]
    assert asgi.once("nightly").stdout == "Nothing was due\n"
    assert asgi.client.get(other).status_code == 202
    assert asgi.once("workers", "--concurrency", "1").stdout == "1 run: 1 succeeded\n"
    assert sorted(name for name, _, _ in asgi.noted()) == ["200", "200", "404", "other"]


@pytest.mark.slow
def test_each_operation_is_run_by_one_of_several_workers(site: Site) -> None:
    site.begin("--processes", "3")
    locations = [site.accepted(f"/work?name={n}&seconds=0.01") for n in range(300)]
    assert {site.response(each).status_code for each in locations} == {201}
    names = Counter(name for name, _, _ in site.noted())
    assert names == Counter(str(n) for n in range(300))
    assert len({pid for _, pid, _ in site.noted()}) == 3


@pytest.mark.slow
def test_when_a_worker_is_killed_what_may_be_run_again_is_and_nothing_else(site: Site) -> None:
    worker = site.begin()
    again = site.accepted("/work?name=again&seconds=30")
    never = site.accepted("/work?name=never&seconds=30", "POST")
    until(lambda: len(site.noted()) == 2)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    other = site.begin()
    lost = site.response(never)
    assert (lost.status_code, lost.json()["code"]) == (500, "interrupted")
    until(lambda: len(site.noted()) == 3)
    assert site.noted()[-1] == ("again", other.pid, True)
    site.client.delete(again)


@pytest.mark.slow
def test_deploys_of_workers_lose_nothing(site: Site) -> None:
    """Each operation ends; those that may be run again, with their responses."""
    locations = [site.accepted(f"/work?name={n}&seconds=0.5") for n in range(24)]
    for _ in range(4):
        worker = site.begin("--concurrency", "8")
        seen = len(site.noted())
        until(lambda seen=seen: len(site.noted()) > seen)  # type: ignore[misc]
        worker.terminate()
        assert worker.wait(SLOW) == 0
    site.begin("--concurrency", "8")
    statuses = Counter(site.response(each).status_code for each in locations)
    assert sum(statuses.values()) == 24
    assert set(statuses) <= {201, 500}, "after three attempts, one is given up"
    assert statuses[201] >= 12


@pytest.mark.slow
def test_a_process_of_several_that_dies_is_replaced_and_none_is_left_alone(asgi: Site) -> None:
    workers = asgi.begin("--processes", "2")
    until(lambda: len(children(workers.pid)) == 2)
    first = children(workers.pid)
    asgi.response(asgi.accepted("/path/warm"))  # so that it has been started up
    os.kill(first[0], signal.SIGKILL)
    until(lambda: len(set(children(workers.pid)) - set(first)) == 1)
    left = children(workers.pid)
    workers.kill()
    workers.wait()
    until(lambda: not any(is_alive(each) for each in left))


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.server
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["no.module:app", "--queue", "q"], "There is no module no in"),
        (["tests.runners.bare:app", "--queue", "q"], "there is no raincheck around"),
        (["tests.runners.site:asgi_app"], "the following arguments are required: --queue"),
        (["tests.runners.site:asgi_app", "--queue", "q", "--concurrency", "0"], "1 to 1000"),
    ],
)
def test_what_is_wrong_with_a_command_is_said(
    arguments: list[str], complaint: str, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "raincheck", "work", *arguments],
        cwd=ROOT,
        env=os.environ | {"RAINCHECK_STORE": f"sqlite://{tmp_path}/o.db"},
        capture_output=True,
        text=True,
        timeout=SLOW,
    )
    assert (ended.returncode, complaint in ended.stderr) == (2, True), ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_when_all_of_several_processes_die_at_once_others_begin(asgi: Site) -> None:
    workers = asgi.begin("--processes", "2")
    until(lambda: len(children(workers.pid)) == 2)
    first = children(workers.pid)
    for each in first:
        os.kill(each, signal.SIGKILL)
    until(lambda: len(set(children(workers.pid)) - set(first)) == 2)
    assert asgi.response(asgi.accepted("/path/after")).status_code == 200
    workers.terminate()
    assert workers.wait(SLOW) == 0
