"""Whole pages: what goes on, that it is finished, or what is wrong. Pure but for a template's file.

All that comes from outside is hostile: it is cut, escaped, and kept from changing the direction of
what is around it. Nothing is loaded from anywhere, and the policy (CSP) says so by hashes.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from raincheck.config.page_options import Page
from raincheck.http.dates import timestamp
from raincheck.http.messages import Headers, Request, Response, without
from raincheck.http.problems import NO_STORE, read_problem
from raincheck.http.urls import raw_path
from raincheck.monitor.audience import WAITING
from raincheck.monitor.estimates import estimate
from raincheck.monitor.links import Links, Resource
from raincheck.monitor.page.texts import RIGHT_TO_LEFT, TEXTS, Texts, duration, spoken
from raincheck.monitor.views import View, accepted_fields, retry_after
from raincheck.operations.operation import Operation, State

logger = logging.getLogger("raincheck")

MOST_SHOWN = 200  # characters of a text from outside
SHORTEST_REFRESH, LONGEST_REFRESH = 2, 10  # seconds between looks where scripts don't run
_JOINERS = "\u200c\u200d"  # of scripts and of emoji, which are written with them
OF_THE_BODY = frozenset({b"content-type", b"content-length", NO_STORE[0]})  # which is another one


@dataclass(frozen=True, slots=True)
class Pages:
    """Writes the pages of one middleware.

    Args:
        custom: The option `page`.
        texts: The words of all languages.
    """

    custom: Callable[[Page], str] | str | None = None
    texts: Mapping[str, Texts] = field(default_factory=lambda: TEXTS)

    def waiting(self, view: View, near: Links, request: Request) -> Response:
        """Show what goes on: 202, as R is for programs.

        Args:
            near: The links as the page itself refers to them.
        """
        words, language = spoken(request, self.texts)
        next_url = next_of(near)
        seconds = min(LONGEST_REFRESH, max(SHORTEST_REFRESH, retry_after(view)))
        page = _page(
            language,
            status=202,
            kind="waiting",
            title=_title(view.operation, words),
            main=_main(_waiting(view, near, words), next_url),
            script=asset("page.js"),
            refresh=f"{seconds};url={next_url}",
            progress=view.operation.progress,
        )
        return self._respond(page, accepted_fields(view))

    def finished(self, near: Links, request: Request, *, is_empty: bool) -> Response:
        """Say that a file is ready, which the browser then fetches, or that all is done."""
        words, language = spoken(request, self.texts)
        url, refresh = near.path(Resource.RESPONSE), ""
        if is_empty:
            content = _paragraph(words["nothing"]) + _way_back(request, words)
        else:
            link = f'<a class="to" href="{escape(url)}" download>{escape(words["download"])}</a>'
            content, refresh = _paragraph(words["file"]) + link, f"0;url={url}"
        heading = _heading(words["finished"])
        page = _page(
            language,
            status=200,
            kind="finished",
            title=words["finished"],
            main=_main(heading + content),
            refresh=refresh,
        )
        return self._respond(page)

    def problem(self, response: Response, request: Request) -> Response:
        """Explain a problem that a program would have been told in JSON."""
        words, language = spoken(request, self.texts)
        code, detail = read_problem(response)
        title, explanation = _explained(response, code, detail, words)
        content = _heading(title) + explanation + _way_back(request, words)
        wait = response.header(b"retry-after") or b""
        comes_again = response.status == 503 and request.method == "GET"
        page = _page(
            language,
            status=response.status,
            kind=code,
            title=title,
            main=_main(content),
            refresh=wait.decode("ascii") if comes_again else "",
        )
        return self._respond(page, without(response.headers, OF_THE_BODY))

    def _respond(self, page: Page, fields: Headers = ()) -> Response:
        html = self._customised(page)
        if html is None:
            html = _filled(asset("page.html"), page)
            fields = ((b"content-security-policy", _csp()), *fields)
        if page.refresh:
            fields = (*fields, (b"refresh", page.refresh.encode("ascii")))
        return html_response(page.status, html, page.language, fields)

    def _customised(self, page: Page) -> str | None:
        """Return what the option `page` makes of it; None: nothing."""
        try:
            if callable(self.custom):
                html = self.custom(page)
                if not isinstance(html, str):
                    raise TypeError(f"it must return a str, not {type(html).__name__}")
                return html
            if self.custom is not None:
                return _filled(Path(self.custom).read_text("utf-8"), page)
        except Exception:  # who waits must not lose the way to the response
            logger.exception("the option `page` has failed; raincheck's own page is shown")
        return None


def _page(language: str, *, status: int, kind: str, title: str, main: str, **more: Any) -> Page:
    is_rtl = language.partition("-")[0] in RIGHT_TO_LEFT
    return Page(
        status=status,
        kind=kind,
        language=language,
        direction="rtl" if is_rtl else "ltr",
        title=title,
        main=main,
        style=asset("page.css"),
        **more,
    )


def html_response(status: int, html: str, language: str, fields: Headers = ()) -> Response:
    """Return a response for a browser, which no cache keeps."""
    body = html.encode("utf-8", "replace")
    content = (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"content-language", language.encode("ascii")),
        (b"x-content-type-options", b"nosniff"),
        (b"vary", b"Accept, Accept-Language"),
        NO_STORE,
    )
    return Response(status, content + fields, body)


def see(view: View, where: str) -> Response:
    """Lead a browser to where it waits (RFC 9110 §15.4.4), whatever its request was.

    No browser follows the `Location` of a 202. After this, neither the back button nor a reload
    sends the request again, and it needs no script.

    Args:
        where: A URL that this request's client can resolve, behind whatever proxy.
    """
    monitor = view.links.url(Resource.STATUS).encode("ascii")
    html = f'<!doctype html><title>202</title><a href="{escape(where)}">{escape(where)}</a>\n'
    fields = (
        (b"location", where.encode("ascii")),
        (b"operation-location", monitor),
        (b"link", b'<%s>; rel="status"' % monitor),
    )
    return html_response(303, html, "en", fields)


def next_of(near: Links) -> str:
    """Return the URL by which a waiting page asks for itself.

    A browser waits there from the beginning: to come again to the same URL makes no history.
    """
    url = near.path(Resource.RESPONSE)
    return url + ("&" if "?" in url else "?") + WAITING.decode("ascii")


def shown(text: str) -> str:
    """Write a hostile text: cut, escaped, without control characters, and isolated (UAX #9)."""
    cut = text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"
    printable = "".join(each if each.isprintable() or each in _JOINERS else " " for each in cut)
    return f"<bdi>{escape(printable)}</bdi>"


def progress_of(view: View, words: Texts) -> str:
    """Write how far the handler says it is."""
    told = view.operation.progress
    name = f'aria-label="{escape(words["working"])}"'
    if told is None:
        return f"<progress {name}></progress>"
    if not told.total or told.total <= 0:
        bar, count = (
            f"<progress {name}></progress>",
            _number(told.completed) if told.completed else "",
        )
    else:
        share = min(1.0, max(0.0, told.completed / told.total))
        bar = f'<progress {name} max="100" value="{100 * share:.4g}"></progress>'
        completed, total = _number(told.completed), _number(told.total)
        count = words["of"].format(completed=completed, total=total)
    parts = [shown(part) for part in (told.message, count) if part]
    return bar + (f"<p>{' · '.join(parts)}</p>" if parts else "")


def _waiting(view: View, near: Links, words: Texts) -> str:
    operation = view.operation
    heading = _title(operation, words)
    moment = timestamp(operation.created)
    time = f'<time datetime="{moment}">{moment[11:16]} UTC</time>'
    elapsed = f'<bdi dir="ltr">{duration(view.now - operation.created)}</bdi>'
    since = escape(words["since"]).format(time=time, elapsed=elapsed)
    expected = estimate(operation, view.now, view.past)
    left = "" if expected is None else words["left"].format(duration=duration(expected - view.now))
    # A path may hold what only its owner is to know.
    is_guest = bool(view.links.query) or operation.unbound
    request = shown(f"{operation.method} {operation.route}")
    what = "" if is_guest or operation.owner is None else f'<p class="dim">{request}</p>'
    cancel = "" if is_guest else _cancel(operation, near, words)
    return (
        f'<h1 id="what">{escape(heading)}</h1>{what}'
        f'<div id="progress" role="status">{progress_of(view, words)}</div>'
        f'<p id="since" class="dim">{since}</p><p id="left" class="dim">{escape(left)}</p>'
        f'<p class="dim">{escape(words["stay"])}</p>'
        f'<p id="lost" role="alert" hidden>{escape(words["lost"])}</p>'
        f'<div id="cancel">{cancel}</div>'
    )


def _cancel(operation: Operation, near: Links, words: Texts) -> str:
    may = operation.form_token is not None and not operation.coalesced
    if not may or operation.state is State.CANCELLING:
        return ""
    action = f"{near.path(Resource.RESPONSE)}?cancel={operation.form_token}"
    return (
        f'<form method="post" action="{escape(action)}">'
        f"<button>{escape(words['cancel'])}</button></form>"
    )


def _title(operation: Operation, words: Texts) -> str:
    return words["cancelling" if operation.state is State.CANCELLING else "working"]


_BY_STATUS = {404: "not-found", 410: "gone", 403: "forbidden"}


def _explained(response: Response, code: str, detail: str, words: Texts) -> tuple[str, str]:
    """Return the title and the explanation of a problem, the latter in HTML."""
    wait = response.header(b"retry-after")
    if response.status in (429, 503) and wait is not None:
        busy = words["busy-detail"].format(duration=duration(int(wait)))
        return words["busy"], _paragraph(busy)
    code = code if f"{code}-detail" in words else _BY_STATUS.get(response.status, code)
    if f"{code}-detail" in words:
        return words[code], _paragraph(words[f"{code}-detail"])
    title = words["failed" if response.status == 500 else "wrong"]
    return title, f'<p lang="en">{shown(detail)}</p>'


def _way_back(request: Request, words: Texts) -> str:
    """Link to the page that the browser has come from, if it is one of this site; else the root."""
    came_from = referred(request)
    if came_from is None or came_from.partition("?")[0] == raw_path(request):
        came_from = f"{request.root_path.rstrip('/')}/"
    url = "/" + came_from.lstrip("/")  # RFC 3986 §4.2: two slashes would be another host
    return f'<a class="to" href="{escape(url)}">{escape(words["back"])}</a>'


# Browsers take a backslash for a slash. The scheme may be a proxy's.
_REFERER = re.compile(rb"https?://(?P<host>[^/?#\\]+)(?P<path>/[!-\[\]-~]*)")


def referred(request: Request) -> str | None:
    """Return path and query of where a browser comes from; None: from nowhere on this site."""
    match = _REFERER.fullmatch(request.header(b"referer") or b"")
    if match is None or match["host"] != request.header(b"host"):
        return None
    return match["path"].decode("ascii")


def _main(content: str, next_url: str | None = None) -> str:
    data = f' data-next="{escape(next_url)}"' if next_url is not None else ""
    return f"<main{data}>{content}</main>"


def _heading(text: str) -> str:
    return f"<h1>{escape(text)}</h1>"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _number(value: float) -> str:
    return f"{value:,.10g}".replace(",", "\u202f")  # a thin space, which all languages know


def _filled(template: str, page: Page) -> str:
    values = {name: getattr(page, name) for name in ("language", "direction", "main", "style")}
    script = f"<script>{page.script}</script>" if page.script else ""
    content = escape(page.refresh)
    meta = f'<noscript><meta http-equiv="refresh" content="{content}"></noscript>'
    values |= {"title": escape(page.title), "script": script, "refresh": meta if content else ""}
    return Template(template).safe_substitute(values)


@cache
def asset(name: str) -> str:
    """Return a file that is in each page."""
    text = files("raincheck.monitor.page").joinpath(name).read_text("utf-8")
    return "\n".join(line.strip() for line in text.splitlines())


@cache
def _csp() -> bytes:
    script, style = (_hash(asset(name)) for name in ("page.js", "page.css"))
    # It says nothing of frames: an application that is shown in one goes on to be.
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'"
    ).encode("ascii")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode()}'"
