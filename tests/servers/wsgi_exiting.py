"""The application with what servers need that let SIGTERM kill them: an exit that Python sees."""

from __future__ import annotations

import signal
import sys

from tests.servers.wsgi_application import app

__all__ = ["app"]

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
