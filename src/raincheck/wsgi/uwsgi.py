"""What only uwsgi does: before 2.0.27 threads stand still between requests unless it is told."""

from __future__ import annotations

import sys
from typing import Any

_WITHOUT_FLAG = (2, 0, 27)  # from here on threads always run
_FLAGS = ("enable-threads", "threads")


def freezes_threads() -> bool:
    """Tell whether this process is a uwsgi whose threads run only while it handles a request."""
    uwsgi: Any = sys.modules.get("uwsgi")  # uwsgi itself puts it there
    version = getattr(uwsgi, "version_info", None)
    if version is None or tuple(version[:3]) >= _WITHOUT_FLAG:
        return False
    options = {key.decode() if isinstance(key, bytes) else key for key in uwsgi.opt}
    return options.isdisjoint(_FLAGS)
