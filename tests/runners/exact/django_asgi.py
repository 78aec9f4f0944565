"""The application in Django, for ASGI servers."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from django.core.asgi import get_asgi_application

import tests.runners.exact.django_app  # noqa: F401 - it configures Django

application = get_asgi_application()
