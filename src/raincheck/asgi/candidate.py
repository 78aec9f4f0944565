"""What the options say of a request, as a scope describes it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from raincheck.config.left_alone import DESTINATION, FIELDS, IN_ACCEPT, IN_QUERY, NOWHERE
from raincheck.config.policy import Policy
from raincheck.http.messages import field_value

if TYPE_CHECKING:
    from starlette.types import Scope

_TELLING = frozenset({b"accept", *FIELDS})


def is_left_alone(policy: Policy, scope: Scope) -> bool:
    """Tell whether a request is never deferred, whatever its path and preference."""
    # All that is not safe comes here: what costs more is for those that may be.
    headers, query = scope["headers"], scope.get("query_string", b"")
    may_be = IN_QUERY in query
    for name, value in headers:
        if (name := name.lower()) in _TELLING:
            may_be = may_be or name != b"accept" or IN_ACCEPT in value.lower()
        elif name == DESTINATION:
            may_be = may_be or value == NOWHERE
    return may_be and policy.leaves_alone(partial(field_value, headers), query)
