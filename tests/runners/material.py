"""What the application and its workers have in common: where they meet, by the environment.

`TEST_BROKER`, `RAINCHECK_STORE` and `TEST_JOURNAL` say where.
"""

from __future__ import annotations

import os

BROKER = os.environ.get("TEST_BROKER", "memory://")
APP = os.environ.get("TEST_APP", "asgi")  # or wsgi
QUEUE = os.environ.get("TEST_QUEUE", "celery")
