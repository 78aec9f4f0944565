"""The settings of the Django project; what differs between gateways is in `django`."""

from __future__ import annotations

import os

ALLOWED_HOSTS = ["127.0.0.1"]
DATA_UPLOAD_MAX_MEMORY_SIZE = None
INSTALLED_APPS = ["raincheck.django"]
LOGGING_CONFIG = None
ROOT_URLCONF = "tests.gateways.applications.django_urls"
SECRET_KEY = "for tests"  # noqa: S105 - nothing is secret here
SECURE_CONTENT_TYPE_NOSNIFF = True
ASYNC_VIEWS = "TEST_ASYNC_VIEWS" in os.environ
