"""A body of any size goes through a server in little memory, both ways, on every store.

TEST_BODY_MIB says how large the bodies are; 128 by default.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from tests.stores.large_bodies import pieces
from tests.support.processes import ServerProcess, children
from tests.support.real_servers import postgresql_url, redis_url
from tests.support.slow import others_slow

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

MIB = 1024 * 1024
SIZE = int(os.environ.get("TEST_BODY_MIB", "128")) * MIB
GROWTH = 32 * MIB  # what a server's memory may grow by
TIMEOUT = 30.0 + SIZE / MIB  # seconds; a machine under load is slow

SERVERS = {
    "uvicorn": "-m uvicorn --factory {app}:asgi --port {port} --log-level warning --no-access-log",
    "gunicorn": "-m gunicorn {app}:wsgi() --bind 127.0.0.1:{port} --log-level warning "
    "--worker-class gthread --threads 4",
}

logger = logging.getLogger(__name__)  # shown by --log-cli-level=INFO


# --- stores ------------------------------------------------------------------------------------


@contextmanager
def sqlite(directory: Path) -> Iterator[str]:
    yield f"sqlite://{directory}/operations.db"


@contextmanager
def memory(directory: Path) -> Iterator[str]:
    yield "memory:"


@contextmanager
def on_redis(directory: Path) -> Iterator[str]:
    prefix = f"large-{secrets.token_hex(6)}"
    yield f"{redis_url()}?prefix={prefix}"
    with closing(redis.Redis.from_url(redis_url())) as client:
        for key in client.scan_iter(f"{prefix}*"):
            client.unlink(key)


@contextmanager
def on_postgresql(directory: Path) -> Iterator[str]:
    schema = f"large_{secrets.token_hex(6)}"
    yield f"{postgresql_url()}?schema={schema}"
    with psycopg.connect(postgresql_url(), autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


STORES = {
    "memory": memory,
    "sqlite": sqlite,
    "redis": on_redis,
    "postgresql": on_postgresql,
    "objects": sqlite,
}


# --- servers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """A server whose memory is watched, and a client.

    Attributes:
        keeps_in_memory: Whether its store has nowhere else to keep bodies.
    """

    process: ServerProcess
    client: httpx.Client
    keeps_in_memory: bool

    def finished(self, accepted: httpx.Response) -> str:
        """Wait until an operation has ended and return the URL of its response."""
        assert accepted.status_code == 202, accepted.text
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            status = self.client.get(accepted.headers["operation-location"]).json()
            if status["status"] not in ("accepted", "running"):
                assert status["status"] == "succeeded", status
                return accepted.headers["location"]
            time.sleep(0.05)
        pytest.fail("the operation did not end in time")

    @contextmanager
    def in_little_memory(self, *, or_not: bool = False) -> Iterator[None]:
        """Check that no process of the server grows much meanwhile."""
        pids = [self.process.pid, *children(self.process.pid)]
        for pid in pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM begins anew
        before = {pid: _memory(pid, "VmRSS") for pid in pids}
        begin = time.monotonic()
        yield
        growth = max(_memory(pid, "VmHWM") - before[pid] for pid in pids)
        logger.info("%.1f s, at most %+.1f MiB", time.monotonic() - begin, growth / MIB)
        assert growth <= GROWTH or or_not


def _memory(pid: int, name: str) -> int:
    """Return what a process has in memory (`VmRSS`), or has had at most (`VmHWM`), in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


@pytest.fixture(scope="module", params=others_slow(list(STORES), 2))
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=others_slow(list(SERVERS)))
def site(
    request: pytest.FixtureRequest, store: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("large")
    with STORES[store](directory) as url:
        environment = {
            "RAINCHECK_STORE": url,
            "TEST_BODIES": f"file://{directory}/objects" if store == "objects" else "",
            "TMPDIR": str(directory),
        }
        command = SERVERS[request.param].replace("{app}", "tests.stores.large_bodies").split()
        with (
            ServerProcess(command, env=environment) as process,
            httpx.Client(base_url=process.url, timeout=TIMEOUT, trust_env=False) as client,
        ):
            site = Site(process, client, keeps_in_memory=store == "memory")
            client.delete(site.finished(client.get(f"/?{8 * MIB}")))  # now all is imported and open
            yield site


# --- the promise -------------------------------------------------------------------------------


def test_a_large_response_takes_little_memory(site: Site) -> None:
    with site.in_little_memory(or_not=site.keeps_in_memory):
        location = site.finished(site.client.get(f"/?{SIZE}"))
        with site.client.stream("GET", location) as response:
            assert response.status_code == 200
            assert response.headers["content-length"] == str(SIZE)
            found = digest(response.iter_raw())
    assert found == digest(pieces(SIZE))
    assert site.client.delete(location).status_code == 204


def test_a_large_upload_takes_little_memory(site: Site) -> None:
    with site.in_little_memory():
        headers = {"content-length": str(SIZE)}
        accepted = site.client.post("/", content=pieces(SIZE), headers=headers)
        found = site.client.get(site.finished(accepted)).text
    assert found == digest(pieces(SIZE))


def digest(body: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for piece in body:
        found.update(piece)
    return found.hexdigest()
