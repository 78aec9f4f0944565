"""`Location` is M, a status document that ends in a 303 to R (RFC 9110 §15.4.4).

Not for clients that wait for the end of 202s: M is 200. azure-core and core-lro fail at the 303.
"""

from raincheck.monitor.dialects.dialect import Dialect
from raincheck.monitor.links import Resource

DIALECT = Dialect("see-other", poll=Resource.STATUS, see_other=True)
