"""`python -m raincheck demo` as people start it, and its application in this process."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from raincheck.cli.demo import library
from raincheck.cli.demo.application import app
from raincheck.cli.demo.archive import build_archive
from raincheck.cli.demo.instructions import instructions
from raincheck.errors import OperationCancelled
from tests.examples.running import asked
from tests.support.polling import poll
from tests.support.processes import ServerProcess

LARGE = "encodings"  # no Python comes without it
SLOW = 90.0  # seconds; the archive takes about ten of an idle machine
ASYNC = {"Prefer": "respond-async"}


def demo(state: Path) -> ServerProcess:
    environment = {"XDG_STATE_HOME": str(state), "RAINCHECK_STORE": "", "TMPDIR": str(state)}
    return ServerProcess(["-m", "raincheck", "demo", "--port", "{port}"], env=environment)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with demo(tmp_path_factory.mktemp("state")) as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=SLOW) as found:
        yield found


def unpack(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:xz") as opened:
        contents = {m.name: opened.extractfile(m) for m in opened.getmembers()}
        return {name: content.read() for name, content in contents.items() if content}


def sources(package: str) -> dict[str, bytes]:
    """Read a package's files without the demo's own code."""
    root = Path(os.__file__).parent
    files = [f for f in (root / package).rglob("*") if f.is_file() and f.parent.name[:2] != "__"]
    return {f.relative_to(root).as_posix(): f.read_bytes() for f in files}


def until(condition: Callable[[], bool], timeout: float = SLOW) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def watch(client: httpx.Client, status: str) -> list[dict[str, Any]]:
    """Ask for the index and for progress in turns until the operation is over."""
    seen: list[dict[str, Any]] = []
    while (document := client.get(status).json())["status"] == "running":
        assert client.get("/").status_code == 200
        seen += [document["progress"]] if "progress" in document else []
        time.sleep(0.02)
    return seen


def open_temporary_files(server: ServerProcess) -> int:
    count = 0
    for link in Path(f"/proc/{server.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has just been closed
            count += os.readlink(link).endswith("(deleted)")
    return count


# --- through the wire ---------------------------------------------------------------------------


@pytest.mark.server
def test_the_index_says_what_to_try(server: ServerProcess, client: httpx.Client) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert f"curl -i {server.url}/archives/" in response.text


@pytest.mark.server
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_small_package_is_answered_at_once(client: httpx.Client, method: str) -> None:
    path = "/archives/sqlite3" if method == "GET" else "/archives"
    response = asked(lambda: client.request(method, path, json={"package": "sqlite3"}), 200)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-xz"
    assert response.headers["content-disposition"] == 'attachment; filename="sqlite3.tar.xz"'
    assert "operation-status" not in response.headers
    assert unpack(response.content) == sources("sqlite3")


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_large_package_is_promoted_reports_progress_and_unpacks(
    client: httpx.Client, method: str
) -> None:
    path = f"/archives/{LARGE}" if method == "GET" else "/archives"
    accepted = client.request(method, path, json={"package": LARGE})
    assert accepted.status_code == 202
    seen = watch(client, accepted.headers["operation-location"])
    assert len({progress["completed"] for progress in seen}) > 1
    assert len(seen) > 20  # so often the index was answered meanwhile
    assert {progress["total"] for progress in seen} == {len(sources(LARGE))}
    archive = poll(client, accepted.headers["location"], timeout=SLOW)
    assert archive.status_code == 200
    assert archive.headers["operation-status"] == "succeeded"
    assert archive.headers["content-type"] == "application/x-xz"
    assert unpack(archive.content) == sources(LARGE)


@pytest.mark.server
def test_a_failing_handler_becomes_a_problem_document(client: httpx.Client) -> None:
    accepted = client.get("/broken")
    assert accepted.status_code == 202
    response = poll(client, accepted.headers["location"])
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["operation-status"] == "failed"
    assert response.json()["code"] == "exception"


@pytest.mark.server
def test_the_marked_handler_is_deferred_whatever_the_budget(client: httpx.Client) -> None:
    accepted = client.get("/library", headers={"Prefer": "wait=25"}, timeout=20)
    assert accepted.status_code == 202
    client.delete(accepted.headers["location"])
    assert poll(client, accepted.headers["location"]).status_code == 410


@pytest.mark.server
def test_a_cancelled_archive_leaves_no_temporary_file(
    server: ServerProcess, client: httpx.Client
) -> None:
    before = open_temporary_files(server)
    accepted = client.get("/library")
    location, status = accepted.headers["location"], accepted.headers["operation-location"]
    until(lambda: "progress" in client.get(status).json())
    assert open_temporary_files(server) > before
    cancelled = client.delete(location)
    assert cancelled.status_code == 202
    assert cancelled.json()["status"] == "cancelling"
    assert poll(client, location).status_code == 410
    assert client.get(status).json()["status"] == "canceled"
    assert open_temporary_files(server) == before


@pytest.mark.server
def test_a_finished_archive_outlives_the_server_process(tmp_path: Path) -> None:
    with demo(tmp_path) as server, httpx.Client(timeout=SLOW) as client:
        accepted = client.get(f"{server.url}/archives/sqlite3", headers=ASYNC)
        assert accepted.status_code == 202
        first = poll(client, accepted.headers["location"])
        assert first.headers["operation-status"] == "succeeded"
        server.terminate()
        with pytest.raises(httpx.TransportError):
            client.get(accepted.headers["location"])
        server.start()
        again = client.get(accepted.headers["location"])
    assert again.status_code == 200
    assert again.content == first.content
    assert unpack(again.content) == sources("sqlite3")


@pytest.mark.server
def test_an_interrupted_demo_shuts_down_without_a_traceback(tmp_path: Path) -> None:
    with demo(tmp_path) as server:
        assert httpx.get(server.url, timeout=SLOW).status_code == 200
        server.signal(signal.SIGINT)
        output = server.wait()
        assert server.process is not None
        assert server.process.returncode == 0
    assert instructions(server.url) in output
    assert "Traceback" not in output


@pytest.mark.server
def test_a_second_demo_on_the_same_port_says_so(server: ServerProcess) -> None:
    command = [sys.executable, "-m", "raincheck", "demo", "--port", str(server.port)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SLOW, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"Port {server.port} of 127.0.0.1 is in use")


@pytest.mark.server
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_printed_shell_lines_fetch_an_archive(server: ServerProcess, tmp_path: Path) -> None:
    printed = instructions(server.url).replace(_large(server.url), "unittest")
    lines = [line.strip() for line in printed.splitlines() if line.startswith("    ")]
    first = next(n for n, line in enumerate(lines) if line.startswith("R="))
    script = "\n".join(lines[first : first + 5])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    command = ["sh", "-ec", script]
    subprocess.run(command, cwd=tmp_path, env=environment, timeout=SLOW, check=True)
    assert unpack((tmp_path / "archive.tar.xz").read_bytes()) == sources("unittest")


def _large(url: str) -> str:
    found = re.search(rf"curl -i {re.escape(url)}/archives/(\w+)", instructions(url))
    assert found is not None
    return found[1]


# --- in this process ----------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setenv("RAINCHECK_STORE", "memory:")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return TestClient(app)


BODIES = [b"", b"{", b"[]", b'"json"', b"null", b'{"package": 1}', b"\xff", b"[" * 100_000]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_body_that_names_no_package_is_answered_400(local: TestClient, body: bytes) -> None:
    response = local.post("/archives", content=body)
    assert response.status_code == 400
    assert "error" in response.json()


NO_PACKAGES = ["sys", "starlette", "site-packages", "..", "../json", "/etc", "json/..", "json.", ""]


@pytest.mark.parametrize("name", NO_PACKAGES)
def test_what_is_no_package_of_the_library_is_answered_404(local: TestClient, name: str) -> None:
    response = local.post("/archives", json={"package": name})
    assert response.status_code == 404
    assert "error" in response.json()


def test_an_unknown_package_in_the_path_is_answered_404(local: TestClient) -> None:
    assert local.get("/archives/starlette").json().keys() == {"error"}
    assert local.get("/archives/starlette").status_code == 404
    assert local.get("/archives/..%2f..%2fetc").status_code == 404


def test_a_head_request_does_not_build_an_archive(
    local: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raincheck.cli.demo.application.build_archive", pytest.fail)
    assert local.head("/archives/json").status_code == 405


def test_naming_a_module_does_not_import_it() -> None:
    library.source_files("antigravity")  # it would open a browser
    assert "antigravity" not in sys.modules


def test_the_same_files_make_the_same_archive_in_the_order_of_their_names() -> None:
    files = library.source_files("dbm")
    with build_archive(files) as first, build_archive(files) as second:
        content = first.read()
        assert content == second.read()
    assert list(unpack(content)) == sorted(sources("dbm"))


def test_the_whole_library_has_every_package_and_nothing_that_was_installed() -> None:
    names = {library.member_name(file) for file in library.all_source_files()}
    assert {"json/__init__.py", "os.py", "encodings/utf_8.py"} <= names
    assert not any(name.startswith("site-packages/") for name in names)
    assert not any("__pycache__" in name for name in names)


class _Cancelled:
    def raise_if_cancelled(self) -> None:
        raise OperationCancelled


def test_a_cancelled_archive_closes_its_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raincheck.cli.demo.archive.current_operation", _Cancelled)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OperationCancelled):
        build_archive(library.source_files("json"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_browser_is_shown_what_to_click_and_a_shell_what_to_type() -> None:
    with TestClient(app) as client:
        typed = client.get("/")
        clicked = client.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert typed.text == instructions("http://testserver")
    assert clicked.headers["content-type"] == "text/html; charset=utf-8"
    assert {typed.headers["vary"], clicked.headers["vary"]} == {"Accept"}
    for target in re.findall(r'href="(/[^"]*)"', clicked.text):
        assert target in typed.text
    assert '<form method="post" action="/archives">' in clicked.text


def test_a_form_is_archived_as_json_is() -> None:
    with TestClient(app) as client:
        sent = client.post("/archives", data={"package": "json"})
        assert client.post("/archives", data={"other": "json"}).status_code == 400
    assert "json/decoder.py" in unpack(sent.content)
