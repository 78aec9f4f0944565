"""The command line in this process: arguments, and what keeps the demo from starting."""

from __future__ import annotations

import socket
import sys

import pytest

from raincheck.cli import _url, main
from raincheck.stores.default import application_key


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([])
    assert exit_.value.code == 2
    assert "usage: raincheck" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["http", "-1", "65536", "", "8_0", "٨٠"])
def test_what_is_no_port_is_a_usage_error(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["demo", f"--port={port}"])
    assert exit_.value.code == 2
    assert "is not a port" in capsys.readouterr().err


def test_without_uvicorn_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["demo"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == 'The demo needs uvicorn: pip install "raincheck[demo]"\n'


def test_a_port_in_use_is_said_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"Port {port} of 127.0.0.1 is in use: choose another one with --port\n"


def test_a_host_that_is_not_this_machine_is_said_in_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["demo", "--host", "192.0.2.1"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Can't listen on port 8000 of 192.0.2.1: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),  # noqa: S104
        ("::", "http://[::1]:1"),
    ],
)
def test_the_printed_url_can_be_reached_from_this_machine(host: str, url: str) -> None:
    assert _url(host, 1) == url


def test_the_demo_finds_its_archives_again_whichever_way_it_is_started() -> None:
    by_module = application_key(["/lib/raincheck/__main__.py", "demo"], "/home/ada")
    assert by_module == application_key(["/bin/raincheck", "demo"], "/home/ada")
    assert by_module != application_key(["/lib/other/__main__.py"], "/home/ada")
