"""What is done on workers, whoever brings it there."""

from __future__ import annotations

import os
import time
from typing import Any

PAYLOAD = "x" * 1000


def work(seconds: float, spins: int) -> dict[str, Any]:
    """Wait, then compute; say when it began, and in which process."""
    begun = time.time()
    time.sleep(seconds)
    total = 0
    for n in range(spins):
        total += n * n
    return {"begun": begun, "worker": os.getpid(), "total": total, "payload": PAYLOAD}
