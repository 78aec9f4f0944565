"""Between WSGI's dictionaries and `raincheck.http.messages`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any

from raincheck.http.messages import Headers, Request, Response, for_method

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def decoded(text: str) -> str:
    """Read a path of the environ, which holds bytes as latin-1 (PEP 3333), as UTF-8."""
    return text if text.isascii() else to_bytes(text).decode("utf-8", "replace")


def as_it_came(request: Request, environ: Mapping[str, Any]) -> Request:
    """Return a request with its path as it can be told again, although it may be no UTF-8."""
    root, path = (_escaped(environ.get(key, "")) for key in ("SCRIPT_NAME", "PATH_INFO"))
    return replace(request, path=root + path, root_path=root)


def _escaped(text: str) -> str:
    return text if text.isascii() else to_bytes(text).decode("utf-8", "surrogateescape")


def to_bytes(value: Any) -> bytes:
    """Return a value of the environ as a client sends it.

    Servers have strings of latin-1 there, test clients also other strings, numbers and bytes.
    """
    if isinstance(value, bytes):
        return value
    try:
        return str(value).encode("latin-1")
    except UnicodeEncodeError:
        return str(value).encode("utf-8", "replace")


def to_request(environ: Mapping[str, Any]) -> Request:
    """Describe the request of an environ, without its body."""
    root_path = decoded(environ.get("SCRIPT_NAME", ""))
    return Request(
        method=environ["REQUEST_METHOD"],
        path=root_path + decoded(environ.get("PATH_INFO", "")),
        scheme=environ.get("wsgi.url_scheme", "http"),
        http_version=environ.get("SERVER_PROTOCOL", "HTTP/1.1").rpartition("/")[2],
        raw_path=_raw_path(environ),
        query=to_bytes(environ.get("QUERY_STRING", "")),
        root_path=root_path,
        headers=tuple(header_fields(environ)),
        client=_address(environ.get("REMOTE_ADDR"), environ.get("REMOTE_PORT") or "0"),
        server=_address(environ.get("SERVER_NAME"), environ.get("SERVER_PORT")),
    )


def to_environ(request: Request, body: IO[bytes]) -> WSGIEnvironment:
    """Make an environ of a captured request, as a server that can do nothing special would.

    Args:
        body: What the handler reads.
    """
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": _encoded(request.root_path),
        "PATH_INFO": _encoded(request.path.removeprefix(request.root_path)),
        "QUERY_STRING": request.query.decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{request.http_version}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    _add_addresses(environ, request)
    if request.raw_path:
        target = request.raw_path
        if request.query and b"?" not in target:
            target = b"%s?%s" % (target, request.query)
        environ["RAW_URI"] = environ["REQUEST_URI"] = target.decode("latin-1")
    for name, value in request.headers:
        _add_field(environ, name.decode("latin-1"), value.decode("latin-1"))
    return environ


def _add_addresses(environ: WSGIEnvironment, request: Request) -> None:
    name, port = request.server or ("localhost", 80)  # PEP 3333 wants some
    environ["SERVER_NAME"], environ["SERVER_PORT"] = name, str(port)
    if request.client is not None:
        name, port = request.client
        environ["REMOTE_ADDR"] = name
        if port:  # not all servers tell
            environ["REMOTE_PORT"] = str(port)


def _encoded(path: str) -> str:
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("latin-1")


def _add_field(environ: WSGIEnvironment, name: str, value: str) -> None:
    if "_" in name:  # it would look like another field (RFC 3875 §4.1.18); servers drop it, too
        return
    key = name.upper().replace("-", "_")
    if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        environ.setdefault(key, value)
        return
    key = f"HTTP_{key}"
    if key in environ:
        value = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{value}"
    environ[key] = value


def _raw_path(environ: Mapping[str, Any]) -> bytes:
    """Return the path as it was sent, where the server tells."""
    target: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    return target.encode("latin-1", "replace") if target.startswith("/") else b""


def header_fields(environ: Mapping[str, Any]) -> Iterable[tuple[bytes, bytes]]:
    """Yield the header fields of a request."""
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            name = key[5:]
        elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            name = key
        else:
            continue
        if value is not None:
            yield to_bytes(name.replace("_", "-").lower()), to_bytes(value)


def to_length(value: str | int | None) -> int | None:
    """Read a `Content-Length` in bytes; None without one that makes sense."""
    if isinstance(value, int):  # as in the environ of a test client
        value = str(value)
    if not value or not value.isascii() or not value.isdigit():
        return None
    return int(value) if len(value) < 20 else sys.maxsize  # `int` refuses thousands of digits


_PORT_DIGITS = 5


def _address(host: str | None, port: str | None) -> tuple[str, int] | None:
    """Put an address together; None without a port that makes sense: it may be the client's."""
    digits = str(port)
    if not host or len(digits) > _PORT_DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    return host, int(digits)


_OF_CERTIFICATES = ("SSL_CLIENT_CERT", "SSL_CLIENT_S_DN", "SSL_CLIENT_I_DN", "SSL_CLIENT_M_SERIAL")


def certified_user(environ: Mapping[str, Any]) -> str | None:
    """Name the user whom a server knows by a certificate, as mod_ssl and those like it tell."""
    parts = [str(environ.get(name) or "") for name in _OF_CERTIFICATES]
    is_known = parts[0] or parts[1] or environ.get("SSL_CLIENT_VERIFY") == "SUCCESS"
    return "\0".join(("certificate", *parts)) if is_known else None


def to_status_line(status: int) -> str:
    """Write a status as WSGI has it: with a phrase, which must not be empty."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Unknown"


def to_wsgi_headers(headers: Headers) -> list[tuple[str, str]]:
    """Write header fields as WSGI has them."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def from_wsgi_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """Read header fields as an application gives them."""
    return tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers)


def send_start(start_response: StartResponse, response: Response) -> None:
    """Send status and header fields."""
    start_response(to_status_line(response.status), to_wsgi_headers(response.headers))


def send_response(method: str, start_response: StartResponse, response: Response) -> list[bytes]:
    """Send a response whose body is in memory; returns what to return to the server."""
    response = for_method(method, response)
    send_start(start_response, response)
    # Always one: an iterable without any is no response to hypercorn.
    return [response.body if isinstance(response.body, bytes) else b""]
