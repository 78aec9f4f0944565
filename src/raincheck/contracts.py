"""What the author of a store needs: `Store` is the specification, the rest is what it speaks of."""

from raincheck.http.messages import Request
from raincheck.operations.operation import (
    REQUEST_FENCE,
    Operation,
    Progress,
    Reason,
    Result,
    State,
    is_overtaken,
)
from raincheck.operations.records import decode, encode
from raincheck.operations.store import (
    KEPT_AGE,
    LEFTOVER_AGE,
    Counting,
    Filter,
    Keeping,
    Liveness,
    Store,
)

__all__ = [
    "KEPT_AGE",
    "LEFTOVER_AGE",
    "REQUEST_FENCE",
    "Counting",
    "Filter",
    "Keeping",
    "Liveness",
    "Operation",
    "Progress",
    "Reason",
    "Request",
    "Result",
    "State",
    "Store",
    "decode",
    "encode",
    "is_overtaken",
]
