"""Object storages that are named wrongly, fail, refuse or hang, and processes that fork or die."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from raincheck.contracts import Store
from raincheck.errors import BodyMissing, ConfigurationError, StoreUnavailable
from raincheck.stores.memory import MemoryStore
from raincheck.stores.objects import with_bodies_at
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing import Clock
from raincheck.testing.material import HOUR, MIB, make_operation
from tests.support.processes import ROOT

pytestmark = pytest.mark.load
LARGE = b"\x00\xff" * MIB
ID = "0123456789abcdef" * 2
AT_MOST = 25.0  # seconds that a call may take: about ten, but for a machine under load
AT_ONCE = 0.4  # seconds that a call may take which does not ask the storage

may_fork = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def read(store: Store, id: str = ID) -> bytes:
    return next(store.read_chunks(id, 1, 0, 1))


def seconds(work: Callable[[], object]) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


# --- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/objects",
        "s3:",
        "s3://",
        "s3://[::1",
        "ftp://host/x",
        "file:",
        "file:///",
        "file://host/x",
        "file:relative",
        "file:///x%00",
        "az://container/x",  # its account is nowhere
        "s3://bucket?region=x",
        "s3://bucket#x",
    ],
)
def test_a_url_of_no_storage_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the URL of an object storage"):
        with_bodies_at(MemoryStore(), url)


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:s3cret@bucket/x",
        "s3://bucket/x?secret_access_key=s3cret",
        "az://container/x?sig=s3cret",
        "ftp://user:s3cret@host/x",
        "file://user:s3cret@host/x",
        "s3cret",
        "s3://s3cret@[::1",
    ],
)
def test_an_error_shows_no_credentials(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        with_bodies_at(MemoryStore(), url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("name", ["with space", "ümläut 日本", "per%20cent"])
def test_a_directory_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    store = with_bodies_at(MemoryStore(), path.as_uri())
    store.write_chunk(ID, 1, 0, LARGE)
    assert read(store) == LARGE
    assert path.is_dir()


# --- servers that fail ---------------------------------------------------------------------------


class Endpoint(ThreadingHTTPServer):
    """Something at the place of an S3 server that answers all requests alike."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status: int | None = 500  # None: no answer at all
        self.requests = 0
        self.released = threading.Event()


class _Answer(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.server.requests += 1
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.status is None:
            self.server.released.wait(60)
            self.close_connection = True
            return
        body = b"<Error><Code>TestCode</Code><Key>%s</Key></Error>" % self.path.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = _answer

    def log_message(self, format: str, *arguments: object) -> None:
        """Be quiet."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    with Endpoint() as server:
        monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-s3cret")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def failure(work: Callable[[], object]) -> str:
    """Return what is said of a storage that fails, which is never too much."""
    begin = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        work()
    assert time.monotonic() - begin < AT_MOST
    said = str(caught.value)
    for secret in (ID, "s3cret", "bucket", "127.0.0.1"):
        assert secret not in said
    return said


def test_constructing_connects_to_nothing(endpoint: Endpoint) -> None:
    threads = threading.active_count()
    with_bodies_at(MemoryStore(), "s3://bucket/prefix").close()
    assert endpoint.requests == 0
    assert threading.active_count() <= threads  # some of other tests may just have ended


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (500, "500 Internal Server Error (TestCode)"),
        (503, "503 Service Unavailable"),
        (403, "403 Forbidden"),
        (401, "401 Unauthorized"),
        (404, "404 Not Found"),
    ],
)
def test_a_server_that_refuses_makes_the_store_unavailable(
    endpoint: Endpoint, status: int, said: str
) -> None:
    store = with_bodies_at(MemoryStore(), "s3://bucket/prefix")
    endpoint.status = status
    assert said in failure(lambda: store.write_chunk(ID, 1, 0, LARGE))
    assert 1 <= endpoint.requests <= 5
    with pytest.raises(BodyMissing):
        read(store)
    store.write_chunk(ID, 1, 0, b"small")
    assert read(store) == b"small"
    store.discard(ID)
    assert store.purge(0.0) == 0


def test_a_server_that_hangs_costs_one_call_some_seconds_and_the_next_none(
    endpoint: Endpoint,
) -> None:
    store = with_bodies_at(MemoryStore(), "s3://bucket/prefix")
    endpoint.status = None
    assert "no answer" in failure(lambda: store.write_chunk(ID, 1, 0, LARGE))
    for work in (
        lambda: failure(lambda: store.write_chunk(ID, 1, 0, LARGE)),
        lambda: store.discard(ID),
    ):
        # A machine under load may hold up one or two of them.
        assert min(seconds(work) for _ in range(3)) < AT_ONCE


def test_a_server_that_is_not_there_is_found_when_it_is_back(endpoint: Endpoint) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{port}")
        store = with_bodies_at(MemoryStore(), "s3://bucket/prefix")
        failure(lambda: store.write_chunk(ID, 1, 0, LARGE))
    store.close()  # the next client takes its settings from the environment as it is now
    endpoint.status = 200
    store.write_chunk(ID, 1, 0, LARGE)
    with pytest.raises(BodyMissing):  # what comes back is not what was written
        read(store)


def test_plain_http_needs_leave(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    store = with_bodies_at(MemoryStore(), "s3://bucket/prefix")
    failure(lambda: store.write_chunk(ID, 1, 0, LARGE))
    assert endpoint.requests == 0


# --- directories that fail -----------------------------------------------------------------------


def test_a_directory_that_was_removed_is_no_reason_to_forget_a_body(tmp_path: Path) -> None:
    path = tmp_path / "objects"
    store = with_bodies_at(MemoryStore(), f"file://{path}")
    store.write_chunk(ID, 1, 0, LARGE)
    path.rename(tmp_path / "elsewhere")
    assert "mounted?" in failure(lambda: read(store))
    (tmp_path / "elsewhere").rename(path)
    assert read(store) == LARGE


def test_a_file_in_the_place_of_the_directory_makes_the_store_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = with_bodies_at(MemoryStore(), f"file://{tmp_path}/file/objects")
    assert "Not a directory" in failure(lambda: store.write_chunk(ID, 1, 0, LARGE))


# --- forks and kills -----------------------------------------------------------------------------

# In processes of their own: what uses objects here must not spoil forks of other tests.
_SCRIPT = """
import sys
from raincheck.stores.objects import with_bodies_at
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing.material import run_in_fork
from raincheck.errors import StoreUnavailable
path, LARGE = sys.argv[1], bytes(1024 * 1024)
store = with_bodies_at(SQLiteStore(f"{path}/operations.db"), f"file://{path}/objects")
"""


def run(path: Path, script: str, **options: Any) -> None:
    command = [sys.executable, "-c", _SCRIPT + script, str(path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60, **options)


def test_a_process_that_has_not_used_objects_may_fork(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
def work():
    store.write_chunk("a", 1, 0, LARGE)
    assert next(store.read_chunks("a", 1, 0, 1)) == LARGE
    store.discard("a")
assert run_in_fork(work)
assert run_in_fork(work)
work()
""",
    )


def test_a_fork_of_a_process_that_has_used_objects_waits_for_nothing(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
store.write_chunk("old", 1, 0, LARGE)
def work():
    store.write_chunk("new", 1, 0, LARGE)
    assert next(store.read_chunks("new", 1, 0, 1)) == LARGE
    try:
        next(store.read_chunks("old", 1, 0, 1))
        raise AssertionError
    except StoreUnavailable as error:
        assert "forked" in str(error)
    store.discard("old")
    store.purge(store.now())
    store.close()
assert run_in_fork(work)
assert next(store.read_chunks("new", 1, 0, 1)) == LARGE
store.write_chunk("again", 1, 0, LARGE)
assert next(store.read_chunks("again", 1, 0, 1)) == LARGE
""",
    )


@pytest.mark.slow
def test_a_killed_process_leaves_whole_chunks_and_what_is_swept(
    tmp_path: Path, clock: Clock
) -> None:
    loop = "n = 0\nwhile True:\n    store.write_chunk('a', 1, n, LARGE)\n    n += 1\n    print(n)"
    for _ in range(5):
        command = [sys.executable, "-uc", _SCRIPT + loop, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(20):
                line = process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
        written = int(rest[-1] if rest else line)
        base = SQLiteStore(tmp_path / "operations.db", clock=clock)
        with closing(with_bodies_at(base, f"file://{tmp_path}/objects")) as store:
            assert list(store.read_chunks("a", 1, 0, written)) == [bytes(MIB)] * written
    with closing(with_bodies_at(base, f"file://{tmp_path}/objects")) as store:
        clock.now += 2 * HOUR
        store.purge(clock.now)
        with pytest.raises(BodyMissing):
            read(store, "a")
    assert [path for path in (tmp_path / "objects").rglob("*") if path.is_file()] == []


@pytest.fixture
def clock() -> Clock:
    return Clock()


# --- from end to end -----------------------------------------------------------------------------


def test_operations_go_on_in_the_store_while_the_storage_fails(endpoint: Endpoint) -> None:
    store = with_bodies_at(MemoryStore(), "s3://bucket/prefix")
    store.create(make_operation(ID))
    failure(lambda: store.write_chunk(ID, 1, 0, LARGE))
    assert store.get(ID) == make_operation(ID)
