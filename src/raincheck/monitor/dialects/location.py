"""The default: `Location` is R, which turns from 202 into the handler's own response.

Understood by azure-core, core-lro, Redfish, FHIR and retry layers alike (RFC 9110 §15.3.3).
"""

from raincheck.monitor.dialects.dialect import Dialect
from raincheck.monitor.links import Resource

DIALECT = Dialect("location", poll=Resource.RESPONSE)
