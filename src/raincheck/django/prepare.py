"""What the setting `PREPARE` names: called in the handler's thread, before the view.

For packages that keep something of the request for each thread, such as its user: their middleware
is around raincheck's, in the server's thread, and forgets it when the 202 leaves. Language, time
zone and context variables, asgiref's `Local` among them, go with the handler anyway.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

Prepare = Callable[[Any], Any]


def crum(request: HttpRequest) -> Callable[[], None]:
    """Have django-crum know the request and its user."""
    from crum import set_current_request

    set_current_request(request)
    return partial(set_current_request, None)


def auditlog(request: HttpRequest) -> Callable[[], None]:
    """Have django-auditlog know who changes something, after the 202 as well."""
    from auditlog.context import auditlog_value, set_extra_data
    from auditlog.middleware import AuditlogMiddleware

    around = auditlog_value.get(None)
    known = set_extra_data(context_data=AuditlogMiddleware().get_extra_data(request))
    known.__enter__()

    def end() -> None:
        known.__exit__(None, None, None)
        if around is not None:  # by it the middleware around finds what it has to end
            auditlog_value.set(around)

    return end


def prepared(
    get_response: Callable[[HttpRequest], HttpResponseBase], preparations: Sequence[Prepare]
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Return the rest of a sync chain with these called before it."""
    if not preparations:
        return get_response

    def handle(request: HttpRequest) -> HttpResponseBase:
        with _begin(preparations, request):
            return get_response(request)

    return handle


def prepared_in_loop(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
    preparations: Sequence[Prepare],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """Return the rest of an async chain with these called before it, in the handler's thread."""
    if not preparations:
        return get_response

    async def handle(request: HttpRequest) -> HttpResponseBase:
        begun = await sync_to_async(_begin)(preparations, request)
        try:
            return await get_response(request)
        finally:
            await sync_to_async(begun.close)()

    return handle


def _begin(preparations: Sequence[Prepare], request: HttpRequest) -> ExitStack:
    with ExitStack() as stack:
        for prepare in preparations:
            end = prepare(request)
            if callable(end):
                stack.callback(end)
        return stack.pop_all()
