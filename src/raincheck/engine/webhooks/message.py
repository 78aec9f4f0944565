"""What a webhook is told, as Standard Webhooks have it: that an operation has ended, and how."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from importlib.metadata import version

from standardwebhooks import Webhook

from raincheck.http.dates import timestamp
from raincheck.operations.operation import Operation


def compose(operation: Operation) -> bytes:
    """Write what happened: no more than is needed to ask for the rest."""
    document = {
        "type": f"operation.{operation.state.on_the_wire}",
        "timestamp": timestamp(operation.updated),  # nothing changes it after the end
        "data": {"id": operation.id, "status": operation.state.on_the_wire},
    }
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def sign(operation: Operation, body: bytes, secret: str, now: datetime) -> dict[str, str]:
    """Return the headers of a try at `now`; the message's id is the same in all tries."""
    # A hash: receivers log it, and whoever knows the operation's id may read its response.
    id = f"msg_{hashlib.sha256(operation.id.encode()).hexdigest()[:32]}"
    return {
        "content-type": "application/json",
        "user-agent": f"raincheck/{version('raincheck')}",
        "webhook-id": id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(id, now, body.decode("ascii")),
    }
