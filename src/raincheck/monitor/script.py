"""The JavaScript module for browsers, which is beside this file, as a response."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from raincheck.http import conditions
from raincheck.http.messages import Headers, Request, Response
from raincheck.http.problems import problem
from raincheck.monitor.links import SCRIPT
from raincheck.monitor.views import not_found

_AGE = b"public, max-age=3600"  # seconds; then it is asked for anew, and is most often the same


@cache
def _content() -> bytes:
    return files("raincheck.monitor").joinpath(SCRIPT).read_bytes()


def no_operation(name: str, request: Request, *, with_script: bool) -> Response:
    """Answer for a name that is no operation's id, whoever asks.

    Args:
        with_script: Whether the module is served.
    """
    return _script(request) if with_script and name == SCRIPT else not_found()


def _script(request: Request) -> Response:
    if request.method not in ("GET", "HEAD"):
        return problem(405, "method-not-allowed", "See Allow.", ((b"allow", b"GET, HEAD"),))
    body = _content()
    etag = b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode("ascii")
    fields: Headers = ((b"etag", etag), (b"cache-control", _AGE))
    if conditions.is_not_modified(request, etag, None):
        return Response(304, fields)
    content = (
        (b"content-type", b"text/javascript; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
    )
    return Response(200, content + fields, body)
