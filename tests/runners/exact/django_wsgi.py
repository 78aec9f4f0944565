"""The application in Django, for WSGI servers."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from django.core.wsgi import get_wsgi_application

import tests.runners.exact.django_app  # noqa: F401 - it configures Django

application = get_wsgi_application()
