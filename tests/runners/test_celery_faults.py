"""Celery's workers and brokers killed, frozen, emptied, replaced: the store keeps the promise."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from raincheck.engine.telling import BOUND
from tests.runners.served import location
from tests.runners.sites import CeleryWorker, Site
from tests.servers.servers import wait_until
from tests.support.processes import children
from tests.support.rabbitmq import RabbitMQServer
from tests.support.real_servers import RealServer, RedisServer

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(300)]

BROKERS = {"redis": RedisServer, "rabbitmq": RabbitMQServer}
OPERATIONS = int(os.environ.get("TEST_OPERATIONS", "200"))
# What is the workers' own is the same whatever tells them.
ON_REDIS = pytest.mark.parametrize("server", ["redis"], indirect=True, scope="module")
SHORT = {"again": 3.0, "look": 1.0}
LEASE = {"lease": 4.0, "steady": 3.0, **SHORT}


@pytest.fixture(scope="module", params=BROKERS)
def server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    with BROKERS[request.param]() as broker:
        yield broker


@pytest.fixture
def site(tmp_path: Path, server: RealServer) -> Iterator[Site]:
    # A queue of its own: what a test before has left there is none of its operations.
    queue = f"q{tmp_path.name}"
    with Site(tmp_path, server.url, queue=queue, periods=SHORT) as site:
        yield site


def processes_of(worker: CeleryWorker) -> list[int]:
    return [worker.pid, *children(worker.pid)]


def started_once(site: Site, names: list[str]) -> bool:
    return all(len(site.noted("started", name)) == 1 for name in names)


def test_operations_over_three_workers_run_once_each(site: Site) -> None:
    names = [f"n{n}" for n in range(OPERATIONS)]
    with site.worker("threads"), site.worker("prefork"), site.worker("threads"):
        paths = [site.start(name) for name in names]
        ends = Counter(site.end(path).status_code for path in paths)
    assert ends == {201: OPERATIONS}
    assert started_once(site, names)


@ON_REDIS
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_a_killed_worker_ran_is_run_again_if_it_may_be(site: Site, pool: str) -> None:
    with site.worker(pool) as worker:
        asked = {"name": "get", "gate": str(site.gate("get"))}
        get = location(site.client.get("/report", params=asked))
        post = site.start("post", gate=str(site.gate("post")))
        running = {site.wait_for("started", "get"), site.wait_for("started", "post")}
        assert running <= set(processes_of(worker))
        worker.kill()
    site.gate("get").touch()
    with site.worker(pool):
        assert site.end(get).status_code == 201
        lost = site.end(post)
    assert (lost.status_code, lost.json()["code"]) == (500, "interrupted")
    assert len(site.noted("started", "get")) == 2
    assert len(site.noted("started", "post")) == 1


@ON_REDIS
def test_a_killed_child_of_a_prefork_worker_costs_what_it_ran(site: Site) -> None:
    with site.worker("prefork") as worker:
        post = site.start("post", gate=str(site.gate("post")))
        os.kill(site.wait_for("started", "post"), signal.SIGKILL)
        assert site.end(post).json()["code"] == "interrupted"
        assert site.end(site.start("next")).status_code == 201
        assert worker.pid not in site.noted("started", "next")


def test_while_the_broker_is_dead_nothing_is_accepted_and_nothing_runs(
    site: Site, server: RealServer
) -> None:
    with site.worker():
        assert site.end(site.start("before")).status_code == 201
        server.kill()
        try:
            for name in ("dead", "still"):
                refused = site.client.post("/by-path", params={"name": name})
                assert refused.status_code == 503, refused.text
                assert int(refused.headers["retry-after"]) >= 1
        finally:
            server.start()
        wait_until(
            lambda: site.client.post("/by-path", params={"name": "after"}).status_code == 202,
            "the broker is used again",
        )
        site.wait_for("over", "after")
        assert site.noted("started", "dead") + site.noted("started", "still") == []


def test_a_broker_that_hangs_is_given_up_and_nothing_runs(site: Site, server: RealServer) -> None:
    with site.worker():
        assert site.end(site.start("before")).status_code == 201
        server.pause()
        try:
            began = time.monotonic()
            refused = site.client.post("/report", params={"name": "hung"})
            assert refused.status_code == 503, refused.text
            assert time.monotonic() - began < 2 * BOUND
        finally:
            server.resume()
        wait_until(
            lambda: site.client.post("/report", params={"name": "after"}).status_code == 202,
            "the broker is used again",
        )
        site.wait_for("over", "after")
        assert site.noted("started", "hung") == []  # although its message may have come


@ON_REDIS
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_handler_on_a_worker_has_its_time_and_no_more(
    tmp_path: Path, server: RealServer, pool: str
) -> None:
    queue = f"q{tmp_path.name}"
    with Site(tmp_path, server.url, queue=queue, timeout=1.0) as site, site.worker(pool):
        late = site.end(site.start("late", seconds=60))
        assert (late.status_code, late.json()["code"]) == (500, "timeout")
        site.wait_for("over", "late")
        assert site.end(site.start("quick")).status_code == 201


def test_what_an_emptied_broker_has_lost_is_told_again(site: Site, server: RealServer) -> None:
    names = [f"n{n}" for n in range(5)]
    paths = [site.start(name) for name in names]
    server.kill()
    server.wipe()
    server.start()
    with site.worker():
        assert [site.end(path).status_code for path in paths] == [201] * 5
    assert started_once(site, names)


@ON_REDIS
def test_workers_are_replaced_while_operations_come_and_all_of_them_end(site: Site) -> None:
    paths: list[str] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.wait(0.1):
            paths.append(site.start(f"n{len(paths)}", seconds=0.5))

    asking = threading.Thread(target=ask)
    with ExitStack() as stack, site.worker("threads"):
        asking.start()
        stack.callback(is_over.set)
        for pool in ("prefork", "threads", "prefork", "threads"):
            with site.worker(pool) as worker:
                site.wait_for("started", f"n{len(paths)}")
                worker.terminate(60.0)
                assert worker.process is not None
                assert worker.process.returncode == 0
        is_over.set()
        asking.join()
        ends = Counter(site.end(path).status_code for path in paths)
    assert ends == {201: len(paths)}
    assert started_once(site, [f"n{n}" for n in range(len(paths))])


@ON_REDIS
def test_a_signal_to_the_whole_group_of_a_worker_lets_others_run_what_it_ran(
    tmp_path: Path, server: RealServer
) -> None:
    queue = f"q{tmp_path.name}"
    with Site(tmp_path, server.url, queue=queue, periods=SHORT, drain=1.0) as site:
        with site.worker("prefork") as worker:
            asked = {"name": "get", "gate": str(site.gate("get"))}
            get = location(site.client.get("/report", params=asked))
            site.wait_for("started", "get")
            os.killpg(worker.pid, signal.SIGTERM)  # as systemd does
            worker.wait(30.0)
        with site.worker("threads"):
            site.wait_for("started", "get", times=2)
            site.gate("get").touch()
            assert site.end(get).status_code == 201


@ON_REDIS
@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_an_application_is_imported_and_started_once_in_each_process(site: Site, pool: str) -> None:
    with site.worker(pool) as worker:
        for n in range(10):
            ended = site.end(site.start(f"n{n}"))
            assert ended.status_code == 201
            assert (ended.headers["x-state"], ended.headers["x-imported"]) == ("hello", "here")
        worker.terminate()
        ran = {process for n in range(10) for process in site.noted("started", f"n{n}")}
    for process in ran:
        assert site.journal().count(f"up {process}") == 1
        assert site.journal().count(f"down {process}") == 1


@ON_REDIS
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_shutdown_waits_for_the_drain_and_others_run_what_is_left(
    tmp_path: Path, server: RealServer, pool: str
) -> None:
    queue = f"q{tmp_path.name}"
    with Site(tmp_path, server.url, queue=queue, periods=SHORT, drain=1.0) as site:
        with site.worker(pool) as worker:
            asked = {"name": "get", "gate": str(site.gate("get"))}
            get = location(site.client.get("/report", params=asked))
            first = site.wait_for("started", "get")
            worker.terminate(30.0)  # or Celery would wait for it for ever
            assert f"down {first}" in site.journal()
        with site.worker(pool):
            site.wait_for("started", "get", times=2)
            site.gate("get").touch()
            assert site.end(get).status_code == 201


@ON_REDIS
def test_the_late_result_of_a_frozen_worker_is_refused(tmp_path: Path, server: RealServer) -> None:
    queue = f"q{tmp_path.name}"
    with (
        RedisServer() as store,
        Site(tmp_path, server.url, store.url, queue=queue, periods=LEASE) as site,
        site.worker("prefork") as worker,
    ):
        asked = {"name": "get", "gate": str(site.gate("get")), "who": "1"}
        get = location(site.client.get("/report", params=asked))
        first = site.wait_for("started", "get")
        worker.freeze()
        with site.worker("threads"):
            second = site.wait_for("started", "get", times=2)
            site.gate("get").touch()
            assert site.end(get).text == str(second)
            worker.freeze(signal.SIGCONT)
            wait_until(lambda: "succeeded in" in worker.printed, "the frozen one has tried")
        assert first in site.noted("over", "get")
        assert first != second
        assert site.end(get).text == str(second)
        assert site.end(site.start("later")).status_code == 201  # it goes on to work
        assert site.noted("started", "later")[0] in processes_of(worker)
