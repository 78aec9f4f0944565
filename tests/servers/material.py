"""What the servers' applications have in common: options, a journal, and bodies.

`TEST_OPTIONS` holds raincheck's options as JSON. `TEST_JOURNAL` names a file to which handlers add
a line each, so that a test sees what happened where no response tells it.
"""

from __future__ import annotations

import json
import os
import random

JOURNAL = os.environ.get("TEST_JOURNAL", os.devnull)
OPTIONS = json.loads(os.environ.get("TEST_OPTIONS", "{}"))


def content(seed: int, size: int) -> bytes:
    """Return the body that a handler makes of these two."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - no secret


def note(event: str) -> None:
    """Add a line to the journal; several processes may."""
    descriptor = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{event}\n".encode())
    os.close(descriptor)
