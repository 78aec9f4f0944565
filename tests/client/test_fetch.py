"""`raincheck fetch`: curl that waits."""

from __future__ import annotations

import io
import os
import pty
import signal
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from raincheck.cli.fetch.download import Broken, Download
from raincheck.cli.fetch.showing import Display, described, display
from raincheck.cli.main import main
from raincheck.cli.plain import plain
from raincheck.cli.progress import NoBar
from raincheck.client import Progress
from tests.client.rough_server import BIG, HALF, PATIENCE, RoughServer
from tests.support.terminals import said_on

FETCH = [sys.executable, "-m", "raincheck", "fetch"]
Capture = pytest.CaptureFixture[bytes]


def fetch(*arguments: str | Path) -> int:
    """Run the command in this process."""
    return main(["fetch", *map(str, arguments)])


def test_fetch_prints_the_response_that_comes_in_the_end(
    rough: RoughServer, capfdbinary: Capture
) -> None:
    assert fetch(f"{rough.url}/start/rough") == 0
    assert capfdbinary.readouterr() == (b"the report", b"")
    assert rough.lines[0] == "GET /start/rough"


def test_fetch_sends_what_it_is_told_as_curl_does(rough: RoughServer, tmp_path: Path) -> None:
    secret = tmp_path / "headers"
    secret.write_text("Authorization: Bearer x\nX-Key: y\n")
    body = tmp_path / "body"
    body.write_bytes(b"two\nlines\n")
    url = f"{rough.url}/start/report"
    assert fetch(url, "-d", f"@{body}", "-H", f"@{secret}", "--prefer-wait", "3") == 0
    assert fetch(url, "-X", "PUT", "--data", "{}", "-H", "content-type: application/json") == 0
    posted, put = rough.asked("POST /start/report")[0], rough.asked("PUT /start/report")[0]
    assert posted["content-type"] == "application/x-www-form-urlencoded"
    assert (posted["authorization"], posted["x-key"]) == ("Bearer x", "y")
    assert posted["prefer"] == "wait=3"
    assert posted["user-agent"].startswith("raincheck/")
    assert put["content-type"] == "application/json"
    assert [body for body in rough.bodies if body] == [b"two\nlines\n", b"{}"]
    assert rough.asked("GET /report")[0]["prefer"] == "wait=3"


@pytest.mark.parametrize(
    ("path", "more", "status", "said"),
    [
        ("report", [], 0, b""),
        ("conflict", [], 4, b"answers 409"),
        ("start/slow", ["--deadline", "0.2"], 3, b"has not ended within 0.2 s"),
        ("start/refused", [], 1, b"answered 401"),
        ("start/lost", [], 1, b""),
    ],
)
def test_fetch_ends_with_a_status_that_says_how_it_went(
    path: str,
    more: list[str],
    status: int,
    said: bytes,
    rough: RoughServer,
    capfdbinary: Capture,
) -> None:
    url = f"{rough.url}/{path}" if path != "start/lost" else "http://127.0.0.1:1/"
    assert fetch(url, *more) == status
    assert said in capfdbinary.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ["ftp://example.org/"],
        ["no url"],
        ["http://127.0.0.1/", "--resume"],
        ["http://127.0.0.1/", "-H", "Authorization Bearer secret"],
        ["http://127.0.0.1/", "-H", "A: b\nc: secret"],
        ["http://127.0.0.1/", "-H", "@/nowhere"],
        ["http://127.0.0.1/", "-d", "@/nowhere"],
        ["http://127.0.0.1/", "--deadline", "soon"],
        ["http://127.0.0.1/", "--prefer-wait", "-1"],
        ["http://127.0.0.1/", "--place", "/{id}", "--deadline", "nan"],
    ],
)
def test_fetch_refuses_what_can_t_be_meant(wrong: list[str], capfdbinary: Capture) -> None:
    try:
        status = fetch(*wrong)
    except SystemExit as exit_:
        status = int(str(exit_.code))
    assert status == 2
    said = capfdbinary.readouterr().err
    assert said
    assert b"secret" not in said


def test_fetch_prints_no_credential(rough: RoughServer, capfdbinary: Capture) -> None:
    host = rough.url.removeprefix("http://")
    for path, deadline in (("conflict", 9), ("start/refused", 9), ("start/slow", 0.1)):
        url = f"http://ada:geheim@{host}/{path}?sig=geheim"
        fetch(url, "-H", "X-Key: geheim", "--deadline", str(deadline), "--no-cancel")
    fetch("http://ada:geheim@127.0.0.1:1/?sig=geheim", "-H", "X-Key: geheim")
    assert b"geheim" not in capfdbinary.readouterr().err
    assert rough.asked("GET /refused")[0]["authorization"].startswith("Basic ")


def test_fetch_keeps_given_fields_from_other_origins(rough: RoughServer, tmp_path: Path) -> None:
    other = rough.url.replace("127.0.0.1", "localhost")
    given = ["-H", "X-Key: secret", "-H", "Authorization: Bearer secret"]
    moved = tmp_path / "moved"
    assert fetch(f"{rough.url}/moved?{other}/report", "-L", "-o", moved, *given) == 0
    assert moved.read_bytes() == b"the report"
    assert "x-key" in rough.asked("GET /moved")[0]
    assert not {"x-key", "authorization"} & rough.asked("GET /report")[0].keys()


def test_fetch_writes_a_file_whole_or_not_at_all(
    rough: RoughServer, tmp_path: Path, capfdbinary: Capture
) -> None:
    file = tmp_path / "report"
    assert fetch(f"{rough.url}/start/report", "-o", file) == 0
    assert file.read_bytes() == b"the report"
    assert fetch(f"{rough.url}/conflict", "-o", file) == 4
    assert file.read_bytes() == b"the report"
    assert os.listdir(tmp_path) == ["report"]
    said = capfdbinary.readouterr().err
    assert b"red" in said
    assert b"\x1b" not in said
    assert b"\x07" not in said


def test_fetch_goes_on_with_a_download_that_breaks_off(rough: RoughServer, tmp_path: Path) -> None:
    file = tmp_path / "big"
    assert fetch(f"{rough.url}/start/big", "-o", file) == 0
    assert file.read_bytes() == BIG
    assert rough.asked("GET /big")[1]["range"] == f"bytes={HALF}-"
    assert rough.asked("GET /big")[1]["if-range"] == '"big"'
    assert os.listdir(tmp_path) == ["big"]
    assert rough.tries["/start/big"] == 1


def test_fetch_asks_on_where_a_server_gives_less_than_the_rest(
    rough: RoughServer, tmp_path: Path
) -> None:
    assert fetch(f"{rough.url}/start/capped", "-o", tmp_path / "big") == 0
    assert (tmp_path / "big").read_bytes() == BIG
    assert rough.tries["/capped"] == 3


def rest_of_ten(*parts: tuple[str, bytes, str]) -> bytes:
    """Download what follows the first four bytes of ten, by 206s that are given."""
    left = list(parts)

    def again(_headers: dict[str, str]) -> httpx.Response:
        span, body, etag = left.pop(0)
        fields = {"content-range": span, "etag": etag}
        return httpx.Response(206, headers=fields, stream=httpx.ByteStream(body))

    file = io.BytesIO(b"0123")
    file.seek(4)
    Download(file, Display(NoBar()), again, '"a"', 4, 10).run()
    return file.getvalue()


def test_fetch_puts_parts_together_that_are_of_one_response() -> None:
    whole = rest_of_ten(("bytes 4-9/10", b"456789", '"a"'))
    assert whole == b"0123456789"
    assert whole == rest_of_ten(
        ("bytes 4-4/*", b"4", '"a"'), ("bytes 5-7/10", b"567", '"a"'), ("bytes 8-9/*", b"89", '"a"')
    )


@pytest.mark.parametrize(
    ("span", "body", "etag"),
    [
        ("bytes 4-9/10", b"456789", '"b"'),
        ("bytes 4-9/10", b"456789", 'W/"a"'),
        ("bytes 4-9/10", b"456789", ""),
        ("bytes 4-9/10", b"456789x", '"a"'),
        ("bytes 4-6/10", b"456789", '"a"'),
        ("bytes 5-9/10", b"56789", '"a"'),
        ("bytes 4-10/11", b"456789x", '"a"'),
        ("bytes 4-10/10", b"456789x", '"a"'),
        ("bytes 4-3/10", b"", '"a"'),
        ("bytes 4-9", b"456789", '"a"'),
        ("lines 4-9/10", b"456789", '"a"'),
        ("", b"456789", '"a"'),
    ],
)
def test_fetch_refuses_a_part_that_is_not_the_next_of_the_same_response(
    span: str, body: bytes, etag: str
) -> None:
    with pytest.raises(Broken):
        rest_of_ten((span, body, etag))


def test_fetch_asks_again_for_what_a_part_lacks() -> None:
    short = ("bytes 4-9/10", b"45", '"a"')
    assert rest_of_ten(short, ("bytes 6-9/10", b"6789", '"a"')) == b"0123456789"


def test_fetch_resumes_no_file_that_another_run_has_begun(
    rough: RoughServer, tmp_path: Path, capfdbinary: Capture
) -> None:
    file, url = tmp_path / "big", f"{rough.url}/start/twice"
    assert fetch(url, "-o", file) == 1
    assert (tmp_path / "big.part").read_bytes() == BIG[:HALF]
    assert fetch(f"{rough.url}/stub", "-o", file) == 1
    assert (tmp_path / "big.part").read_bytes() == b"s" * 300
    assert fetch(url, "-o", file, "--resume") == 2
    assert b"nothing to resume" in capfdbinary.readouterr().err
    assert not file.exists()


def test_fetch_begins_anew_where_the_part_is_another_file(
    rough: RoughServer, tmp_path: Path
) -> None:
    file, url = tmp_path / "big", f"{rough.url}/start/twice"
    assert fetch(url, "-o", file) == 1
    other = tmp_path / "other"
    other.write_bytes(b"s" * 300)
    other.replace(tmp_path / "big.part")
    assert fetch(url, "-o", file, "--resume") == 0
    assert file.read_bytes() == BIG
    assert rough.tries["/start/twice"] == 1


def test_fetch_writes_to_nothing_that_a_link_of_its_own_names_leads_to(
    rough: RoughServer, tmp_path: Path
) -> None:
    victim, file = tmp_path / "victim", tmp_path / "report"
    victim.write_bytes(b"mine")
    note = tmp_path / "report.raincheck"
    for name in ("report.part", "report.raincheck"):
        (tmp_path / name).symlink_to(victim)
    slow = f"{rough.url}/start/slow"
    assert fetch(slow, "-o", file, "--deadline", "0.1", "--no-cancel") == 3
    assert not note.is_symlink()
    note.chmod(0o644)
    assert fetch(slow, "-o", file, "--deadline", "0.1", "--no-cancel") == 3
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    assert fetch(f"{rough.url}/report", "-o", file) == 0
    assert not file.is_symlink()
    assert (file.read_bytes(), victim.read_bytes()) == (b"the report", b"mine")


def test_fetch_puts_no_two_responses_together(
    rough: RoughServer, tmp_path: Path, capfdbinary: Capture
) -> None:
    assert fetch(f"{rough.url}/start/changing", "-o", tmp_path / "file") == 1
    assert not (tmp_path / "file").exists()
    assert b"can't be had" in capfdbinary.readouterr().err


def test_fetch_resumes_in_another_run(rough: RoughServer, tmp_path: Path) -> None:
    file, url = tmp_path / "report", f"{rough.url}/start/slow"
    assert fetch(url, "-o", file, "--deadline", "0.1", "--no-cancel") == 3
    note = tmp_path / "report.raincheck"
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    assert fetch(url, "-o", file, "--resume", "--deadline", "0.1") == 3
    assert rough.tries["/start/slow"] == 1
    assert rough.cancelled.is_set()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["start/failed", "start/gone"])
def test_fetch_leaves_nothing_of_an_operation_that_ends_with_an_error(
    path: str, rough: RoughServer, tmp_path: Path
) -> None:
    assert fetch(f"{rough.url}/{path}", "-o", tmp_path / "report") == 4
    assert os.listdir(tmp_path) == []


def test_fetch_goes_on_although_a_resume_had_the_wrong_credential(
    rough: RoughServer, tmp_path: Path, capfdbinary: Capture
) -> None:
    file, url = tmp_path / "report", f"{rough.url}/start/locked"
    command, right = [url, "-o", str(file)], ["-H", "Authorization: Bearer x"]
    assert fetch(*command, *right, "--deadline", "0.1", "--no-cancel") == 3
    rough.goes_on.set()
    for refusal, status in ((401, 1), (403, 4), (404, 4), (500, 5)):
        assert fetch(*command, "--resume", "-H", f"X-Refusal: {refusal}") == status
        assert os.listdir(tmp_path) == ["report.raincheck"]
    assert b"answers 404; --resume asks again" in capfdbinary.readouterr().err
    assert fetch(*command, *right, "--resume") == 0
    assert file.read_bytes() == b"the report"
    assert os.listdir(tmp_path) == ["report"]
    assert rough.tries["/start/locked"] == 1


def test_fetch_keeps_what_leads_to_an_operation_that_would_not_be_cancelled(
    rough: RoughServer, tmp_path: Path
) -> None:
    url = f"{rough.url}/start/stubborn"
    assert fetch(url, "-o", tmp_path / "report", "--deadline", "0.1") == 3
    assert rough.cancelled.is_set()
    assert os.listdir(tmp_path) == ["report.raincheck"]


@pytest.mark.server
def test_fetch_resumes_a_download_in_another_run(rough: RoughServer, tmp_path: Path) -> None:
    file, url = tmp_path / "big", f"{rough.url}/start/drip_tagged"
    command = [*FETCH, url, "-o", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert rough.half_sent.wait(PATIENCE)
        part = tmp_path / "big.part"
        while not part.exists() or part.stat().st_size < HALF // 2:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert b"interrupted; --resume goes on" in process.stderr.read()
    rough.goes_on.set()
    assert 0 < part.stat().st_size < len(BIG)
    assert fetch(url, "-o", file, "--resume") == 0
    assert file.read_bytes() == BIG
    assert rough.tries["/start/drip_tagged"] == 1
    assert os.listdir(tmp_path) == ["big"]


def test_fetch_resumes_only_where_there_is_something(
    rough: RoughServer, tmp_path: Path, capfdbinary: Capture
) -> None:
    assert fetch(f"{rough.url}/report", "-o", tmp_path / "x", "--resume") == 2
    assert b"nothing to resume" in capfdbinary.readouterr().err
    url = f"{rough.url}/start/slow"
    fetch(url, "-o", tmp_path / "y", "--deadline", "0.1", "--no-cancel")
    elsewhere = url.replace("127.0.0.1", "localhost")
    assert fetch(elsewhere, "-o", tmp_path / "y", "--resume") == 1
    assert b"of another origin" in capfdbinary.readouterr().err


def test_fetch_sends_a_post_again_only_under_a_key(rough: RoughServer) -> None:
    assert fetch(f"{rough.url}/lost_start", "-d", "x") == 1
    assert rough.tries["/lost_start"] == 1
    rough.tries.clear()
    assert fetch(f"{rough.url}/lost_start", "-d", "x", "--idempotency-key") == 0


@pytest.mark.server
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_fetch_cancels_the_operation_when_it_is_interrupted(
    number: signal.Signals, status: int, rough: RoughServer, tmp_path: Path
) -> None:
    command = [*FETCH, f"{rough.url}/start/held", "-o", str(tmp_path / "report")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert rough.held_since.wait(PATIENCE)
        process.send_signal(number)
        assert rough.cancelled.wait(PATIENCE)
        assert process.wait(PATIENCE) == status
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert os.listdir(tmp_path) == []


def test_fetch_without_httpx_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: Capture
) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    assert fetch("http://127.0.0.1/") == 2
    said = capfdbinary.readouterr().err
    assert said == b'fetch needs httpx: pip install "raincheck[client]"\n'


# --- the terminal --------------------------------------------------------------------------------


@pytest.mark.server
def test_fetch_shows_progress_on_a_terminal_only(rough: RoughServer) -> None:
    main_end, other_end = pty.openpty()
    command = [*FETCH, f"{rough.url}/start/rough"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=other_end) as process:
        os.close(other_end)
        assert process.stdout is not None
        assert process.stdout.read() == b"the report"
    assert b"waiting" in said_on(main_end)


def test_fetch_shows_progress_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    monkeypatch.setitem(sys.modules, "rich", None)
    main_end, other_end = pty.openpty()
    with os.fdopen(other_end, "w") as stream, display(wanted=True, stream=stream) as shown:
        shown.operation(Progress(1, 4, "rendering"))
        shown.received(1000, 2000)
    said = said_on(main_end).decode()
    assert "waiting rendering 1/4" in said
    assert "receiving 1,000 of 2,000 bytes" in said


def test_fetch_shows_nothing_to_a_file_or_who_does_not_want_it(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream, display(wanted=True, stream=stream) as shown:
        assert not shown.is_seen
    with display(wanted=False) as shown:
        assert not shown.is_seen


def test_what_a_server_says_does_nothing_to_the_terminal() -> None:
    assert plain("a\x1b[31m\r\nb\u202e\x9b") == "a [31m  b  "
    assert len(plain("x" * 10_000)) == 60
    assert described(Progress(message="[red]\x1b]0;x\x07")) == "waiting [red] ]0;x "


# --- its surroundings ----------------------------------------------------------------------------


def test_fetch_replaces_no_device_and_writes_through_a_link(
    rough: RoughServer, tmp_path: Path, capfdbinary: Capture
) -> None:
    assert fetch(f"{rough.url}/report", "-o", "/dev/null") == 2
    assert Path("/dev/null").is_char_device()
    assert b"is no file" in capfdbinary.readouterr().err
    assert rough.lines == []
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "file")
    assert fetch(f"{rough.url}/report", "-o", link) == 0
    assert link.is_symlink()
    assert (tmp_path / "file").read_bytes() == b"the report"
    assert fetch(f"{rough.url}/report", "-o", "-") == 0
    assert capfdbinary.readouterr().out == b"the report"


def test_fetch_asks_through_the_proxy_of_the_environment(
    rough: RoughServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", rough.url)
    monkeypatch.setenv("no_proxy", "")
    assert fetch("http://api.example/report") == 0
    assert rough.asked("GET http://api.example/report")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert fetch(f"{rough.url}/report") == 0
    assert rough.lines[-1] == "GET /report"


@pytest.mark.server
def test_fetch_ends_quietly_when_nobody_reads_on(rough: RoughServer) -> None:
    command = [*FETCH, f"{rough.url}/drip"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        rough.goes_on.set()
        assert process.wait(PATIENCE) == 1
        assert process.stderr.read() == b""
