"""What others' code is given, or keeps: `Store` is the specification of a store, `Page` what a
page of one's own is made of; the rest is what they speak of.
"""

from raincheck.config.page_options import Page
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
    Concluding,
    Counting,
    Fetching,
    Filter,
    Gathering,
    Glancing,
    Keeping,
    Liveness,
    Store,
)

__all__ = [
    "KEPT_AGE",
    "LEFTOVER_AGE",
    "REQUEST_FENCE",
    "Concluding",
    "Counting",
    "Fetching",
    "Filter",
    "Gathering",
    "Glancing",
    "Keeping",
    "Liveness",
    "Operation",
    "Page",
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
