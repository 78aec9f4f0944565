"""raincheck as a Django middleware, for WSGI and ASGI, sync and async.

    MIDDLEWARE = [..., "raincheck.django.RaincheckMiddleware", ...]  # after CORS and authentication
    RAINCHECK = {"BUDGET": 2.0}
    INSTALLED_APPS = [..., "raincheck.django"]  # for `manage.py check`

Placed within the project, it knows the user a request belongs to, and what it answers itself
carries the header fields that middleware around it adds.
"""

from raincheck.django.asgi import with_drain
from raincheck.django.middleware import RaincheckMiddleware

__all__ = ["RaincheckMiddleware", "with_drain"]
