"""A real pgbouncer that gives each transaction another session, in front of a PostgreSQL server."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.processes import free_port
from tests.support.real_servers import unprivileged_user

START_TIMEOUT = 60.0  # seconds; a machine under load is slow
CONFIGURATION = """
[databases]
* = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
"""


@contextmanager
def pgbouncer(url: str) -> Iterator[str]:
    """Yield the URL under which a pooler in transaction mode leads to the same database."""
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if binary is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI has to have a pgbouncer", pytrace=False)
        pytest.skip("there is no pgbouncer")
    port = free_port()
    pooled = f"postgresql://{_user(url)}@127.0.0.1:{port}/{_parameters(url)['dbname']}"
    with tempfile.TemporaryDirectory() as name:
        process = _start(binary, _configure(Path(name), url, port))
        try:
            _wait_until_it_answers(pooled, process)
            yield pooled
        finally:
            process.kill()
            process.wait()


def _parameters(url: str) -> dict[str, object]:
    return dict(conninfo_to_dict(url))


def _user(url: str) -> str:
    return str(_parameters(url).get("user") or pwd.getpwuid(os.geteuid()).pw_name)


def _configure(directory: Path, url: str, own_port: int) -> Path:
    known = _parameters(url) | {"user": _user(url)}
    names = ("host", "port", "user", "password")
    server = " ".join(f"{name}={known[name]}" for name in names if name in known)
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(CONFIGURATION.format(server=server, own_port=own_port))
    directory.chmod(0o755)
    return configuration


def _start(binary: str, configuration: Path) -> subprocess.Popen[bytes]:
    # It refuses to run as root.
    return subprocess.Popen(
        [binary, "--quiet", str(configuration)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=unprivileged_user(),
    )


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
