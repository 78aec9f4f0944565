"""`raincheck show`: one operation, or the response that is stored of it."""

from __future__ import annotations

import argparse
import codecs
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from http import HTTPStatus

from raincheck.cli.commands import Commands, command
from raincheck.cli.documents import details, document, line
from raincheck.cli.exits import OK, UNUSABLE, Refusal
from raincheck.cli.finding import find_one
from raincheck.cli.opening import add_store_to, opened
from raincheck.cli.tables import pairs
from raincheck.operations.operation import Operation, Result
from raincheck.operations.store import Store
from raincheck.stores import keep_bodies

_SECRET = frozenset(
    {
        *(b"set-cookie", b"set-cookie2", b"authorization", b"authentication-info"),
        *(b"proxy-authorization", b"proxy-authentication-info", b"cookie"),
    }
)


def add_to(commands: Commands) -> None:
    """Say what the command understands."""
    parser = command(commands, "show", "one operation, or the response that is stored of it")
    add = parser.add_argument
    add("id", metavar="ID", help="or its beginning, if no other one has it")
    add("--json", action="store_true", help="as a JSON document on one line")
    add("--response", action="store_true", help="write the stored response's body to stdout")
    add("-i", "--include", action="store_true", help="with --response: its status and fields first")
    add("--bodies", metavar="URL", help="the option `bodies`, where large bodies lie elsewhere")
    add_store_to(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show it."""
    if options.response and options.json:
        raise Refusal("--response and --json exclude each other", UNUSABLE)
    if (options.include or options.bodies) and not options.response:
        raise Refusal("-i and --bodies are for --response", UNUSABLE)
    with opened(options.store) as store:
        operation = find_one(store, options.id)
        if options.response:
            with closing(keep_bodies(store, options.bodies)) as whole:
                _write_response(whole, operation, options.include)
        elif options.json:
            sys.stdout.write(line(document(operation)))
        else:
            sys.stdout.write(pairs(details(operation, store.now())))
    return OK


def _write_response(store: Store, operation: Operation, has_head: bool) -> None:
    result = operation.result
    if result is None:
        raise Refusal(f"there is no response: {_why(operation)}")
    write = _writer()
    if has_head:
        write(_head(result))
    for chunk in _body(store, operation.id, result):
        write(chunk)
    write(b"")


def _why(operation: Operation) -> str:
    if operation.forgotten:
        return "it was forgotten"
    reason = "" if operation.reason is None else f", {operation.reason}"
    return f"the operation is {operation.state}{reason}"


def _head(result: Result) -> bytes:
    """Write status and fields as they were given; what lets somebody in is not shown."""
    phrase = HTTPStatus(result.status).phrase if result.status in set(HTTPStatus) else ""
    lines = [f"HTTP/1.1 {result.status} {phrase}".rstrip().encode()]
    for name, value in result.headers:
        lines.append(name + b": " + (b"(not shown)" if name.lower() in _SECRET else value))
    return b"\r\n".join((*lines, b"", b""))


def _body(store: Store, operation_id: str, result: Result) -> Iterator[bytes]:
    """Yield a body chunk by chunk.

    Raises:
        Refusal: The store has something else in a chunk's place: it lies elsewhere.
        BodyMissing: It is not all there.
    """
    if not result.length:
        return
    count, left = -(-result.length // result.chunk_size), result.length
    for chunk in store.read_chunks(operation_id, result.fence, 0, count):
        if len(chunk) != min(left, result.chunk_size):
            raise Refusal("the body lies elsewhere: name the place with --bodies")
        left -= len(chunk)
        yield chunk


def _write_whole(piece: bytes) -> None:
    """Write all of it: where Python is run unbuffered, a full disk takes a part."""
    rest = memoryview(piece)
    while rest:
        rest = rest[sys.stdout.buffer.write(rest) :]


def _writer() -> Callable[[bytes], object]:
    """Return what writes bytes as they are, and to a terminal nothing that it would obey.

    Nothing is written at the end by an empty piece.
    """
    if not sys.stdout.isatty():
        return _write_whole
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def write(piece: bytes) -> None:
        text = decoder.decode(piece, final=not piece)
        sys.stdout.write("".join(c if c.isprintable() or c in "\n\t" else " " for c in text))
        sys.stdout.flush()

    return write
