"""The public names of WSGI, Flask, Django and gunicorn; never run, only checked."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, assert_type

from django.core.asgi import get_asgi_application
from flask import Blueprint, Flask

from raincheck import Limits, is_rerun, long_running
from raincheck.django import RaincheckMiddleware as DjangoMiddleware
from raincheck.django import with_drain
from raincheck.flask import monitor_blueprint, status_url
from raincheck.gunicorn import post_worker_init, worker_exit
from raincheck.wsgi import RaincheckMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def owner(environ: dict[str, Any]) -> str | None:
    return None


flask_app = Flask(__name__)


@flask_app.post("/exports")
@long_running(retry=True, timeout=5)
def export() -> str:
    return str(is_rerun())


assert_type(export(), str)
assert_type(monitor_blueprint(), Blueprint)
assert_type(status_url(flask_app), Callable[[Any, str], str])
wrapped: WSGIApplication = RaincheckMiddleware(
    flask_app.wsgi_app,
    budget=2.0,
    mode="marked",
    owner=owner,
    status_url=status_url(flask_app),
    limits=Limits(waiters=4, operations_per_owner=5),
    timeout=600,
    retry={"/imports/**": True, "/feed": False},
    max_attempts=1,
    abandon_after=None,
    coalesce=("/search",),
    url_secret=os.environ["URL_SECRET"],
    encryption_key=None,
    webhook=owner,
    webhook_secret="whsec_" + "0" * 32,
)
flask_app.wsgi_app = RaincheckMiddleware(flask_app.wsgi_app)  # type: ignore[method-assign]
project = with_drain(get_asgi_application())
middleware = DjangoMiddleware(lambda request: None)
hooks = (post_worker_init, worker_exit)
