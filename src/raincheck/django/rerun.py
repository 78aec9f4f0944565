"""Running a captured request again in a sync chain: through the whole project, without a server.

What is around raincheck's middleware, such as authentication, has to see the request again, too. So
it comes in at a chain of its own, the outermost middleware first. At raincheck's it is answered 202
as the first time, and the rest of the chain goes on. That it is a re-run says an object in the
context of the thread, and another one in the environ that it is this very request: what is around
may send requests of its own. No client can put either there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.http import HttpResponse

from raincheck.config.policy import Candidate
from raincheck.django.bodies import Body
from raincheck.django.threads import Exchange
from raincheck.handler import CURRENT, REQUEST
from raincheck.http.messages import Request
from raincheck.wsgi import rerun
from raincheck.wsgi.translation import decoded, to_environ

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from raincheck.wsgi.gateway import Gateway

logger = logging.getLogger("raincheck")


class Rerunner(rerun.Rerunner):
    """Runs captured requests in threads of one gateway.

    Args:
        get_response: The rest of the chain, from raincheck's middleware on.
    """

    def __init__(
        self, gateway: Gateway, get_response: Callable[[HttpRequest], HttpResponseBase]
    ) -> None:
        super().__init__(gateway)
        self.gateway = gateway
        self.get_response = get_response

    @cached_property
    def project(self) -> WSGIHandler:
        """Return where requests come in."""
        # Not at construction: it makes a middleware of this kind, too.
        return WSGIHandler()

    def to_race(self, request: Request, body: IO[bytes]) -> Rerun:
        """Return what handles the request."""
        return Rerun(self, to_environ(request, body), body)


class Rerun(Exchange):
    """A request that is run again; nobody waits for its response but the store."""

    def __init__(self, rerunner: Rerunner, environ: WSGIEnvironment, body: IO[bytes]) -> None:
        method, path = environ["REQUEST_METHOD"], decoded(environ["PATH_INFO"])
        super().__init__(rerunner.gateway, Candidate(0), method, path)
        self._rerunner = rerunner
        self._environ = environ
        environ[REQUEST] = self.sign
        self._stored = body
        self.is_inside = False  # it has come to raincheck's middleware

    def start(self) -> bool:
        """Begin at the outermost middleware, in another thread; False if there can't be one."""
        return self._in_thread(self._come_to_the_project)

    def is_for(self, request: HttpRequest) -> bool:
        """Tell whether this is the request, and has not come to raincheck's middleware before."""
        return request.META.get(REQUEST) is self.sign and not self.is_inside

    def come_in(self, request: HttpRequest) -> HttpResponseBase:
        """Go on at raincheck's middleware: as after a 202, of which nobody hears."""
        self.is_inside = True
        self._bind(request, self._rerunner.get_response)
        self.detached()
        if not self.start_with(lambda: self._in_thread(self.run)):
            self.run()
        return self.told(HttpResponse(status=202))

    def _bind(self, request: Any, get_response: Callable[[Any], HttpResponseBase]) -> None:
        self.bind(request, Body(request, self._stored, is_ours=True), get_response)

    def _come_to_the_project(self) -> None:
        CURRENT.set(self)
        response: Any = None
        error: BaseException | None = None
        try:
            response = self._rerunner.project(self._environ, _nobody_listens)
            if self.is_inside:
                response.close()
        except BaseException as raised:
            error = raised
        if not self.is_inside:
            self._end_outside(response, error)
        elif error is not None:
            logger.error("what is around %r raised", self.path, exc_info=error)
        connections.close_all()

    def _end_outside(self, response: Any, error: BaseException | None) -> None:
        """Record what middleware around raincheck's has answered: a client would get that, too."""

        def answer(_: Any) -> Any:
            if error is not None:
                raise error
            return response

        self._bind(None, answer)
        self.run()


def _nobody_listens(*_: Any) -> Any:
    """Be the `start_response` of no server."""
