"""Running all benchmarks in one go, with benchmarks that measure nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as in_one_go
from tests.benchmarks.asgi_load import load, request
from tests.benchmarks.figures import Figure, Run
from tests.benchmarks.tables import less, ratio

HERE = Path(__file__).parent


def run(**figures: Figure) -> Run:
    return Run("2026-12-01T12:00:00+00:00", "abc", False, {}, {}, figures=figures)


class Chunked(BaseHTTPRequestHandler):
    """Answers in chunks, as WSGI servers do where an application names no length."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"2\r\nok\r\n1a\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n")

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture
def chunked() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Chunked) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_none_of_the_benchmarks_is_forgotten() -> None:
    texts = {path.stem: path.read_text() for path in HERE.glob("*.py")}
    scripts = {name for name, text in texts.items() if f'parser("{name}", __doc__)' in text}
    assert scripts == set(in_one_go.BENCHMARKS)


def test_a_benchmark_that_fails_is_told_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(in_one_go, "BENCHMARKS", ("nowhere", "nor_here"))
    kept = tmp_path / "new" / "kept.json"
    monkeypatch.setattr("sys.argv", ["benchmarks", "--keep", str(kept)])
    assert in_one_go.main() == 1
    read = Run.from_json(kept.read_text())
    assert read.failed == ["nowhere", "nor_here"]
    assert read.seconds.keys() == read.load.keys() == {"nowhere", "nor_here"}
    assert "failed: nor_here" in capfd.readouterr().out


def test_a_benchmark_that_takes_too_long_has_failed_and_is_over() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    assert in_one_go._wait(process, 0.0) == "it took more than 0 s"
    assert process.returncode


def test_a_worse_ratio_is_slower(capsys: pytest.CaptureFixture[str]) -> None:
    before, now = (run(a=ratio([value], [2.0], "more")) for value in (1.0, 0.5))
    assert in_one_go.show_changes(before, now)
    assert not in_one_go.show_changes(now, before)
    assert not in_one_go.show_changes(before, before)
    assert "another machine" not in capsys.readouterr().out


def test_absolute_numbers_are_shown_and_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert not in_one_go.show_changes(run(latency=less(1.0)), run(latency=less(9.0)))
    assert "latency" in capsys.readouterr().out


def test_where_there_is_no_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert in_one_go.commit() == ""


def test_a_client_in_python_reads_answers_that_come_in_chunks(chunked: int) -> None:
    assert len(load(chunked, request("/"), 3, connections=1)) == 3


def test_a_client_in_python_asks_for_as_long_as_it_is_told(chunked: int) -> None:
    assert load(chunked, request("/"), seconds=0.0, connections=1) == []
