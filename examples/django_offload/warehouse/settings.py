"""Settings of the example; those of raincheck and of Celery are at the end."""

import os
from pathlib import Path

from raincheck.runners.celery import CeleryWorkers

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ.get("SECRET_KEY", "for an example only")
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "warehouse.urls"
WSGI_APPLICATION = "warehouse.wsgi.application"
INSTALLED_APPS = ["raincheck.django", "warehouse"]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "raincheck.django.RaincheckMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL",
            "transaction_mode": "IMMEDIATE",
            "timeout": 60,  # seconds that one who writes waits for another
        },
        "ATOMIC_REQUESTS": True,  # each view is a transaction, whoever runs it
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

RAINCHECK = {
    "MODE": "marked",
    "APPLICATION": "warehouse",  # the same in the web processes and in the workers
    # Where operations are kept: on this machine. With several, use a store that they share.
    "STORE": f"sqlite://{BASE_DIR / 'operations.sqlite3'}",
    "WORKERS": {"celery": CeleryWorkers("warehouse.celery:app")},
}
CELERY_BROKER_URL = os.environ.get("REDIS_URL", "redis://localhost:6379") + "/1"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
