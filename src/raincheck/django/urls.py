"""The status monitor as Django URLs, to include behind the project's own authentication.

    urlpatterns = [path("pending/", include("raincheck.django.urls")), ...]

The middleware then intercepts nothing, and the links it gives follow the include.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.transaction import non_atomic_requests
from django.urls import URLPattern, path
from django.views.decorators.csrf import csrf_exempt

from raincheck.django.middleware import MOUNTED
from raincheck.django.routes import ROUTE
from raincheck.monitor.links import Resource

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

app_name, _NAME = ROUTE.split(":")


@csrf_exempt  # type: ignore[untyped-decorator]  # who forges a request does not know the id
def show(request: HttpRequest, operation_id: str, resource: Resource) -> HttpResponseBase:
    """Answer a request for an operation.

    Raises:
        ImproperlyConfigured: The middleware is missing, or has another STATUS_URL.
    """
    answer = getattr(request, MOUNTED, None)
    if answer is None:
        raise ImproperlyConfigured(
            "raincheck.django.urls needs raincheck.django.RaincheckMiddleware in MIDDLEWARE; where "
            'it is included in a namespace other than "raincheck", STATUS_URL has to say where'
        )
    response: HttpResponseBase = answer(operation_id, resource)
    return response


# With ATOMIC_REQUESTS each poll would be a transaction: it would wait for the one that the handler
# has begun, where that locks the database, and a long poll would hold a connection.
for _alias in connections:
    show = non_atomic_requests(_alias)(show)


def _pattern(resource: Resource) -> URLPattern:
    name = _NAME + resource.value.replace("/", "-")
    return path(f"<str:operation_id>{resource.value}", show, {"resource": resource}, name=name)


urlpatterns = [_pattern(resource) for resource in Resource]
