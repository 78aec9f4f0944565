"""The application as an ASGI server runs it; its shutdown waits for exports that still run."""

import os

from django.core.asgi import get_asgi_application

from raincheck.django import with_drain

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

application = with_drain(get_asgi_application())
