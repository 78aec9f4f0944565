"""What the command line understands; what a command does is in the file of its name."""

from __future__ import annotations

import argparse
import errno
import socket
from collections.abc import Sequence
from contextlib import suppress

from raincheck.cli import cancel, listing, purge, retry, show, store, work
from raincheck.cli.exits import FAILED, OK, UNUSABLE, complain, ended
from raincheck.cli.fetch import add_to as add_fetch_to
from raincheck.cli.loading import explained


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the process's exit status."""
    options = _parser().parse_args(argv)
    return ended(lambda: int(options.run(options)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="raincheck", description="Turn slow HTTP handlers into 202 Accepted polling resources."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo", help="serve a slow application to try raincheck with", allow_abbrev=False
    )
    demo.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    demo.add_argument(
        "--port", default=8000, type=_port, help="port; 0 takes a free one (%(default)s)"
    )
    demo.set_defaults(run=lambda options: _demo(options.host, options.port))
    check = commands.add_parser(
        "check", help="find marks without effect, and middleware on the wrong side of raincheck"
    )
    check.add_argument("application", metavar="module:app", help="or module:factory()")
    check.set_defaults(run=lambda options: _check(options.application))
    fetch = commands.add_parser("fetch", help="curl that waits: follow a 202 to its end")
    add_fetch_to(fetch)
    fetch.set_defaults(run=_fetch)
    for each in (work, listing, show, cancel, retry, purge, store):
        each.add_to(commands)
    printed = commands.add_parser(
        "options", help="print every option and limit, with unit and default"
    )
    printed.set_defaults(run=lambda _: _options())
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 0 to 65535")
    return int(text)


def _demo(host: str, port: int) -> int:
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        if error.name != "uvicorn":
            raise
        return complain('The demo needs uvicorn: pip install "raincheck[demo]"', UNUSABLE)
    from raincheck.cli.demo import app, instructions

    try:
        listener = _listen(host, port)
    except OSError as error:
        return complain(_why_not_listening(host, port, error), FAILED)
    print(instructions(_url(host, listener.getsockname()[1])), flush=True)
    server = uvicorn.Server(uvicorn.Config(app))
    with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has shut down
        server.run(sockets=[listener])
    return OK if server.started else FAILED


def _check(target: str) -> int:
    from raincheck.inspection.check import NotLoadedError, check, load

    try:
        app = load(target)
        report = check(app)
    except NotLoadedError as error:
        return complain(explained(str(error), error.__cause__), UNUSABLE)
    except Exception as error:  # Django imports its URL configuration only now
        return complain(explained(f"{target} can't be looked into", error), UNUSABLE)
    if report is None:
        kind = f"{type(app).__module__}.{type(app).__qualname__}"
        return complain(f"Nothing was checked: the framework of {kind} is not known", UNUSABLE)
    print(report)
    return FAILED if report.complaints else OK


def _fetch(options: argparse.Namespace) -> int:
    try:
        import httpx  # noqa: F401 - to say it in one sentence
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        return complain('fetch needs httpx: pip install "raincheck[client]"', UNUSABLE)
    from raincheck.cli.fetch.command import run

    return run(options)


def _options() -> int:
    from raincheck.cli.options import tables

    print(tables())
    return OK


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything is printed, so that what is printed can be done."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def _why_not_listening(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is in use: choose another one with --port"
    return f"Can't listen on port {port} of {host}: {error.strerror or error}"


def _url(host: str, port: int) -> str:
    """Return the URL under which this machine reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
