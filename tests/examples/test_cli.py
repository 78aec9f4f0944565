"""The command line: arguments, what keeps the demo from starting, what the check prints."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from textwrap import dedent

import pytest

from raincheck.cli.main import _url, main
from raincheck.cli.options import documented
from raincheck.config.limits import Limits
from raincheck.config.options import Settings
from raincheck.stores.default import application_key

ROOT = Path(__file__).parent.parent.parent


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


@pytest.mark.parametrize("of", [Settings, Limits])
def test_every_option_is_documented_once_where_it_is_defined(of: type[Settings | Limits]) -> None:
    assert sorted(documented(of)) == sorted(field.name for field in fields(of))


def test_options_prints_the_tables_of_the_guide(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["options"]) == 0
    tables = capsys.readouterr().out
    assert "| `budget` | Seconds a handler may take before its request is answered 202." in tables
    assert tables in (ROOT / "examples/options.md").read_text()


def test_the_demo_finds_its_archives_again_whichever_way_it_is_started() -> None:
    by_module = application_key(["/lib/raincheck/__main__.py", "demo"], "/home/ada")
    assert by_module == application_key(["/bin/raincheck", "demo"], "/home/ada")
    assert by_module != application_key(["/lib/other/__main__.py"], "/home/ada")


# --- the check ---------------------------------------------------------------------------------

Save = Callable[[str, str], None]
STARLETTE = """
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route
    from raincheck import long_running
    from raincheck.asgi import RaincheckMiddleware

    @long_running
    async def report(request):
        raise AssertionError("it was run")

    def make():
        app = Starlette(routes=[Route("/report", report)])
        app.add_middleware(RaincheckMiddleware, store="memory:")
        return app

    app = make()
    class made:
        app = app
"""
FLASK = """
    from flask import Flask
    from raincheck import long_running

    app = Flask(__name__, static_folder=None)

    @long_running
    @app.post("/above")
    def above():
        raise AssertionError("it was run")

    @app.post("/below")
    @long_running
    def below():
        raise AssertionError("it was run")
"""


@pytest.fixture
def save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Save:
    """Write modules into an empty current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(name: str, code: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(code))
        module = name.removesuffix(".py").replace("/", ".")
        for known in (module, module.partition(".")[0]):  # monkeypatch forgets them afterwards
            monkeypatch.setitem(sys.modules, known, None)
            del sys.modules[known]

    return write


@pytest.mark.parametrize("name", ["app", "make()", "made.app"])
def test_a_good_application_passes_the_check(
    name: str, save: Save, capsys: pytest.CaptureFixture[str]
) -> None:
    save("good_app.py", STARLETTE)
    assert main(["check", f"good_app:{name}"]) == 0
    assert capsys.readouterr() == ("1 handler, 1 marked, 0 problems\n", "")


def test_every_problem_is_said_in_one_line(save: Save, capsys: pytest.CaptureFixture[str]) -> None:
    save("bad_app.py", FLASK)
    assert main(["check", "bad_app:app"]) == 1
    said = capsys.readouterr()
    above, application, last = said.out.splitlines()
    assert above.startswith("POST /above (bad_app.py:7): @long_running has no effect on above(): ")
    assert application.startswith("application: 1 handler is marked, but no RaincheckMiddleware ")
    assert last == "2 handlers, 1 marked, 2 problems"
    assert said.err == ""


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("good_app", "'good_app' names no application: write module:app"),
        ("good_app:make(1)", "'good_app:make(1)' names no application: write module:app"),
        ("./good_app.py:app", "'./good_app.py:app' names no application: write module:app"),
        ("bad_app:app", "There is no module bad_app in {cwd}"),
        ("bad_package.app:app", "There is no module bad_package in {cwd}"),
        ("good_app:application", "There is no application in the module good_app"),
        ("good_app:made.up", "There is no made.up in the module good_app"),
        (
            "good_app:report",
            "Nothing was checked: the framework of builtins.function is not known",
        ),
    ],
)
def test_what_can_not_be_checked_is_said_in_one_sentence(
    target: str, sentence: str, save: Save, capsys: pytest.CaptureFixture[str]
) -> None:
    save("good_app.py", STARLETTE)
    assert main(["check", target]) == 2
    assert capsys.readouterr() == ("", f"{sentence.format(cwd=Path.cwd())}\n")


@pytest.mark.parametrize(
    ("code", "target", "sentence", "error"),
    [
        ("1 / 0", "app", "The module broken_app can't be imported", "ZeroDivisionError: division"),
        ("import nothing_there", "app", "The module broken_app can't", "ModuleNotFoundError: No"),
        ("def make(): 1 / 0", "make()", "broken_app:make() fails", "ZeroDivisionError: division"),
        ("def make(): 1 / 0", "make(  )", "'broken_app:make(  )' names no application", ""),
        ("app = 1", "app()", "broken_app:app() fails", "TypeError: 'int' object is not callable"),
        ("raise SystemExit(3)", "app", "The module broken_app can't be imported", "SystemExit: 3"),
    ],
)
def test_the_error_of_an_application_is_shown_without_our_part_of_it(
    code: str,
    target: str,
    sentence: str,
    error: str,
    save: Save,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save("broken_app.py", code)
    assert main(["check", f"broken_app:{target}"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(sentence)
    assert error in said.err.splitlines()[-1]
    assert "importlib" not in said.err


def test_a_mark_that_is_refused_shows_the_line(
    save: Save, capsys: pytest.CaptureFixture[str]
) -> None:
    save("class_app.py", "from raincheck import long_running\n@long_running\nclass View: ...\n")
    assert main(["check", "class_app:app"]) == 2
    said = capsys.readouterr().err
    assert 'class_app.py", line 2' in said
    assert said.splitlines()[-1].startswith("TypeError: @long_running can't mark View: ")


PROJECT = {
    "project/__init__.py": "",
    "project/settings.py": """
        SECRET_KEY = "for a test"
        ROOT_URLCONF = "project.urls"
        MIDDLEWARE = ["raincheck.django.RaincheckMiddleware"]
    """,
    "project/urls.py": """
        from django.urls import path
        from raincheck import long_running

        @long_running
        def view(request):
            raise AssertionError("it was run")

        urlpatterns = [path("marked", view), path("unmarked", view.__wrapped__)]
    """,
    "project/asgi.py": """
        import os
        from django.conf import settings
        from django.core.asgi import get_asgi_application
        from raincheck.asgi import RaincheckMiddleware

        os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
        settings.MIDDLEWARE = []
        application = RaincheckMiddleware(get_asgi_application(), store="memory:")
    """,
}


@pytest.mark.server
def test_a_django_project_is_checked_as_its_server_would_load_it(
    save: Save, tmp_path: Path
) -> None:
    for name, code in PROJECT.items():
        save(name, code)
    command = [sys.executable, "-m", "raincheck", "check", "project.asgi:application"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("2 handlers, 1 marked, 0 problems\n", "")
    assert done.returncode == 0
    (tmp_path / "project" / "urls.py").write_text("import nothing_there\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("project.asgi:application can't be looked into:\n")
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'nothing_there'\n")
