"""The arguments of `raincheck fetch`, without the libraries that it needs."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

ENDS = """\
exit status:
  0    the response's status is below 400
  1    there is no response: no connection, polls that fail, a download that breaks off
  2    wrong arguments, or something is not installed
  3    the operation has not ended within --deadline
  4    the response's status is 400 to 499
  5    the response's status is 500 to 599
  130  interrupted (143: terminated); the operation was asked to stop
"""
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def add_to(parser: argparse.ArgumentParser) -> None:
    """Say what the command understands."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = ENDS
    add = parser.add_argument
    add("url", metavar="URL")
    add("-X", "--request", metavar="METHOD", help="default: GET, or POST with --data")
    add(
        *("-H", "--header"),
        action="append",
        default=[],
        type=_headers,
        metavar="'NAME: VALUE'",
        help="or @FILE, which keeps a credential out of the list of processes",
    )
    add("-d", "--data", type=_data, help="body of the request; @FILE, or @- for standard input")
    add("-o", "--output", type=Path, metavar="FILE", help="default: standard output")
    add("-L", "--location", action="store_true", help="follow a redirection of the request")
    add(
        *("--prefer-wait",),
        type=_seconds,
        metavar="SECONDS",
        help="for which the server may hold the request, and each poll (Prefer: wait)",
    )
    add("--deadline", type=_seconds, metavar="SECONDS", help="to the operation's end (3600)")
    add("--place", help='where to poll, if only the JSON body of a 202 tells: "/status/{id}"')
    add(
        "--idempotency-key",
        action="store_true",
        help="add one to a POST or PATCH, which is then sent again if its answer is lost",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with what an earlier run of the same --output has begun",
    )
    add("--no-cancel", action="store_true", help="let the operation go on when interrupted")
    add("--no-progress", action="store_true", help="show none on the terminal")


def _headers(text: str) -> list[tuple[str, str]]:
    if not text.startswith("@"):
        return [_header(text)]
    return [_header(line) for line in _read(text).decode().splitlines() if line.strip()]


def _header(line: str) -> tuple[str, str]:
    """Read a header field; a mistake is not repeated to the terminal: it may be a credential."""
    name, colon, value = line.partition(":")
    value = value.strip()
    if not colon or not _NAME.fullmatch(name) or not (value.isprintable() and value.isascii()):
        raise argparse.ArgumentTypeError("a header field is 'NAME: VALUE', on one line, in ASCII")
    return name, value


def _data(text: str) -> bytes:
    return _read(text) if text.startswith("@") else text.encode()


def _read(text: str) -> bytes:
    path = "/dev/stdin" if text == "@-" else text[1:]
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"can't read {text[1:]}: {error.strerror}") from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not math.isfinite(seconds) or seconds < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds
