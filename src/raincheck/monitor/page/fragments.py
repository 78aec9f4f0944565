"""Parts of pages that poll by themselves and are replaced by the result: for htmx and Turbo. Pure.

Each answer of a running operation has the next poll in it. So there is nothing to stop at the end:
the result stands in the place of what has polled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html import escape

from raincheck.http.messages import Request, Response, without
from raincheck.http.problems import read_problem
from raincheck.monitor.links import Resource
from raincheck.monitor.page.document import OF_THE_BODY, html_response, progress_of, shown
from raincheck.monitor.page.texts import TEXTS, Texts, spoken
from raincheck.monitor.views import View, accepted_fields, retry_after
from raincheck.operations.operation import State

LONGEST_PAUSE = 5  # seconds between two long polls
LONGEST_SILENCE = 30  # seconds until a poll that has failed is made again
LONG_POLL = 10  # seconds
STOP = 286  # htmx 2: swap, and poll no more; to htmx 4 and all others it is a success

# In htmx 2 an element inherits; what one around says is not to be done at each poll. In htmx 4 it
# inherits only what says so, and "unset" is a text.
_NOT_INHERITED = (
    ' hx-confirm="unset" hx-prompt="unset" hx-vals="unset" hx-include="unset" hx-select="unset" '
    'hx-push-url="false" hx-replace-url="false"'
)
# What a frame does by itself is to fetch what its `src` says; Turbo gives the nonce to the script.
_AGAIN = "setTimeout(()=>{const f=document.getElementById(%s);if(f){f.src=%s}},%d)"


@dataclass(frozen=True, slots=True)
class Fragments:
    """Writes the parts of one middleware's pages.

    Args:
        texts: The words of all languages.
    """

    texts: Mapping[str, Texts] = field(default_factory=lambda: TEXTS)

    def htmx(self, view: View, request: Request) -> Response:
        """Return an element that fetches itself anew until the result replaces it."""
        url = view.links.path(Resource.RESPONSE)
        pause = min(LONGEST_PAUSE, retry_after(view))
        headers = escape(json.dumps({"Prefer": f"wait={LONG_POLL}"}))
        inherits = request.header(b"hx-request-type") is None
        start = (
            f'<div class="raincheck" role="status" hx-get="{escape(url)}" hx-target="this" '
            f'hx-swap="outerHTML" hx-trigger="load delay:{pause}s, every {LONGEST_SILENCE}s" '
            f'hx-headers="{headers}"{_NOT_INHERITED if inherits else ""}>'
        )
        return self._fragment(view, request, start, "</div>")

    def turbo(self, view: View, request: Request) -> Response:
        """Return the frame that was asked for, which fetches itself anew."""
        name = (request.header(b"turbo-frame") or b"").decode("latin-1")
        url = view.links.path(Resource.RESPONSE)
        pause = 1000 * min(LONGEST_PAUSE, retry_after(view))
        script = _AGAIN % (_in_script(name), _in_script(url), pause)
        start = f'<turbo-frame id="{escape(name)}"><div class="raincheck" role="status">'
        end = f"</div><script>{script}</script></turbo-frame>"
        return self._fragment(view, request, start, end)

    def _fragment(self, view: View, request: Request, start: str, end: str) -> Response:
        words, language = spoken(request, self.texts)
        is_ending = view.operation.state is State.CANCELLING
        heading = f"<p>{escape(words['cancelling' if is_ending else 'working'])}</p>"
        html = start + heading + progress_of(view, words) + end + "\n"
        return html_response(202, html, language, accepted_fields(view))

    def problem(self, response: Response, request: Request) -> Response:
        """Explain a problem in the place of what has polled, which ends."""
        _, detail = read_problem(response)
        html = f'<p class="raincheck" role="alert">{shown(detail)}</p>\n'
        name = request.header(b"turbo-frame")
        if name is not None:
            frame = escape(name.decode("latin-1"))
            html = f'<turbo-frame id="{frame}">{html}</turbo-frame>'
        fields = without(response.headers, OF_THE_BODY)
        return html_response(response.status, html, "en", fields)


def boosted(view: View) -> Response:
    """Have htmx lead the browser to where it waits, as to a page of its own."""
    url = view.links.path(Resource.RESPONSE)
    fields = (*accepted_fields(view), (b"hx-redirect", url.encode("ascii")))
    return html_response(202, "", "en", fields)


def for_htmx(response: Response) -> Response:
    """Let what is final end the polling: htmx swaps nothing for an error or for no content.

    `Operation-Result-Status` says what its status was.
    """
    if 200 <= response.status < 400 and response.status != 204:
        return response
    status = (b"operation-result-status", b"%d" % response.status)
    return replace(response, status=STOP, headers=(*response.headers, status))


def _in_script(text: str) -> str:
    return json.dumps(text).replace("<", "\\u003c")
