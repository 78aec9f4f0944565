"""The published polling conventions; each is a value that says which URL a client polls.

Clients read two kinds of URL, and no single URL can be both: one turns from 202 into the
handler's response, the other is a status document for ever. A dialect decides which header
carries which.
"""

from __future__ import annotations

from collections.abc import Mapping

from raincheck.monitor.dialects import location, see_other
from raincheck.monitor.dialects.dialect import Dialect

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect for dialect in (location.DIALECT, see_other.DIALECT)
}

__all__ = ["DIALECTS", "Dialect"]
