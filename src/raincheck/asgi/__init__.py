"""The gateway for ASGI applications: one request is an exchange, from its scope to its response."""

from raincheck.asgi.middleware import MOUNTED, RaincheckMiddleware

__all__ = ["MOUNTED", "RaincheckMiddleware"]
