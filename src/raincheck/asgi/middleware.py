"""The ASGI gateway: `RaincheckMiddleware` wraps any ASGI application.

On asyncio and trio. Place it inside CORS and trusted-host middleware and outside everything else.
"""

from __future__ import annotations

from asyncio import _get_running_loop
from functools import partial
from typing import TYPE_CHECKING, Unpack

from raincheck.asgi.accepted_first import AcceptedFirst
from raincheck.asgi.candidate import is_left_alone
from raincheck.asgi.exchange import Exchange
from raincheck.asgi.gateway import Gateway
from raincheck.asgi.lifespan import run_lifespan
from raincheck.asgi.placement import refuse_endpoint
from raincheck.asgi.rerun import Rerun, Rerunner
from raincheck.asgi.status import PollRoute
from raincheck.asgi.translation import to_pairs
from raincheck.config.options import Options, Settings
from raincheck.config.policy import NEVER_DEFERRED, SAFE, Candidate, Decision, Refusal
from raincheck.engine.engine import Engine
from raincheck.engine.idempotency import SharingPolicy
from raincheck.engine.refusals import admit, is_accepted_first
from raincheck.handler import CURRENT, Deferrable, is_within, outside
from raincheck.http.messages import Response, field_value
from raincheck.http.urls import route_path
from raincheck.monitor import views
from raincheck.monitor.links import Mount, Place, Resource, parse_target
from raincheck.stores.default import store_from

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_current = CURRENT.get
MOUNTED = "raincheck"  # in the scope of polls that the application routes itself


class RaincheckMiddleware:
    """Answer slow requests of an ASGI application with 202 and a status monitor.

    Args:
        app: The application.
        options: See `config.options.Settings` for each, with unit and default.

    Raises:
        ConfigurationError: An option is unknown, has a wrong value, or contradicts another.
    """

    def __init__(self, app: ASGIApp, **options: Unpack[Options]) -> None:
        settings = Settings.build(options)
        refuse_endpoint(app)
        self.app = app
        engine = Engine(settings, store_from(settings), "asgi", lambda: app)
        self._gateway = Gateway(app, engine, type(self))
        engine.recovery.rerunner = Rerunner(self._gateway)
        self._running = self._gateway.running
        self._roots = engine.application.roots
        policy = self._policy = engine.policy
        self._sharing_policy = SharingPolicy(settings, policy)
        self._plain = self._sharing_policy.plain
        self._unasked, self._decide = policy.unasked, policy.decide
        self._mount = Mount(settings.status_url) if settings.status_url else None
        self._below = f"{settings.prefix}/" if settings.status_url is None else ""
        self._poll_routes = {each: PollRoute(settings.prefix, each) for each in Resource}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection as ASGI has it."""
        if (outer := _current()) is not None and not is_within(outer, "asgi", scope):
            await self._apart(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._pass(scope, receive, send)
            return
        headers = scope["headers"]
        if type(headers) is not list:  # in place: the server's own may be read only once
            headers = scope["headers"] = to_pairs(headers)
        path, method = scope["path"], scope["method"]
        if root_path := scope.get("root_path", ""):
            path = self._come_in_at(root_path, path)
        template = None
        # `in` costs far less than `startswith`, and says no to almost all.
        if self._below in path:
            place = self._mount.place(scope, root_path) if self._mount is not None else None
            if await self._answer_poll(scope, receive, send, path, place):
                return
            template = place.template if place is not None else None
        for field in headers:
            if field[0] == b"prefer":
                decision = self._decide_by_preference(scope, path)
                break
        else:
            decision = None if method in NEVER_DEFERRED else self._unasked[path]
        if decision is None:
            await self.app(scope, receive, send)
        elif outer is not None:
            await self._within(outer, scope, receive, send)
        elif decision.budget and method in self._plain:
            # Most requests. They do without the coroutine of `Exchange.serve`, a thirtieth of all.
            gateway, loop = self._gateway, self._running.loop
            if loop is None or loop.native is not _get_running_loop():
                loop = gateway.enter(scope)
            exchange = Exchange(gateway, scope, receive, send, decision, template, loop)
            waiter = loop.launch(exchange, decision.budget)
            if waiter is not None and exchange.deferral is None:
                try:
                    await waiter
                except BaseException as error:
                    await exchange.break_off(error)
                    raise
            if exchange.over and exchange.deferral is None and exchange.error is None:
                del exchange.task  # or there would be a cycle
            else:
                await exchange.see_through()
        else:
            await self._serve(scope, receive, send, path, decision, template)

    def _come_in_at(self, root_path: str, path: str) -> str:
        if root_path not in self._roots:
            self._gateway.engine.application.come_in_at(root_path)
        return route_path(path, root_path)

    async def _serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        path: str,
        decision: Decision,
        template: str | None,
    ) -> None:
        """Handle a request that may become an operation before its handler is called."""
        gateway, method = self._gateway, scope["method"]
        if isinstance(decision, Candidate) and not decision.in_person:
            decision = self._in_person(scope, decision)
        if decision is None:
            await self.app(scope, receive, send)
            return
        key = field_value(scope["headers"], b"idempotency-key")
        share = partial(self._sharing_policy.sharing, method, path, key)
        admitted = admit(decision, gateway.engine, share)
        if isinstance(admitted, Response):
            await gateway.status.refuse(scope, send, admitted)
            return
        candidate, sharing = admitted
        given = (gateway, scope, receive, send, candidate, template)
        if is_accepted_first(candidate, sharing):
            await AcceptedFirst(*given, sharing=sharing).serve()
        else:
            await Exchange(*given).serve()

    async def _apart(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request that begins in the context of another one, but is no part of it."""
        await outside(self, scope, receive, send)

    async def _within(self, outer: Deferrable, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request within one that may be deferred, or is run again: once is enough."""
        if isinstance(outer, Rerun) and outer.is_for(self._gateway, scope):
            await outer.come_in(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _decide_by_preference(self, scope: Scope, path: str) -> Decision:
        headers = scope["headers"]
        prefer, length = field_value(headers, b"prefer"), _content_length(headers)
        decision = self._decide(scope["method"], path, prefer, length)
        return decision if decision is None else self._in_person(scope, decision, prefer)

    def _in_person(
        self, scope: Scope, decision: Candidate | Refusal, prefer: bytes | None = None
    ) -> Decision:
        """Decide anew for a client that would have no use for a 202."""
        headers = scope["headers"]
        if not is_left_alone(self._policy, scope):
            return decision
        has_key = self._sharing_policy.has_keys and scope["method"] not in SAFE
        has_key = has_key and field_value(headers, b"idempotency-key") is not None
        return self._policy.decide_in_person(prefer, has_key=has_key)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await run_lifespan(self._gateway, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _answer_poll(
        self, scope: Scope, receive: Receive, send: Send, path: str, place: Place | None
    ) -> bool:
        """Answer a request to the status monitor; False if it is none."""
        if place is not None:
            if not place.covers(path):
                return False
            self._gateway.enter(scope)
            show, root_path = self._gateway.status.show, scope.get("root_path", "")
            scope[MOUNTED] = partial(show, template=place.template, root_path=root_path)
            await self.app(scope, receive, send)
            return True
        if not path.startswith(self._below):
            return False
        self._gateway.enter(scope)
        target = parse_target(path[len(self._below) :])
        scope["route"] = self._poll_routes[target[1] if target else Resource.RESPONSE]
        scope["endpoint"] = self._gateway.status.show
        if target is None:
            await self._gateway.status.refuse(scope, send, views.not_found())
        else:
            await self._gateway.status.show(scope, receive, send, *target)
        return True


def _content_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    value = field_value(headers, b"content-length")
    return int(value) if value and value.isdigit() and len(value) < 20 else None
