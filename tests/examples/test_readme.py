"""Every code block of README and guides is run; one of a new kind fails until there is a test."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.test import override_settings

from raincheck.engine.webhooks.message import compose
from raincheck.operations.operation import Operation, State
from tests.examples.running import SLOW, asked
from tests.support.django_settings import configure
from tests.support.polling import poll
from tests.support.processes import ROOT, ServerProcess
from tests.support.slow import others_slow

DOCUMENTS = [
    *(ROOT / "README.md", ROOT / "tests" / "README.md"),
    *sorted((ROOT / "examples").glob("*.md")),
]
# The blocks of this one belong together, and have tests of their own.
OF_PARTS = "workers_others.md"
TEXT = "\n".join(path.read_text() for path in DOCUMENTS if path.name != OF_PARTS)
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
APPLICATIONS = [text for text in PYTHON if "report" in text and "app = " in text]
CLIENT = next(text for text in PYTHON if "httpx.get" in text)
FRAMEWORKS = [
    *("flask", "django", "fastapi", "starlette", "litestar", "quart", "falcon", "bottle"),
    "pyramid",
]
README_LINES = 250
WSGI = ("raincheck.wsgi", "raincheck.flask", "get_wsgi_application", "from flask")
CHECK = "python -m raincheck check app:app"

pytestmark = pytest.mark.server


def server(text: str, directory: Path, **env: str) -> ServerProcess:
    """Serve a block as the README says: saved as app.py."""
    (directory / "app.py").write_text(text)
    command = ["-m", "uvicorn", "app:app", "--port", "{port}"]
    if any(name in text for name in WSGI):
        command = ["-m", "gunicorn", "app:app", "--bind", "127.0.0.1:{port}"]
    env["XDG_STATE_HOME"] = str(directory / "state")
    return ServerProcess(command, cwd=directory, env=env)


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def anchors(text: str) -> set[str]:
    """Return what headings of a text can be linked to as, as GitHub makes it of them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]*)\)", document.read_text()):
        name, _, anchor = target.partition("#")
        found = (document.parent / name).resolve() if name else document
        if ROOT / "src" in found.parents and not (ROOT / "src").exists():
            continue  # the wheel is being tested
        assert found.exists(), target
        assert not anchor or anchor in anchors(found.read_text()), target


def test_every_guide_is_in_the_index() -> None:
    index = (ROOT / "examples" / "README.md").read_text()
    for path in (ROOT / "examples").glob("*.md"):
        assert path.name == "README.md" or f"]({path.name})" in index, path.name


def test_every_kind_of_block_is_known() -> None:
    assert {kind for kind, _ in BLOCKS} == {"python", "console", "http", "sh", "js"}
    assert len(APPLICATIONS) == len(FRAMEWORKS)
    for framework, text in zip(FRAMEWORKS, APPLICATIONS, strict=True):
        assert f"from {framework}" in text or f"import {framework}" in text


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_application_can_be_pasted(framework: str, tmp_path: Path) -> None:
    with (
        server(APPLICATIONS[FRAMEWORKS.index(framework)], tmp_path) as running,
        httpx.Client(base_url=running.url, timeout=SLOW) as client,
    ):
        accepted = asked(lambda: client.get("/report"), 202)
        assert accepted.status_code == 202
        done = poll(client, accepted.headers["location"])
    assert done.status_code == 200
    assert "the report" in done.text or done.json() == {"report": "done"}


GUNICORN = next(text for text in PYTHON if "raincheck.gunicorn" in text)
DRAINED = next(text for text in PYTHON if "with_drain" in text)
READY_MADE = next(text for text in PYTHON if '"PREPARE"' in text)
OF_ONES_OWN = next(text for text in PYTHON if "def prepare" in text)
OWN_STORE = next(text for text in PYTHON if "class FolderStore" in text)
OWN_TEST = next(text for text in PYTHON if "class TestFolderStore" in text)
RUN_AGAIN = next(text for text in PYTHON if "is_rerun" in text)
TOLD = next(text for text in PYTHON if "webhook_secret" in text)
RECEIVER = next(text for text in PYTHON if "standardwebhooks" in text)
LISTENER = next(text for text in PYTHON if "connect_sse" in text)
CLIENTS = [text for text in PYTHON if "raincheck.client" in text]
WAITING = [text for text in PYTHON if 'queue="nightly"' in text or "raincheck.runners" in text]
NOT_SERVED_ALONE = (
    *(LISTENER, *CLIENTS, *WAITING),
    *(*APPLICATIONS, CLIENT, GUNICORN, DRAINED, OWN_STORE, OWN_TEST),
    *(RUN_AGAIN, TOLD, RECEIVER, READY_MADE, OF_ONES_OWN),
)
PAYLOAD = re.findall(r"^The payload is `(.*?)`", TEXT, re.MULTILINE)[0]
OTHERS = [n for n, text in enumerate(PYTHON) if text not in NOT_SERVED_ALONE]


def test_what_the_guide_prepares_is_called_and_undone() -> None:
    configure()
    from raincheck.django.conf import preparations

    ready: dict[str, Any] = {}
    exec(READY_MADE, ready)  # noqa: S102 - our own
    own: dict[str, Any] = {}
    exec(OF_ONES_OWN, own)  # noqa: S102
    named = [*ready["RAINCHECK"]["PREPARE"], own["prepare"]]
    with override_settings(RAINCHECK=ready["RAINCHECK"] | {"PREPARE": named}):
        *_, prepare = preparations()
    end, request = prepare("a request"), own["who"].request
    assert request == "a request"
    end()
    assert not hasattr(own["who"], "request")


@pytest.mark.parametrize("n", OTHERS)
def test_other_blocks_serve_requests(n: int, tmp_path: Path) -> None:
    with server(PYTHON[n], tmp_path) as running:
        host = {"host": "testserver"}
        assert httpx.get(f"{running.url}/nowhere", headers=host, timeout=SLOW).status_code == 404


@pytest.mark.slow
def test_the_store_that_is_shown_passes_the_test_that_is_shown(tmp_path: Path) -> None:
    assert (ROOT / "tests" / "stores" / "third_party.py").read_text() == OWN_STORE
    (tmp_path / "my_store.py").write_text(OWN_STORE)
    (tmp_path / "test_my_store.py").write_text(OWN_TEST)
    # A few of its tests show that it is used rightly: `test_third_party` runs all on this store.
    command = [sys.executable, "-m", "pytest", "-q", "-k", "swap", "-p", "no:cacheprovider"]
    command += ["-p", "no:asyncio", "-p", "no:faker"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout


def test_the_hooks_are_taken_by_gunicorn(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(GUNICORN)
    with (
        server(APPLICATIONS[0], tmp_path) as running,
        httpx.Client(base_url=running.url, timeout=SLOW) as client,
    ):
        accepted = client.get("/report")
        assert accepted.status_code == 202
        running.terminate()
    with server(APPLICATIONS[0], tmp_path) as running:
        location = httpx.URL(accepted.headers["location"]).path
        assert httpx.get(f"{running.url}{location}", timeout=SLOW).text == "the report\n"


def test_django_is_drained_under_asgi(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(DRAINED)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "settings.py").write_text(
        "SECRET_KEY = 'none'\nROOT_URLCONF = 'project.urls'\nALLOWED_HOSTS = ['*']\n"
        "MIDDLEWARE = ['raincheck.django.RaincheckMiddleware']\nRAINCHECK = {'BUDGET': 0}\n"
    )
    (tmp_path / "project" / "urls.py").write_text(
        "import asyncio\nfrom django.http import HttpResponse\nfrom django.urls import path\n"
        "async def report(request):\n"
        "    await asyncio.sleep(0.5)\n    return HttpResponse('the report')\n"
        "urlpatterns = [path('report', report)]\n"
    )
    command = ["-m", "uvicorn", "app:application", "--port", "{port}"]
    environment = {"XDG_STATE_HOME": str(tmp_path / "state")}
    with ServerProcess(command, cwd=tmp_path, env=environment) as running:
        location = httpx.get(f"{running.url}/report", timeout=SLOW).headers["location"]
        running.terminate()
    with ServerProcess(command, cwd=tmp_path, env=environment) as running:
        path = httpx.URL(location).path
        assert httpx.get(f"{running.url}{path}", timeout=SLOW).text == "the report"


def test_what_was_killed_is_run_again(tmp_path: Path) -> None:
    with (
        server(RUN_AGAIN, tmp_path) as running,
        httpx.Client(base_url=running.url, timeout=SLOW) as client,
    ):
        accepted = client.post("/exports")
        assert accepted.status_code == 202
        running.kill()
        running.start()
        done = poll(client, accepted.headers["location"])
    shown = re.search(r"R answers `(.*)`", TEXT)
    assert shown is not None
    assert done.text == shown[1]


def test_the_receiver_hears_of_the_end(tmp_path: Path) -> None:
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    for name in ("sender", "receiver"):
        (tmp_path / name).mkdir()
    log = tmp_path / "receiver" / "access.log"
    logged = {"GUNICORN_CMD_ARGS": f"--access-logfile {log}"}
    with server(RECEIVER, tmp_path / "receiver", WEBHOOK_SECRET=secret, **logged) as receiver:
        told = TOLD.replace("127.0.0.1:8001", f"127.0.0.1:{receiver.port}")
        with server(told, tmp_path / "sender", WEBHOOK_SECRET=secret) as running:
            accepted = httpx.post(f"{running.url}/exports", timeout=SLOW).json()
            deadline = time.monotonic() + SLOW
            while "POST /ended" not in log.read_text():
                assert time.monotonic() < deadline, running.kill()
                time.sleep(0.05)
        forged = httpx.post(f"{receiver.url}/ended", content=PAYLOAD, timeout=SLOW)
        assert forged.status_code == 401
        printed = receiver.terminate()
    assert f"{accepted['id']} has succeeded" in printed


def test_the_payload_is_as_it_is_shown() -> None:
    shown = json.loads(PAYLOAD)
    ended = datetime.fromisoformat(shown["timestamp"]).timestamp()
    operation = Operation(
        id=shown["data"]["id"],
        state=State(shown["data"]["status"]),
        created=ended,
        updated=ended,
        retention=60,
        method="POST",
        route="/exports",
    )
    assert compose(operation).decode() == PAYLOAD


@pytest.mark.parametrize("framework", others_slow(FRAMEWORKS, 2))
def test_the_check_has_no_complaint_about_an_application(framework: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATIONS[FRAMEWORKS.index(framework)])
    command = [sys.executable, *CHECK.split()[1:]]
    # Pyramid's own import warns of what it imports.
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, cwd=tmp_path, env=quiet, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(", 0 problems\n")


@pytest.fixture
def starlette(tmp_path: Path) -> Iterator[ServerProcess]:
    text = APPLICATIONS[FRAMEWORKS.index("starlette")]
    with server(text, tmp_path) as running:
        yield running


def normalised(text: str) -> str:
    """Replace what differs from run to run."""
    text = re.sub(r"[0-9a-f]{32}", "ID", text)
    text = re.sub(r"content-length: \d+\n", "", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    return re.sub(r"(localhost|127\.0\.0\.1):\d+", "HOST", text)


def exchange(running: ServerProcess, request: str) -> str:
    """Send a request that is written down as the README does, and write the answer down so."""
    head, _, body = request.partition("\n\n")
    (method, target, _), *fields = [line.split(" ", 2) for line in head.splitlines()]
    headers = {name.removesuffix(":"): " ".join(value) for name, *value in fields}
    headers["host"] = headers["host"].replace("8000", str(running.port))
    connection = http.client.HTTPConnection("127.0.0.1", running.port)
    connection.request(method, target, body, headers)
    answer = connection.getresponse()
    shown = [f"{n}: {v}" for n, v in answer.getheaders() if n not in ("date", "server")]
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *shown, "", answer.read().decode()]
    connection.close()
    return "\n".join(lines).rstrip("\n")


# A request, and the answer to it.
EXCHANGES = [
    tuple(re.split(r"\n\n(?=HTTP)", text.rstrip("\n"))) for kind, text in BLOCKS if kind == "http"
]


def test_the_wire_looks_as_it_is_shown(starlette: ServerProcess) -> None:
    (started, accepted), (polled, response), _ = EXCHANGES
    for _ in range(9):
        answer = exchange(starlette, started)
        if not answer.startswith("HTTP/1.1 200 "):  # as it may under load: slow is what is over
            break
    assert normalised(answer) == normalised(accepted)
    location = re.search(r"^location: http://[^/]*(\S+)$", answer, re.MULTILINE)
    assert location is not None
    with httpx.Client(base_url=starlette.url, timeout=SLOW) as client:
        poll(client, location[1])
    polled = re.sub(r"/operations/[0-9a-f]{32}", location[1], polled)
    assert normalised(exchange(starlette, polled)) == normalised(response)


def test_a_request_is_repeated_as_it_is_shown(tmp_path: Path) -> None:
    request, response = EXCHANGES[2]
    with (
        server(RUN_AGAIN, tmp_path) as running,
        httpx.Client(base_url=running.url, timeout=SLOW) as client,
    ):
        for _ in range(9):
            # The second one does not wait for its budget.
            answers = exchange(running, request), exchange(running, f"{request}\nprefer: wait=0")
            if not answers[1].startswith("HTTP/1.1 200 "):  # as it may under load: all is over
                break
            request = re.sub('"[0-9a-f-]+"', f'"{uuid.uuid4()}"', request)
        locations = [re.findall(r"^location: (\S+)$", text, re.MULTILINE) for text in answers]
        assert locations[0] == locations[1] != []
        poll(client, locations[0][0])
        assert exchange(running, request) == response
        assert "idempotency-key-reused" in exchange(running, f"{request}\n\nanother body")


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("sh", ["sh", "-c"]),
        ("js", ["node", "--input-type=module", "--eval"]),
        ("python", [sys.executable, "-c"]),
        ("listener", [sys.executable, "-c"]),
    ],
)
def test_a_client_of_that_kind_fetches_the_response(
    starlette: ServerProcess, tmp_path: Path, kind: str, command: list[str]
) -> None:
    program = "curl" if kind == "sh" else command[0]
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program} here")
    texts = {"python": CLIENT, "listener": LISTENER}
    text = texts.get(kind) or next(text for found, text in BLOCKS if found == kind)
    text = text.replace("localhost:8000", f"127.0.0.1:{starlette.port}")
    done = subprocess.run([*command, text], cwd=tmp_path, capture_output=True, timeout=60)
    assert done.stdout.strip() == b"the report", done.stderr


def test_the_commands_are_those_that_ci_runs() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    patterns = re.findall(r"sed -n 's/\^\\\((.*?)\\\)\$/", ci)
    commands = [line for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]
    commands.remove(CHECK)  # which has its own test
    assert len(patterns) == len(commands)
    for command in commands:
        assert any(re.fullmatch(pattern, command) for pattern in patterns), command


INSTRUMENTS = re.findall(
    r"^```python\n(.*?)^```$",
    (ROOT / "examples" / "instruments.md").read_text(),
    re.DOTALL | re.MULTILINE,
)


@pytest.mark.slow
@pytest.mark.parametrize("n", range(len(INSTRUMENTS)))
def test_the_orders_that_are_shown_are_those_that_the_check_wants(n: int, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(INSTRUMENTS[n])
    command = [sys.executable, *CHECK.split()[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" 0 problems\n")
