"""The Django middleware: which requests may be deferred, and what is said to polls.

Django makes it sync or async, after what it is placed around; `threads` and `asgi` run the rest of
the chain accordingly.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import cache, cached_property, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.urls import get_script_prefix

from raincheck.asgi.rerun import Rerun as AsyncRerun
from raincheck.asgi.rerun import Rerunner as AsyncRerunner
from raincheck.config.policy import Candidate, Refusal
from raincheck.django import threads
from raincheck.django.around import around, chain, compresses
from raincheck.django.asgi import AsyncGateway
from raincheck.django.bodies import take_body
from raincheck.django.conf import (
    USER,
    known_user,
    preparations,
    read_settings,
    settings_module,
)
from raincheck.django.contexts import told_in_transaction
from raincheck.django.event_streams import EventStreams
from raincheck.django.lending import release_pooled
from raincheck.django.prepare import prepared, prepared_in_loop
from raincheck.django.rerun import Rerun, Rerunner
from raincheck.django.routes import included_url, is_included, seen_by_reverse
from raincheck.django.sessions import leave_alone, save_before, was_accessed
from raincheck.django.translation import in_threads, to_latin, to_request, to_response
from raincheck.engine.engine import CHUNK_SIZE, Engine
from raincheck.engine.idempotency import SharingPolicy
from raincheck.engine.refusals import Admitted, admit, is_accepted_first
from raincheck.errors import StoreError
from raincheck.handler import CURRENT, REQUEST, Deferrable, is_within, outside
from raincheck.http.messages import Response, StoredBody, without
from raincheck.inspection import MarkedRequests, bound_requests_of
from raincheck.inspection.django import DjangoDirectory
from raincheck.monitor import views
from raincheck.monitor.endpoint import unreadable
from raincheck.monitor.feed import Feed
from raincheck.monitor.links import Mount, Place, Resource, fill, parse_target
from raincheck.monitor.poll import Answer as Looked
from raincheck.monitor.poll import Poll
from raincheck.runners.leaving import django_response
from raincheck.stores.default import store_from
from raincheck.wsgi.accepted_first import AcceptedFirst
from raincheck.wsgi.candidate import decide, sharing_of
from raincheck.wsgi.gateway import Gateway
from raincheck.wsgi.main_thread import StaysInMainThread
from raincheck.wsgi.request_body import Unread, patience_for

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    Answer: TypeAlias = HttpResponseBase | Coroutine[Any, Any, HttpResponseBase]

_RANGES = frozenset({b"range", b"if-range", b"accept-ranges"})
MOUNTED = "_raincheck"  # on requests for operations that the project routes itself


class RaincheckMiddleware:
    """Answer slow requests of a Django project with 202 and a status monitor.

    The setting `RAINCHECK` has the options of `config.options.Settings` in capitals, and `PREPARE`.
    `OWNER` is the authenticated user by default; it and `STATUS_URL` are given the request.

    Raises:
        ImproperlyConfigured: An option is unknown, has a wrong value, or contradicts another.
    """

    is_raincheck = True
    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._settings = read_settings()
        self.get_response = get_response
        store = store_from(self._settings)
        engine = Engine(self._settings, store, "django", settings_module)
        self._gateway = Gateway(_no_application, engine, connections.close_all, release_pooled)
        self._streams = EventStreams(self._gateway.monitor)
        self._async_gateway: AsyncGateway | None = None
        named = preparations()
        self._handle = prepared(get_response, named)
        engine.recovery.rerunner = Rerunner(self._gateway, self._handle)
        if iscoroutinefunction(get_response):
            monitor = self._gateway.monitor
            self._async_gateway = AsyncGateway(
                get_response, engine, self._to_http, monitor, prepared_in_loop(get_response, named)
            )
            engine.recovery.rerunner = AsyncRerunner(self._async_gateway)
            markcoroutinefunction(self)
        self._policy = engine.policy
        self._sharing_policy = SharingPolicy(self._settings, self._policy)
        self._below = f"{self._settings.prefix}/"
        chosen = self._settings.status_url
        self._mount = Mount(chosen) if chosen else Mount(included_url, seen_by_reverse)
        self._marked = MarkedRequests(DjangoDirectory())
        self._stays_here = StaysInMainThread(lambda: bound_requests_of(DjangoDirectory()))

    def __call__(self, request: HttpRequest) -> Answer:
        """Handle one request; in an async chain, return what is to be awaited."""
        if (outer := CURRENT.get()) is not None and not self._is_within(outer, request):
            is_async = self._async_gateway is not None
            return self._apart_in_loop(request) if is_async else self._apart(request)
        if (again := self._enter_again(request)) is not None:
            return again
        path, place = request.path_info, self._place(request)
        if place is not None:
            # Always: Django may know paths of it by which none is given away, in other languages.
            setattr(request, MOUNTED, partial(self._show, request))
            if place.covers(path):
                return self.get_response(request)
        elif path.startswith(self._below):
            return self._poll(request, path[len(self._below) :])
        decision = decide(self._policy, request.META, path)
        if decision is None or self._goes_on(request, decision):
            return self.get_response(request)
        setattr(request, USER, known_user(request))
        template = place.template if place is not None else None
        if self._async_gateway is None:
            return self._serve(request, decision, template)
        return self._serve_in_loop(self._async_gateway, request, decision, template)

    def _is_within(self, outer: Deferrable, request: HttpRequest) -> bool:
        protocol = "wsgi" if self._async_gateway is None else "asgi"
        sources = (request.META, getattr(request, "scope", {}))
        return any(is_within(outer, protocol, source) for source in sources)

    def _apart(self, request: HttpRequest) -> HttpResponseBase:
        """Handle a request that begins in the context of another one, but is no part of it."""
        token = CURRENT.set(None)
        try:
            return cast("HttpResponseBase", self(request))
        finally:
            CURRENT.reset(token)

    async def _apart_in_loop(self, request: HttpRequest) -> HttpResponseBase:
        """Do the same in an async chain."""
        return cast("HttpResponseBase", await outside(self, request))

    # --- starting ------------------------------------------------------------------------------

    def _goes_on(self, request: HttpRequest, decision: Candidate | Refusal) -> bool:
        """Tell whether a request stays as it is, although its path and preference allow a 202."""
        if CURRENT.get() is not None:  # it is within a request that may be deferred
            return True
        if isinstance(decision, Refusal):
            return False
        if self._async_gateway is None and told_in_transaction():
            return True
        if self._async_gateway is not None and not hasattr(request, "scope"):
            return True  # some middleware has made it: no server, no client
        try:
            request.get_host()  # of which links are made; Django itself refuses a forged one
        except DisallowedHost:
            return True
        if decision.in_person:
            return not self._sharing_policy.has_keys
        if decision.queue is not None:
            return False
        if decision.budget is None and not self._marked(_environ(request)):
            return True
        return self._async_gateway is None and self._stays_here(_environ(request))

    def _enter_again(self, request: HttpRequest) -> Answer | None:
        """Go on with a request that is run again, if this is one and has not come here before."""
        rerun: object = CURRENT.get()
        if isinstance(rerun, Rerun) and rerun.is_for(request):
            return rerun.come_in(request)
        scope = getattr(request, "scope", {})
        if isinstance(rerun, AsyncRerun) and rerun.is_for(rerun.gateway, scope):
            return cast(AsyncGateway, rerun.gateway).let_in(rerun, request)
        return None

    def _serve(
        self, request: HttpRequest, decision: Candidate | Refusal, template: str | None
    ) -> HttpResponseBase:
        engine, get_response = self._gateway.engine, self.get_response
        engine.application.come_in_at(get_script_prefix())
        admitted = self._admit(request, decision)
        if isinstance(admitted, Response):
            return self._refuse(request, admitted)
        candidate, sharing = admitted
        try:
            patience = patience_for(str(request.method), sharing)
            body = take_body(
                request, engine.limits.request_body, engine.admission.spooled, patience
            )
        except Unread as unread:
            refusal = unread.refusal(candidate, sharing, engine.limits)
            return get_response(request) if refusal is None else self._refuse(request, refusal)
        method, path = str(request.method), request.path_info
        exchange = threads.Exchange(self._gateway, candidate, method, path)
        exchange.bind(request, body, self._handle)
        request.META[REQUEST] = exchange.sign
        described = to_request(request)
        if is_accepted_first(candidate, sharing):
            response = AcceptedFirst(exchange, sharing, described, template).response()
            if exchange.is_passing:
                return exchange.response()
            if response is not None:
                exchange.unpack()
                answer = self._to_http(request, response)
                if exchange.operation is None:  # it has waited for another one
                    leave_alone(request, answer)
                return exchange.told(answer)
        if not exchange.start():
            return get_response(request)
        operation = exchange.outcome()
        if operation is None:
            return exchange.response()
        if isinstance(operation, Response):
            return exchange.told(self._refuse(request, operation))
        path, started = fill(template, operation.id), self._gateway.monitor.started
        told = started(operation, described, candidate.applied, path)
        return exchange.told(to_response(told))

    async def _serve_in_loop(
        self,
        gateway: AsyncGateway,
        request: HttpRequest,
        decision: Candidate | Refusal,
        template: str | None,
    ) -> HttpResponseBase:
        admitted = self._admit(request, decision)
        if isinstance(admitted, Response):
            return self._refuse(request, admitted)
        return await gateway.serve(request, *admitted, template)

    def _admit(self, request: HttpRequest, decision: Candidate | Refusal) -> Admitted | Response:
        share = partial(sharing_of, self._sharing_policy, request.META, request.path_info)
        return admit(decision, self._gateway.engine, share)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        """End quietly what a view has begun whose handler is left to workers."""
        return django_response(error)

    # --- polling -------------------------------------------------------------------------------

    def _poll(self, request: HttpRequest, tail: str) -> Answer:
        """Answer a request to the status monitor; in an async chain, without keeping its loop."""
        target = parse_target(tail) or (tail, None)
        if self._async_gateway is None:
            return self._show(request, *target)
        self._async_gateway.running.running_loop()  # where what others have left may be run again
        if "HTTP_PREFER" in request.META:
            return self._show_in_time(self._async_gateway, request, *target)
        return sync_to_async(self._show)(request, *target)

    def _show(
        self, request: HttpRequest, operation_id: str, resource: Resource | None
    ) -> HttpResponseBase:
        """Answer a request to the status monitor; may wait in this thread."""
        if resource is None:
            return _unlogged(request, self._refuse(request, views.not_found()))
        had_session = was_accessed(request)
        poll, answer = self._look(request, operation_id, resource)
        if answer.feed is not None and isinstance(request, ASGIRequest):
            return self._stream(request, answer.feed, had_session)
        followed = self._gateway.status.follow(poll, answer)
        if isinstance(followed, Response):
            return self._send(request, followed, had_session)
        return self._send(request, followed.head, had_session, followed)

    def _stream(self, request: HttpRequest, feed: Feed, had_session: bool) -> HttpResponseBase:
        """Have a client listen in an event loop."""
        release_pooled()
        return self._send(request, feed.head, had_session, self._streams.chunks(feed))

    async def _show_in_time(
        self,
        gateway: AsyncGateway,
        request: HttpRequest,
        operation_id: str,
        resource: Resource | None,
    ) -> HttpResponseBase:
        """Answer a request to the status monitor; may wait in this task.

        Whoever runs it cancels it when the client leaves.
        """
        if resource is None:
            return _unlogged(request, self._refuse(request, views.not_found()))
        had_session = was_accessed(request)
        poll, answer = await sync_to_async(self._look)(request, operation_id, resource)
        if answer.feed is not None:
            return await sync_to_async(self._stream)(request, answer.feed, had_session)
        response = answer.response
        if answer.wait:
            await sync_to_async(release_pooled)()
            response = await gateway.status.wait(poll, answer.wait)
        return await sync_to_async(self._send)(request, response, had_session)

    def _look(
        self, request: HttpRequest, operation_id: str, resource: Resource
    ) -> tuple[Poll, Looked]:
        poll = self._to_poll(request, operation_id, resource)
        return poll, self._gateway.monitor.look(poll)

    def _to_poll(self, request: HttpRequest, operation_id: str, resource: Resource) -> Poll:
        place = self._place(request)
        path = fill(place.template, operation_id) if place is not None else None
        owner = cache(partial(self._ask_owner, request))
        save_before(request)
        described = to_request(request)
        if self._is_compressed:
            described = replace(described, headers=without(described.headers, _RANGES))
        self._gateway.engine.application.come_in_at(described.root_path)
        return Poll(described, operation_id, resource, owner, path)

    def _ask_owner(self, request: HttpRequest) -> str | None:
        owner = self._gateway.owner(request)
        save_before(request)  # to find the user may have changed it
        return owner

    def _send(
        self, request: HttpRequest, response: Response, had_session: bool, chunks: Any = None
    ) -> HttpResponseBase:
        if response.status == HTTPStatus.NOT_FOUND and hasattr(request, "session"):
            # `Vary` would tell that somebody was asked for, and so that there is an operation.
            request.session.accessed = had_session
        if self._is_compressed:
            response = replace(response, headers=without(response.headers, _RANGES))
        streamed = to_response(response, chunks) if chunks is not None else None
        answer = streamed or self._to_http(request, response)
        leave_alone(request, answer)
        return _unlogged(request, answer)

    def _to_http(self, request: HttpRequest, response: Response) -> HttpResponseBase:
        if not isinstance(response.body, StoredBody):
            return to_response(response)
        try:
            # Before the status is sent: a body that has just been purged is no 200.
            chunks = self._gateway.status.open(response.body)
            length = response.body.stop - response.body.start
            if length <= CHUNK_SIZE:  # whole, so that everybody around can look at it
                return to_response(replace(response, body=b"".join(chunks)))
        except StoreError as error:
            return self._refuse(request, unreadable(error))
        is_async = isinstance(request, ASGIRequest)
        return to_response(response, in_threads(chunks, length) if is_async else chunks)

    def _refuse(self, request: HttpRequest, response: Response) -> HttpResponseBase:
        """Refuse a request, in a form that its client can read."""
        return to_response(self._gateway.monitor.refusal(response, to_request(request)))

    @cached_property
    def _is_compressed(self) -> bool:
        """Whether middleware around may compress what polls are sent: no ranges of that."""
        return compresses(around(chain()))

    @cached_property
    def _is_mounted(self) -> bool:
        """Whether the project routes polls itself; asked for late, as URLs import views."""
        if self._settings.status_url is not None:
            return True
        return is_included()

    def _place(self, request: HttpRequest) -> Place | None:
        """Say where the project routes polls; None: nowhere."""
        if not self._is_mounted:
            return None
        return self._mount.place(request, get_script_prefix().rstrip("/"))


def _unlogged(request: Any, response: Any) -> HttpResponseBase:
    """Keep Django from logging what polls are told: it was logged when it happened.

    And with the URL of an operation anybody can read it. Neither is it for the per-site cache, of
    which older versions of Django keep what says `no-store`, too.
    """
    response._has_been_logged = True
    request._cache_update_cache = False
    return cast("HttpResponseBase", response)


def _environ(request: HttpRequest) -> dict[str, Any]:
    """Describe a request as `handlers` needs it to find its view."""
    return {"REQUEST_METHOD": request.method, "PATH_INFO": to_latin(request.path_info)}


def _no_application(environ: Any, start_response: Any) -> Any:
    raise AssertionError("Django calls its views itself")
