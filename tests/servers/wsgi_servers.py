"""How each WSGI server is started, and what it can't do by its nature."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.servers.servers import Kind, Site


@dataclass(frozen=True)
class WsgiKind(Kind):
    """One way to serve a WSGI application.

    Attributes:
        keeps_connections: Whether a connection serves a second request.
        reads_chunked: Whether an application can read an upload without a declared length.
        exits_at_sigterm: Whether Python gets to run anything at SIGTERM, e.g. `atexit`.
        pool: How many threads serve; None where each request has its own thread or greenlet.
    """

    has_lifespan: bool = False
    keeps_connections: bool = True
    reads_chunked: bool = True
    exits_at_sigterm: bool = True
    pool: int | None = 1


def _gunicorn(name: str, arguments: str, **traits: Any) -> list[WsgiKind]:
    command = (
        "-m gunicorn {app} --bind 127.0.0.1:{port} --log-level warning --no-control-socket "
        f"--worker-class {arguments}"
    )
    return [
        WsgiKind(f"gunicorn-{name}", command, **traits),
        WsgiKind(f"gunicorn-{name}-preload", f"{command} --preload", **traits),
    ]


_SCRIPTS = Path(sysconfig.get_path("scripts"))
_UWSGI = (
    f"{_SCRIPTS / 'uwsgi'} --http-socket 127.0.0.1:{{port}} --home {sys.prefix} --module {{app}} "
    "--master --enable-threads --need-app --die-on-term --disable-logging"
)

SYNC = _gunicorn("sync", "sync", keeps_connections=False)
GTHREAD = _gunicorn("gthread", "gthread --threads 4", pool=4)
GEVENT = _gunicorn("gevent", "gevent", pool=None)
WAITRESS = WsgiKind(
    "waitress",
    "-m waitress --host 127.0.0.1 --port {port} --threads 4 {app}",
    starts_before_body=False,
    exits_at_sigterm=False,
    pool=4,
)
CHEROOT = WsgiKind(
    "cheroot",
    "-m cheroot {app} --bind 127.0.0.1:{port} --threads 4 --max-threads 4",
    exits_at_sigterm=False,
    pool=4,
)
# `ServerProcess` starts Python programs, and uwsgi is none.
_EXECUTE = "__import__('os').execv(__import__('sys').argv[1],__import__('sys').argv[1:])"
UWSGI = WsgiKind(
    "uwsgi",  # which imports the application in its first process and then forks
    f"-c {_EXECUTE} {_UWSGI} --threads 4",
    keeps_connections=False,
    reads_chunked=False,
    pool=4,
)
# Where one of these differs from those above is in what it makes of an application's iterable.
HYPERCORN = WsgiKind("hypercorn-wsgi", "-m hypercorn wsgi:{app} --bind 127.0.0.1:{port}")
GRANIAN = WsgiKind(
    "granian-wsgi", "-m granian {app} --interface wsgi --host 127.0.0.1 --port {port}"
)
# With threads, and without raincheck too, it loses one of some thousand requests if many come at
# once: it closes the connection and says nothing.
UWSGI_PROCESSES = replace(UWSGI, command=f"-c {_EXECUTE} {_UWSGI}", pool=1)
# Of what differs in the start alone, one is enough here: forks of what was imported are tested
# with several workers, too.
WSGI_SERVERS = [SYNC[0], GTHREAD[0], *GEVENT, WAITRESS, CHEROOT, UWSGI]


class WsgiSite(Site):
    """An application on a WSGI server; for the rest see `Site`."""

    kind: WsgiKind

    def __init__(
        self,
        kind: WsgiKind,
        directory: Path,
        *,
        module: str = "wsgi_application",
        app: str = "app",
        **options: Any,
    ) -> None:
        target = f"tests.servers.{module}:{app}"
        kind = replace(kind, command=kind.command.replace("{app}", target))
        super().__init__(kind, directory, **options)
