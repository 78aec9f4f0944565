"""The gateway for WSGI applications: one request is a race of a handler's thread and its budget."""

from raincheck.wsgi.middleware import MOUNTED, RaincheckMiddleware

__all__ = ["MOUNTED", "RaincheckMiddleware"]
