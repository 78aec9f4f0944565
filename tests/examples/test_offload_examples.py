"""The examples whose handlers run on Celery's workers, with workers and brokers of their own."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.examples.running import EXAMPLES, SLOW, commands, documented, prepare, serve
from tests.support.polling import poll
from tests.support.processes import ServerProcess
from tests.support.real_servers import RedisServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

FASTAPI, DJANGO = "celery_offload/web.py", "django_offload/manage.py"
WORKERS = {
    FASTAPI: documented(FASTAPI, "python -m celery -A tasks worker --concurrency 2"),
    DJANGO: documented(DJANGO, "python -m celery -A warehouse worker --concurrency 2"),
}


class Worker(ServerProcess):
    """A worker of Celery: it listens nowhere."""

    def _accepts(self) -> bool:
        return " ready." in self._printed()


@contextmanager
def offloading(
    name: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[httpx.Client, Worker]]:
    with RedisServer() as redis:
        url = redis.url.removesuffix("/0")
        monkeypatch.setenv("REDIS_URL", url)
        prepare(name, directory)
        worker = Worker([*WORKERS[name], "-l", "INFO"], cwd=directory, env={"REDIS_URL": url})
        with (
            serve(commands(name)[-1], directory) as server,
            worker,
            httpx.Client(base_url=server.url, timeout=SLOW) as client,
        ):
            yield client, worker


def test_the_blocks_of_the_guide_run_a_handler_on_a_celery_worker(tmp_path: Path) -> None:
    guide = (EXAMPLES / "workers.md").read_text()
    web, tasks = re.findall(r"^```python\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    line = re.search(r"^    python (-m celery .*)$", guide, re.MULTILINE)
    assert line is not None
    with RedisServer() as redis:
        url = redis.url.removesuffix("/0")
        for name, text in (("web", web), ("tasks", tasks)):
            (tmp_path / f"{name}.py").write_text(text.replace("redis://localhost:6379", url))
        worker = Worker([*line[1].split(), "-l", "INFO"], cwd=tmp_path)
        server = ServerProcess(["-m", "uvicorn", "web:app", "--port", "{port}"], cwd=tmp_path)
        with server, worker, httpx.Client(base_url=server.url, timeout=SLOW) as client:
            accepted = client.post("/invoices/2026")
            assert accepted.status_code == 202
            done = poll(client, accepted.headers["location"], timeout=SLOW)
            assert (done.status_code, done.json()) == (200, {"year": 2026})


def status_of(client: httpx.Client, accepted: httpx.Response) -> str:
    document = client.get(accepted.headers["operation-location"]).json()
    return str(document["status"])


def until_running(client: httpx.Client, accepted: httpx.Response) -> None:
    deadline = time.monotonic() + SLOW
    while (status := status_of(client, accepted)) != "running":
        assert (status, time.monotonic() < deadline) == ("accepted", True)
        time.sleep(0.02)


def test_fastapi_counts_primes_on_a_celery_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with offloading(FASTAPI, tmp_path, monkeypatch) as (client, _):
        accepted = client.get("/primes/10000")
        assert accepted.status_code == 202
        counted = poll(client, accepted.headers["location"], timeout=SLOW)
        assert (counted.status_code, counted.json()) == (200, {"limit": 10000, "primes": 1229})
        assert client.get("/primes/0").status_code == 422
        endless = client.get("/primes/100000000")
        until_running(client, endless)
        assert client.delete(endless.headers["location"]).status_code == 202
        assert poll(client, endless.headers["location"], timeout=SLOW).status_code == 410


def test_django_raises_prices_on_a_celery_worker_all_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with offloading(DJANGO, tmp_path, monkeypatch) as (client, worker):

        def total() -> int:
            return int(client.get("/prices").json()["total"])

        before = total()
        raised = client.post("/prices/raise", data={"percent": "3"})
        assert raised.status_code == 202
        done = poll(client, raised.headers["location"], timeout=SLOW)
        assert (done.status_code, done.json()) == (201, {"raised": 3000})
        after = total()
        assert after > before
        assert client.post("/prices/raise", data={"percent": "many"}).status_code == 400
        cancelled = client.post("/prices/raise", data={"percent": "3"})
        until_running(client, cancelled)  # polls wait for no transaction
        assert client.delete(cancelled.headers["location"]).status_code == 202
        assert poll(client, cancelled.headers["location"], timeout=SLOW).status_code == 410
        killed = client.post("/prices/raise", data={"percent": "3"})
        until_running(client, killed)
        worker.signal(signal.SIGKILL)  # its children end with it
        lost = poll(client, killed.headers["location"], timeout=SLOW)
        assert (lost.status_code, lost.json()["code"]) == (500, "interrupted")
        assert total() == after
