"""Who reads a response: a program, a browser, or a page that fetches a part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raincheck.http.messages import Request
from raincheck.monitor.audience import Audience, audience_of

XHR = b"x-requested-with"
NAVIGATION = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PROGRAM, BROWSER = Audience.PROGRAM, Audience.BROWSER
HTMX, BOOSTED, FRAME = Audience.HTMX, Audience.HTMX_BOOSTED, Audience.TURBO_FRAME


@pytest.mark.parametrize(
    ("fields", "query", "audience"),
    [
        ({}, b"", PROGRAM),
        ({b"accept": b"*/*"}, b"", PROGRAM),
        ({b"accept": b"application/json"}, b"", PROGRAM),
        ({b"accept": b"application/json, text/html;q=0.9"}, b"", PROGRAM),
        ({b"accept": b"text/html, application/json"}, b"", PROGRAM),
        ({b"accept": b"text/html;q=0"}, b"", PROGRAM),
        ({b"accept": NAVIGATION}, b"", BROWSER),
        ({b"accept": b"text/html"}, b"", BROWSER),
        ({b"accept": NAVIGATION, b"sec-fetch-mode": b"navigate"}, b"", BROWSER),
        ({b"accept": NAVIGATION, b"sec-fetch-mode": b"cors"}, b"", PROGRAM),
        ({b"accept": b"text/html, */*", b"sec-fetch-mode": b"navigate"}, b"", BROWSER),
        ({b"accept": b"*/*", b"sec-fetch-mode": b"navigate"}, b"", PROGRAM),
        ({b"accept": b"text/html, */*;q=0.1", XHR: b"XMLHttpRequest"}, b"", PROGRAM),
        ({b"accept": b"text/html", b"sec-fetch-mode": b"cors"}, b"waiting", PROGRAM),
        (
            {
                b"accept": b"text/html",
                b"sec-fetch-mode": b"cors",
                b"x-turbo-request-id": b"1",
            },
            b"",
            BROWSER,
        ),
        ({b"accept": b"text/html", b"turbo-frame": b"cart"}, b"", FRAME),
        ({b"hx-request": b"true", b"accept": b"*/*"}, b"", HTMX),
        ({b"hx-request": b"false", b"accept": b"*/*"}, b"", PROGRAM),
        ({b"hx-request": b"true", b"hx-boosted": b"true"}, b"", BOOSTED),
        ({b"hx-request": b"true", b"hx-history-restore-request": b"true"}, b"", BOOSTED),
    ],
)
def test_the_audience_is_told_by_the_header_fields(
    fields: dict[bytes, bytes], query: bytes, audience: Audience
) -> None:
    request = Request("GET", "/", headers=tuple(fields.items()), query=query)
    assert audience_of(request) is audience


def test_a_waiting_page_that_asks_for_itself_is_told_as_a_browser() -> None:
    fields = ((b"accept", b"text/html"), (b"sec-fetch-mode", b"cors"))
    request = Request("GET", "/operations/a", headers=fields, query=b"waiting")
    assert audience_of(request, is_poll=True) is BROWSER
    assert audience_of(replace(request, query=b""), is_poll=True) is PROGRAM
