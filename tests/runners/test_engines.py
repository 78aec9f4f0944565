"""Procrastinate, Dramatiq and RQ: real workers that run, are killed, frozen, replaced, or deaf."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.runners.engines.jobs import database
from tests.runners.engines.sites import Site
from tests.servers.servers import wait_until
from tests.support.real_servers import RedisServer

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]

OF_REDIS = ["dramatiq", "rq", "rq-simple"]
ENGINES = ["procrastinate", *OF_REDIS]
HAS_TIME = "TEST_ENGINES" in os.environ


def some(*engines: str) -> list[str]:
    """Return the engines by which something is shown; with TEST_ENGINES in the environment, all."""
    return ENGINES if HAS_TIME else [*engines]


SHORT = {"again": 3.0, "look": 1.0}
LEASE = {"lease": 4.0, "steady": 3.0, **SHORT}
OPERATIONS = int(os.environ.get("TEST_OPERATIONS", "100"))
SLOW_ENGINES = {"rq": 10}  # times; it loads the application for each operation


class Place:
    """A site, and what carries the ids there."""

    def __init__(self, site: Site, broker: RedisServer | None, jobs: str | None) -> None:
        self.site = site
        self.broker = broker
        self.jobs = jobs

    def lose_messages(self) -> None:
        """Have everything lost that tells of operations."""
        if self.broker is not None:
            self.broker.kill()
            self.broker.wipe()
            self.broker.start()
        if self.jobs is not None:
            with psycopg.connect(self.jobs) as connection:
                connection.execute("DELETE FROM procrastinate_jobs")


@contextmanager
def open_place(
    engine: str, directory: Path, *, shared: bool = False, **more: Any
) -> Iterator[Place]:
    """Start a site.

    Args:
        shared: Whether operations are where other machines could see them: leases count then.
    """
    with ExitStack() as stack:
        where = {"RAINCHECK_STORE": f"sqlite://{directory / 'operations.db'}"}
        broker, jobs = None, None
        if engine == "procrastinate":
            jobs = stack.enter_context(database()).url
            where = {"TEST_DATABASE": jobs}
        else:
            broker = stack.enter_context(RedisServer())
            where["TEST_BROKER"] = broker.url
        if shared and engine != "procrastinate":
            where["RAINCHECK_STORE"] = stack.enter_context(RedisServer()).url
        site = stack.enter_context(Site(engine, directory, where, **more))
        yield Place(site, broker, jobs)


def shown(response: httpx.Response) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Return what a handler has sent, without what belongs to this very exchange."""
    own = (b"date", b"server", b"operation-status", b"etag", b"cache-control", b"accept-ranges")
    kept = [(name, value) for name, value in response.headers.raw if name.lower() not in own]
    return response.status_code, response.content, kept


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_worker_answers_byte_for_byte_as_the_web_process_does_and_can_be_cancelled(
    engine: str, tmp_path: Path
) -> None:
    body = bytes(range(256)) * 1000
    with open_place(engine, tmp_path) as place, place.site.worker():
        site = place.site
        here = site.client.post("/here", params={"name": "here"}, content=body)
        accepted = site.client.post("/report", params={"name": "there"}, content=body)
        path = httpx.URL(accepted.headers["location"]).path
        there = site.end(path)
        assert there.headers["operation-status"] == "succeeded"
        assert shown(there) == shown(here)
        assert site.noted("started", "there") != site.noted("started", "here")
        long = site.start("long", gate=site.gate("never"))
        wait_until(
            lambda: "progress" in site.client.get(f"{long}/status").json(), "progress is shown"
        )
        assert site.client.delete(long).status_code == 202
        assert site.end(long).status_code == 410


@pytest.mark.slow
@pytest.mark.parametrize("engine", some("procrastinate", "dramatiq"))
def test_operations_over_three_workers_run_once_each(engine: str, tmp_path: Path) -> None:
    names = [f"n{n}" for n in range(OPERATIONS // SLOW_ENGINES.get(engine, 1))]
    with open_place(engine, tmp_path) as place, ExitStack() as stack:
        site = place.site
        for _ in range(3):
            stack.enter_context(site.worker())
        paths = [site.start(name) for name in names]
        ends = Counter(site.end(path).status_code for path in paths)
        assert ends == {201: len(names)}
        counted = {name: len(site.noted("started", name)) for name in names}
        assert counted == dict.fromkeys(names, 1)


@pytest.mark.slow
@pytest.mark.parametrize("engine", some("procrastinate", "dramatiq", "rq"))
def test_what_a_killed_worker_ran_is_run_again_if_it_may_be(engine: str, tmp_path: Path) -> None:
    with open_place(engine, tmp_path, periods=LEASE) as place:
        site, gate = place.site, place.site.gate("end")
        is_single = engine.startswith("rq")  # a worker runs one at a time
        with ExitStack() as stack:
            workers = [stack.enter_context(site.worker()) for _ in range(1 + is_single)]
            get = site.start("get", "GET", gate=gate)
            post = site.start("post", gate=gate)
            site.wait_for("started", "get")
            site.wait_for("started", "post")
            for worker in workers:
                for pid in worker.family[1:]:  # RQ's have a process group of their own
                    os.kill(pid, signal.SIGKILL)
                worker.kill()
        gate.touch()
        with site.worker():
            assert site.end(get).status_code == 201
            lost = site.end(post)
        assert (lost.status_code, lost.json()["code"]) == (500, "interrupted")
        assert len(site.noted("started", "get")) == 2
        assert len(site.noted("started", "post")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("engine", some("procrastinate", "dramatiq", "rq"))
def test_a_worker_that_is_asked_to_end_ends_what_it_runs(engine: str, tmp_path: Path) -> None:
    with open_place(engine, tmp_path, periods=SHORT) as place:
        site = place.site
        with site.worker() as worker:
            running = site.start("running", gate=site.gate("running"))
            pid = site.wait_for("started", "running")
            worker.signal(signal.SIGTERM)
            waits = site.start("waits")
            site.gate("running").touch()
            assert site.end(running).status_code == 201
            worker.wait(60.0)
            assert worker.process is not None
            assert worker.process.returncode == 0
            assert f"down {pid}" in site.journal()
        with site.worker():
            assert site.end(waits).status_code == 201
        assert len(site.noted("started", "running")) == len(site.noted("started", "waits")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("engine", some("procrastinate"))
def test_what_tells_of_operations_may_be_lost(engine: str, tmp_path: Path) -> None:
    names = [f"n{n}" for n in range(5)]
    with open_place(engine, tmp_path, periods=SHORT) as place:
        paths = [place.site.start(name) for name in names]
        place.lose_messages()
        with place.site.worker():
            assert [place.site.end(path).status_code for path in paths] == [201] * 5
        assert [len(place.site.noted("started", name)) for name in names] == [1] * 5


@pytest.mark.slow
@pytest.mark.parametrize("engine", OF_REDIS if HAS_TIME else ["dramatiq"])
@pytest.mark.parametrize("how", ["dead", "frozen"])
def test_while_workers_cant_be_told_nothing_is_accepted_and_nothing_runs(
    engine: str, how: str, tmp_path: Path
) -> None:
    with open_place(engine, tmp_path, periods=SHORT) as place, place.site.worker():
        site, broker = place.site, place.broker
        assert broker is not None
        assert site.end(site.start("before")).status_code == 201
        broker.kill() if how == "dead" else broker.pause()
        try:
            for name in ("lost", "lost too"):
                refused = site.client.post("/report", params={"name": name})
                assert refused.status_code == 503, refused.text
                assert int(refused.headers["retry-after"]) >= 1
        finally:
            broker.start() if how == "dead" else broker.resume()

        def answers() -> bool:
            return site.client.post("/report", params={"name": "after"}).status_code == 202

        wait_until(answers, "workers are told again")
        with site.worker():  # the one before may have ended with its broker
            site.wait_for("over", "after")
        assert site.noted("started", "lost") == []


@pytest.mark.slow
@pytest.mark.parametrize("engine", some("procrastinate"))
def test_the_late_result_of_a_frozen_worker_is_refused(engine: str, tmp_path: Path) -> None:
    with open_place(engine, tmp_path, shared=True, periods=LEASE) as place:
        site, gate = place.site, place.site.gate("get")
        with site.worker() as worker:
            get = site.start("get", "GET", gate=gate)
            first = site.wait_for("started", "get")
            worker.freeze()
            with site.worker():
                second = site.wait_for("started", "get", times=2)
                gate.touch()
                assert site.end(get).headers["x-process"] == str(second)
                worker.freeze(signal.SIGCONT)
                wait_until(lambda: first in site.noted("over", "get"), "the frozen one goes on")
                assert first != second
                assert site.end(site.start("later")).status_code == 201
                assert site.client.get(get).headers["x-process"] == str(second)


@pytest.mark.slow
def test_a_worker_of_procrastinate_that_may_wait_no_longer_ends_in_order(tmp_path: Path) -> None:
    with open_place("procrastinate", tmp_path, periods=SHORT, drain=1) as place:
        site, gate = place.site, place.site.gate("end")
        with site.worker("--shutdown-graceful-timeout", "1") as worker:
            get, post = site.start("get", "GET", gate=gate), site.start("post", gate=gate)
            site.wait_for("started", "get")
            pid = site.wait_for("started", "post")
            printed = worker.terminate(60.0)
            assert "RuntimeError" not in printed
            assert f"down {pid}" in site.journal()
        assert site.end(post).json()["code"] == "shutdown"
        gate.touch()
        with site.worker():
            assert site.end(get).status_code == 201
