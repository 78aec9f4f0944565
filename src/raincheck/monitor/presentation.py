"""In which form things are told: JSON to programs, pages to people, parts to pages.

What is told, and with which status, says `views`. Pure but for a look whether a template exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from raincheck.config.page_options import Page
from raincheck.errors import ConfigurationError
from raincheck.http.messages import Request, Response
from raincheck.http.problems import is_problem
from raincheck.http.urls import raw_path
from raincheck.monitor import views
from raincheck.monitor.audience import CANCEL, WAITING, Audience, audience_of, is_waiting
from raincheck.monitor.links import SIGNATURE, Links, Resource
from raincheck.monitor.page.document import Pages, next_of, referred, see
from raincheck.monitor.page.fragments import Fragments, boosted, for_htmx
from raincheck.monitor.page.texts import Texts, with_texts
from raincheck.monitor.views import View
from raincheck.operations.operation import PASSING, is_expired

OWN_PARAMETERS = frozenset({WAITING, SIGNATURE.encode("ascii"), CANCEL})

Html = bool | Mapping[str, Texts]

# What all browsers show in the place of a page. Of all else they may save what they don't know.
_IN_PLACE = frozenset(
    {
        *(b"text/html", b"text/plain", b"application/xhtml+xml", b"application/json"),
        *(b"image/png", b"image/jpeg", b"image/gif", b"image/webp", b"image/svg+xml"),
    }
)


class Presentation:
    """Tells clients of one middleware what they can read.

    Args:
        html: The option of that name.
        page: The option of that name.
        is_placed: Whether `public_url` says where clients find the application.

    Raises:
        ConfigurationError: There is no such template.
    """

    def __init__(
        self,
        html: Html,
        page: Callable[[Page], str] | str | None = None,
        *,
        is_placed: bool = False,
    ) -> None:
        if isinstance(page, str) and not Path(page).is_file():
            raise ConfigurationError(f"page must be the path of a template: there is no {page!r}")
        texts = with_texts(html if isinstance(html, Mapping) else {})
        self.has_html = bool(html) or isinstance(html, Mapping)
        self._pages = Pages(page, texts)
        self._fragments = Fragments(texts)
        self._is_placed = is_placed

    def audience(self, request: Request, *, is_poll: bool = False) -> Audience:
        """Tell who reads the response to a request."""
        return audience_of(request, is_poll=is_poll) if self.has_html else Audience.PROGRAM

    def may_block(self, request: Request) -> bool:
        """Tell whether the answer to a poll may be a page, which the application may make."""
        return self.audience(request, is_poll=True) is not Audience.PROGRAM

    def started(self, view: View, request: Request, applied: str | None) -> Response:
        """Tell that a request has become an operation."""
        audience = self.audience(request)
        if audience is Audience.PROGRAM:
            return views.started(view, applied)
        if audience is Audience.BROWSER and applied is None:
            return see(view, next_of(self._near(view, request)))
        return views.with_applied(self._running(view, request, audience), applied)

    def read(self, view: View, resource: Resource, request: Request) -> Response:
        """Answer a GET or HEAD of one of the operation's resources."""
        operation, audience = view.operation, self.audience(request, is_poll=True)
        if audience is Audience.PROGRAM or resource is not Resource.RESPONSE:
            return views.read(view, resource, request)
        if not operation.is_terminal and not is_expired(operation, view.now):
            return self._running(view, request, audience)
        response = views.read(view, resource, request)
        if is_problem(response):
            return response
        if audience is Audience.HTMX:
            return for_htmx(response)
        if audience is Audience.BROWSER and is_waiting(request):
            return self._arrived(view, request, response)
        return response

    def is_astray(self, view: View, resource: Resource, request: Request) -> bool:
        """Tell whether a browser is meant to be where the operation came from.

        A link or a form of the result that has only a query, such as `?page=2`, is one of the page
        that it is in, and that is R. A link elsewhere, to which somebody has added a parameter, is
        not: it would begin the work again.
        """
        operation = view.operation
        is_shown = operation.result is not None and not is_expired(operation, view.now)
        if resource is not Resource.RESPONSE or not is_shown or not request.query:
            return False
        names = {each.partition(b"=")[0] for each in request.query.split(b"&")}
        if names & OWN_PARAMETERS or {".", ".."} & set(operation.route.split("/")):
            return False
        return self.audience(request) is Audience.BROWSER and comes_from_itself(request)

    def refusal(self, response: Response, request: Request, *, is_poll: bool = False) -> Response:
        """Tell what is wrong, if a response does that; any other one stays as it is."""
        if not is_problem(response):
            return response
        audience = self.audience(request, is_poll=is_poll)
        if audience is Audience.PROGRAM:
            return response
        if audience in (Audience.BROWSER, Audience.HTMX_BOOSTED):
            return self._pages.problem(response, request)
        told = self._fragments.problem(response, request)
        if not is_poll or audience is not Audience.HTMX:
            return told
        if response.status in PASSING:  # it polls again
            return replace(told, headers=(*told.headers, (b"hx-reswap", b"none")))
        return for_htmx(told)

    def _running(self, view: View, request: Request, audience: Audience) -> Response:
        if audience is Audience.HTMX:
            return self._fragments.htmx(view, request)
        if audience is Audience.TURBO_FRAME:
            return self._fragments.turbo(view, request)
        if audience is Audience.HTMX_BOOSTED:
            return boosted(view)
        return self._pages.waiting(view, self._near(view, request), request)

    def _near(self, view: View, request: Request) -> Links:
        """Return the links as a browser resolves them, which knows what a proxy has changed."""
        return view.links if self._is_placed else view.links.seen_from(request)

    def _arrived(self, view: View, request: Request, response: Response) -> Response:
        """Lead a waiting page to the result, or to the file that is one."""
        is_empty = response.status in (204, 205)
        near = self._near(view, request)
        if not is_empty and is_shown_in_place(response):
            return see(view, near.url(Resource.RESPONSE))
        return self._pages.finished(near, request, is_empty=is_empty)


def comes_from_itself(request: Request) -> bool:
    """Tell whether a browser comes from the very page that it asks for."""
    came_from = referred(request)
    return came_from is not None and came_from.partition("?")[0] == raw_path(request)


def is_form(request: Request) -> bool:
    """Tell whether a request is the form by which a page cancels."""
    return request.method == "POST" and request.parameter(CANCEL) is not None


def is_shown_in_place(response: Response) -> bool:
    """Tell whether a browser shows a response instead of saving it."""
    if response.status // 100 == 3:
        return True
    disposition = (response.header(b"content-disposition") or b"").lstrip().lower()
    if disposition.startswith(b"attachment"):
        return False
    kind = (response.header(b"content-type") or b"").partition(b";")[0].strip().lower()
    return kind in _IN_PLACE
