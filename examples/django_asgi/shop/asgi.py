"""The application as a server runs it: raincheck around all of Django."""

import os

from django.core.asgi import get_asgi_application

from raincheck.asgi import RaincheckMiddleware

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

application = RaincheckMiddleware(get_asgi_application(), budget=2.0)
