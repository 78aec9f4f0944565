"""What the unit tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A machine under load may stop an example for longer than it has time by default.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
