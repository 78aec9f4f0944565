"""For whom a response is: a program, a person before a browser, or a page that fetches parts. Pure.

Browsers say what a request is in `Sec-Fetch-Mode`, but not to plain HTTP on another machine: there
`Accept` has to do, in which only navigations prefer HTML.
"""

from __future__ import annotations

from enum import Enum, auto

from raincheck.http.messages import Request
from raincheck.http.preferences import asks_for, prefers

HTML = b"text/html"
JSON = b"application/json"
# Parameters of the query: by which a waiting page asks for itself, and which its form sends.
WAITING, CANCEL = b"waiting", b"cancel"


class Audience(Enum):
    """Who reads a response."""

    PROGRAM = auto()
    BROWSER = auto()
    HTMX = auto()
    HTMX_BOOSTED = auto()  # htmx navigates in the browser's stead
    TURBO_FRAME = auto()


def audience_of(request: Request, *, is_poll: bool = False) -> Audience:
    """Tell who reads what a request is answered.

    Args:
        is_poll: Whether it is one of R, where a waiting page asks for itself.
    """
    if request.header(b"hx-request") == b"true":
        is_navigation = b"true" in (
            request.header(b"hx-boosted"),
            request.header(b"hx-history-restore-request"),
        )
        return Audience.HTMX_BOOSTED if is_navigation else Audience.HTMX
    if request.header(b"turbo-frame"):
        return Audience.TURBO_FRAME
    is_browser = _is_navigation(request) or (is_poll and is_waiting(request))
    return Audience.BROWSER if is_browser and _wants_html(request) else Audience.PROGRAM


def is_waiting(request: Request) -> bool:
    """Tell whether a waiting page asks for itself, to be shown what has become of it."""
    return request.parameter(WAITING) is not None


def _wants_html(request: Request) -> bool:
    accept = request.header(b"accept")
    if request.header(b"sec-fetch-mode") == b"navigate":  # whatever else it would take
        return asks_for(HTML, accept)
    return prefers(accept, HTML, over=JSON)


def _is_navigation(request: Request) -> bool:
    mode = request.header(b"sec-fetch-mode")
    if mode is None and request.header(b"x-requested-with") == b"XMLHttpRequest":
        return False
    # Turbo Drive fetches what the browser would have navigated to.
    return mode in (None, b"navigate") or request.header(b"x-turbo-request-id") is not None
