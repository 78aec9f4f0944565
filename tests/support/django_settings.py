"""The one configuration of Django for all tests: a process can be configured only once."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import django
from django.conf import settings

SETTINGS = {
    "ALLOWED_HOSTS": ["*"],
    "INSTALLED_APPS": ["django.contrib.contenttypes", "django.contrib.auth", "auditlog"],
    # Other modules override it while their tests run.
    "ROOT_URLCONF": "tests.frameworks.test_django",
    "SECRET_KEY": "for tests",
}


def configure() -> None:
    """Configure Django, if nobody has."""
    if not settings.configured:
        settings.configure(**SETTINGS)
        django.setup(set_prefix=False)
