"""The logs of a run and who writes them: one JSON document a line.

Times are those of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

CLIENTS, HANDLERS, CHAOS, FACTS = "clients.jsonl", "handlers.log", "chaos.jsonl", "facts.json"
SERVERS = "servers.log"


class Journal:
    """Adds lines to a file as things happen."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def write(self, event: str, **fields: Any) -> float:
        """Add a line, and return the time it tells."""
        now = time.monotonic()
        self._file.write(json.dumps({"event": event, "t": now, **fields}) + "\n")
        return now

    def close(self) -> None:
        """Close the file."""
        self._file.close()
