"""The application that `INSTALLED_APPS` names, so that `manage.py check` knows raincheck."""

from __future__ import annotations

from django.apps import AppConfig


class RaincheckConfig(AppConfig):
    """Registers the system checks."""

    name = "raincheck.django"
    label = "raincheck"
    verbose_name = "raincheck"

    def ready(self) -> None:
        """Register the checks."""
        import raincheck.django.checks  # noqa: F401 - they register themselves
