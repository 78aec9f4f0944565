"""The WSGI gateway: `RaincheckMiddleware` wraps any WSGI application.

A server's thread can't let go of a running handler. So a request that may be deferred is handled in
another thread; every other one is handled as if there were no raincheck around.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Unpack

from raincheck.config.options import Options, Settings
from raincheck.config.policy import Candidate, Refusal
from raincheck.engine.engine import Engine
from raincheck.engine.idempotency import SharingPolicy
from raincheck.engine.refusals import Admitted, admit, is_accepted_first
from raincheck.handler import CURRENT, is_within
from raincheck.http.messages import Response
from raincheck.monitor.links import Mount, Place, fill, parse_target
from raincheck.monitor.views import allowed, not_found
from raincheck.stores.default import store_from
from raincheck.wsgi.accepted_first import AcceptedFirst
from raincheck.wsgi.apart import apart
from raincheck.wsgi.candidate import decide, sharing_of
from raincheck.wsgi.exchange import Exchange
from raincheck.wsgi.gateway import Gateway
from raincheck.wsgi.main_thread import StaysInMainThread
from raincheck.wsgi.request_body import Unread, give_back, patience_for, read_ahead
from raincheck.wsgi.rerun import Rerunner
from raincheck.wsgi.translation import decoded, to_request
from raincheck.wsgi.uwsgi import freezes_threads

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("raincheck")

MOUNTED = "raincheck.monitor"  # in the environ of polls that the application routes itself


class RaincheckMiddleware:
    """Answer slow requests of a WSGI application with 202 and a status monitor.

    Args:
        app: The application.
        options: See `config.options.Settings` for each, with unit and default. `owner` and
            `status_url` are given the environ.

    Raises:
        ConfigurationError: An option is unknown, has a wrong value, or contradicts another.
    """

    def __init__(self, app: WSGIApplication, **options: Unpack[Options]) -> None:
        settings = Settings.build(options)
        self.app = app
        engine = Engine(settings, store_from(settings), "wsgi", lambda: app)
        self._gateway = Gateway(app, engine)
        engine.recovery.rerunner = Rerunner(self._gateway)
        self._policy = engine.policy
        self._sharing_policy = SharingPolicy(settings, self._policy)
        self._mount = Mount(settings.status_url) if settings.status_url else None
        self._below = f"{settings.prefix}/" if settings.status_url is None else ""
        self._marked: Callable[[Mapping[str, Any]], bool] | None = None
        self._stays_here = StaysInMainThread(self._find_bound)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request as PEP 3333 has it."""
        if (outer := CURRENT.get()) is not None and not is_within(outer, "wsgi", environ):
            return apart(self, environ, start_response)
        path = environ.get("PATH_INFO", "")
        if not path.isascii():
            path = decoded(path)
        template = None
        # `in` costs far less than `startswith`, and says no to almost all.
        if self._below in path:
            place = self._place(environ)
            answer = self._poll(environ, start_response, path, place)
            if answer is not None:
                return answer
            template = place.template if place is not None else None
        decision = decide(self._policy, environ, path)
        if decision is None:
            return self.app(environ, start_response)
        return self._serve(environ, start_response, path, decision, template)

    def _serve(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        path: str,
        decision: Candidate | Refusal,
        template: str | None,
    ) -> Iterable[bytes]:
        """Handle a request that may be deferred, or must be refused."""
        if isinstance(decision, Candidate) and self._goes_inline(environ, decision):
            return self.app(environ, start_response)
        engine = self._gateway.engine
        stream = environ["wsgi.input"]
        admitted = self._admit(environ, path, decision)
        if isinstance(admitted, Response):
            return self._gateway.status.refuse(environ, start_response, admitted)
        candidate, sharing = admitted
        try:
            patience = patience_for(environ["REQUEST_METHOD"], sharing)
            body = read_ahead(
                environ, engine.limits.request_body, engine.admission.spooled, patience
            )
        except Unread as unread:
            refusal = unread.refusal(candidate, sharing, engine.limits)
            if refusal is not None:
                return self._gateway.status.refuse(environ, start_response, refusal)
            return self.app(environ, start_response)
        engine.application.come_in_at(decoded(environ.get("SCRIPT_NAME", "")))
        exchange = Exchange(self._gateway, environ, path, body, candidate)
        if is_accepted_first(candidate, sharing):
            request = to_request(environ)
            response = AcceptedFirst(exchange, sharing, request, template).response()
            if exchange.is_passing:
                return exchange.response(start_response)
            if response is not None:
                return self._gateway.status.send(environ, start_response, response)
        give = partial(give_back, stream, body)
        return self._race(exchange, environ, start_response, template, give)

    def _race(
        self,
        exchange: Exchange,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        template: str | None,
        at_response: Callable[[], None],
    ) -> Iterable[bytes]:
        """Have the application called, and defer the request if need be."""
        if not exchange.start():
            return self.app(environ, start_response)
        operation = exchange.outcome()
        if operation is None:
            try:
                return exchange.response(start_response)
            finally:
                at_response()
        if isinstance(operation, Response):
            return self._gateway.status.refuse(environ, start_response, operation)
        where, applied = fill(template, operation.id), exchange.candidate.applied
        request = to_request(environ)
        response = self._gateway.monitor.started(operation, request, applied, where)
        return self._gateway.status.send(environ, start_response, response)

    def _admit(
        self, environ: WSGIEnvironment, path: str, decision: Candidate | Refusal
    ) -> Admitted | Response:
        """Say whether the handler may be called; nothing speaks against most."""
        is_plain = environ["REQUEST_METHOD"] in self._sharing_policy.plain
        if is_plain and type(decision) is Candidate and decision.budget:
            return Admitted(decision, None)
        share = partial(sharing_of, self._sharing_policy, environ, path)
        return admit(decision, self._gateway.engine, share)

    def _goes_inline(self, environ: WSGIEnvironment, candidate: Candidate) -> bool:
        if CURRENT.get() is not None:  # it is within a request that may be deferred
            return True
        if candidate.in_person:
            return not self._sharing_policy.has_keys
        if candidate.queue is not None:
            return False
        if candidate.budget is None and not self._is_marked(environ):
            return True
        return self._is_frozen or self._stays_here(environ)

    def _find_bound(self) -> Callable[[Mapping[str, Any]], bool] | None:
        from raincheck.inspection import bound_requests  # servers with threads don't need it

        return bound_requests(self.app)

    @cached_property
    def _is_frozen(self) -> bool:
        """Whether what goes on after a 202 would stand still; asked for in a worker process."""
        if frozen := freezes_threads():
            logger.warning("nothing is deferred: this uwsgi needs --enable-threads for that")
        return frozen

    def _is_marked(self, environ: WSGIEnvironment) -> bool:
        """Tell whether the handler of a request is marked, or may be."""
        if self._marked is None:  # not at construction: the application may have no routes then
            from raincheck.inspection import marked_requests  # few middlewares need it

            self._marked = marked_requests(self.app)
            if self._marked is None:
                logger.warning(
                    "the framework of %r is not known, so every request that may reach a marked "
                    "handler runs in a thread of its own; narrow it with `include`",
                    self.app,
                )
                self._marked = lambda environ: True
        return self._marked(environ)

    def _poll(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        path: str,
        place: Place | None,
    ) -> Iterable[bytes] | None:
        """Answer a request to the status monitor; None if it is none."""
        if place is not None:
            if not place.covers(path):
                return None
            show = self._gateway.status.show_inside
            root_path = decoded(environ.get("SCRIPT_NAME", ""))
            environ[MOUNTED] = partial(show, template=place.template, root_path=root_path)
            return self.app(environ, start_response)
        if not path.startswith(self._below):
            return None
        target = parse_target(path[len(self._below) :])
        if target is None:
            return self._gateway.status.refuse(environ, start_response, not_found())
        is_preflight = "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
        if is_preflight and environ["REQUEST_METHOD"] == "OPTIONS" and self._gateway.status.hooks:
            return self._gateway.status.send(environ, start_response, allowed(target[1]))
        return self._gateway.status.show(environ, start_response, *target)

    def _place(self, environ: WSGIEnvironment) -> Place | None:
        """Say where the application has mounted the status monitor; None: nowhere."""
        if self._mount is None:
            return None
        return self._mount.place(environ, decoded(environ.get("SCRIPT_NAME", "")))
