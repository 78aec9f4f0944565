"""For whom a response is: a program, a person before a browser, or a page that fetches parts. Pure.

Browsers say what a request is in `Sec-Fetch-Mode`, but not to plain HTTP on another machine: there
`Accept` has to do, in which only navigations prefer HTML.
"""

from __future__ import annotations

from enum import Enum, auto

from raincheck.http.messages import Request
from raincheck.http.preferences import prefers

HTML = b"text/html"
JSON = b"application/json"
WAITING = b"waiting"  # the query parameter by which a waiting page asks for itself


class Audience(Enum):
    """Who reads a response."""

    PROGRAM = auto()
    BROWSER = auto()
    HTMX = auto()
    HTMX_BOOSTED = auto()  # htmx navigates in the browser's stead
    TURBO_FRAME = auto()


def audience_of(request: Request) -> Audience:
    """Tell who reads what a request is answered."""
    if request.header(b"hx-request") == b"true":
        is_navigation = b"true" in (
            request.header(b"hx-boosted"),
            request.header(b"hx-history-restore-request"),
        )
        return Audience.HTMX_BOOSTED if is_navigation else Audience.HTMX
    if request.header(b"turbo-frame"):
        return Audience.TURBO_FRAME
    if prefers(request.header(b"accept"), HTML, over=JSON) and _is_navigation(request):
        return Audience.BROWSER
    return Audience.PROGRAM


def is_waiting(request: Request) -> bool:
    """Tell whether a waiting page asks for itself, to be shown what has become of it."""
    return parameter(request, WAITING) is not None


def parameter(request: Request, name: bytes) -> bytes | None:
    """Return the value of a parameter of the query as it came; None if there is none."""
    for each in request.query.split(b"&"):
        key, _, value = each.partition(b"=")
        if key == name:
            return value
    return None


def _is_navigation(request: Request) -> bool:
    mode = request.header(b"sec-fetch-mode")
    # Turbo Drive fetches what the browser would have navigated to.
    is_turbo = request.header(b"x-turbo-request-id") is not None
    return mode in (None, b"navigate") or is_turbo or is_waiting(request)
