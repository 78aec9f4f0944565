"""The gateways, how each is started, and the clients that talk to it."""

from __future__ import annotations

from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path

import httpx

from tests.gateways.transcript import Transcript
from tests.support.processes import ServerProcess, children

TIMEOUT = 60.0  # seconds; a machine under load is slow
UVICORN = "-m uvicorn --factory {app} --port {port} --log-level warning --no-access-log"
GUNICORN = (
    "-m gunicorn {app}() --bind 127.0.0.1:{port} --log-level warning "
    "--worker-class gthread --workers 2 --threads 8"
)


@dataclass(frozen=True)
class Gateway:
    """One way for an application to have raincheck.

    Attributes:
        app: A factory in `applications`.
        command: What serves it.
        raises: Whether an exception of a handler reaches raincheck; elsewhere the framework makes
            a response of it.
        hears_disconnects: Whether the framework itself stops a handler whose client leaves.
        has_whole_bodies: Whether the framework itself has read each body before raincheck is there.
    """

    name: str
    app: str
    command: str
    raises: bool = False
    hears_disconnects: bool = False
    has_whole_bodies: bool = False

    @property
    def is_sync(self) -> bool:
        """Whether handlers run in threads, which nobody can stop."""
        return self.command is GUNICORN

    @property
    def reads_ahead(self) -> bool:
        """Whether raincheck reads the request body before the handler runs."""
        return self.command is GUNICORN


GATEWAYS = [
    Gateway("asgi", "raw:asgi_app", UVICORN, raises=True),
    Gateway("wsgi", "raw:wsgi_app", GUNICORN, raises=True),
    Gateway("starlette", "starlette:app", UVICORN, raises=True),
    Gateway("fastapi", "fastapi:app", UVICORN, raises=True),
    Gateway("flask", "flask:app", GUNICORN),
    Gateway("django-wsgi", "django:wrapped_wsgi", GUNICORN),
    Gateway("django-asgi", "django:wrapped_asgi", UVICORN, hears_disconnects=True),
    Gateway("django-sync-middleware", "django:wsgi_with_middleware", GUNICORN),
    Gateway(
        "django-async-middleware", "django:asgi_with_middleware", UVICORN, has_whole_bodies=True
    ),
]


class Site:
    """A gateway on its server, with a store of its own."""

    def __init__(self, gateway: Gateway, directory: Path) -> None:
        self.gateway = gateway
        self.store = directory / "operations.db"
        environment = {
            "RAINCHECK_STORE": f"sqlite://{self.store}",
            "DJANGO_SETTINGS_MODULE": "tests.gateways.applications.django_settings",
        }
        if gateway.command is UVICORN:
            environment["TEST_ASYNC_VIEWS"] = "yes"
        target = f"tests.gateways.applications.{gateway.app}"
        command = [part.replace("{app}", target) for part in gateway.command.split()]
        self.process = ServerProcess(command, env=environment)

    def client(self, variant: str = "", transcript: Transcript | None = None) -> httpx.Client:
        """Return a client that reaches any worker, and what it hears is written down."""
        hooks = [] if transcript is None else [transcript.note]
        return httpx.Client(
            base_url=self.process.url,
            headers={"X-Variant": variant},
            timeout=TIMEOUT,
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # no request knows another
            verify=False,  # noqa: S501 - there is no TLS, and preparing for it takes its time
            limits=httpx.Limits(max_keepalive_connections=0),
            event_hooks={"response": hooks},
        )

    def forget_peaks(self) -> None:
        """Have the peaks of the server's memory begin anew."""
        for pid in self._pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peaks(self) -> dict[int, int]:
        """Return the peak of each server process's resident memory, in bytes."""
        return {pid: _peak(pid) for pid in self._pids()}

    def _pids(self) -> list[int]:
        return [self.process.pid, *children(self.process.pid)]


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
