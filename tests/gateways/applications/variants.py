"""The same application with different options of raincheck, in one server.

`X-Variant` names the one that a request is for; without it, it is the one with short budgets only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from raincheck.config.options import Options
from tests.gateways.applications.handlers import BARE

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from starlette.types import ASGIApp, Receive, Scope, Send

_App = TypeVar("_App")

BASE: Options = {
    "budget": 20.0,
    "budgets": {"/slow": 0.05, "/unique/slow": 0.05},
    "exclude": [f"{BARE}/**"],
    "retry": {"/again": True},
}
SIGNING: Options = {"url_secret": "of these tests, and no secret"}
VARIANTS: Mapping[str, Options] = {
    "": BASE,
    "generous": BASE | {"limits": {"request_body": 2**28}, "keep_cookies": True, "client_js": True},
    "tight": BASE | {"limits": {"request_body": 1_000}, "max_wait": 0.5},
    "brief": BASE | {"retention": 0.5},
    "small": BASE | {"limits": {"response_body": 1_000_000}},
    "annes": BASE | SIGNING | {"owner": lambda request: "anne"},
    "bobs": BASE | SIGNING | {"owner": lambda request: "bob"},
    "owned": BASE | {"owner": lambda request: "somebody else"},
    "full": BASE | {"limits": {"operations": 0}},
    "marked": BASE | {"mode": "marked"},
    "asked": BASE | {"mode": "prefer"},
    "coalescing": BASE | {"coalesce": ["/unique"]},
    "few": BASE | {"owner": lambda request: "few", "limits": {"operations_per_owner": 1}},
    "none": BASE | {"limits": {"operations_in_store": 0}},
    "roomless": BASE | {"limits": {"spooled": 0}},
    "hurried": BASE | {"timeout": 0.5},
}


def _each(build: Callable[[Options], _App]) -> dict[str, _App]:
    return {name: build(options) for name, options in VARIANTS.items()}


def asgi_variants(build: Callable[[Options], ASGIApp]) -> ASGIApp:
    """Build an ASGI application once for each variant, and return what chooses among them."""
    applications = _each(build)

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        name = dict(scope.get("headers", ())).get(b"x-variant", b"").decode()
        await applications[name](scope, receive, send)

    return choose


def wsgi_variants(build: Callable[[Options], WSGIApplication]) -> WSGIApplication:
    """Build a WSGI application once for each variant, and return what chooses among them."""
    applications = _each(build)

    def choose(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return applications[environ.get("HTTP_X_VARIANT", "")](environ, start_response)

    return choose
