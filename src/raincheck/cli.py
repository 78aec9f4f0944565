"""The command line: `raincheck demo`."""

from __future__ import annotations

import argparse
import errno
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

OK = 0
FAILED = 1
UNUSABLE = 2  # wrong arguments (argparse has it so), or something isn't installed


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the process's exit status."""
    options = _parser().parse_args(argv)
    if options.command == "demo":
        return _demo(options.host, options.port)
    raise AssertionError(f"no command {options.command!r}")


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
        return _complain('The demo needs uvicorn: pip install "raincheck[demo]"', UNUSABLE)
    from raincheck.demo import app, instructions

    try:
        listener = _listen(host, port)
    except OSError as error:
        return _complain(_why_not_listening(host, port, error), FAILED)
    print(instructions(_url(host, listener.getsockname()[1])), flush=True)
    server = uvicorn.Server(uvicorn.Config(app))
    with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has shut down
        server.run(sockets=[listener])
    return OK if server.started else FAILED


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


def _complain(sentence: str, status: int) -> int:
    print(sentence, file=sys.stderr)
    return status
