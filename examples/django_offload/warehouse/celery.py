"""The Celery app: the tasks of all installed apps, and the one that runs operations."""

import os

from celery import Celery

from raincheck.runners.celery import add_task

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "warehouse.settings")

app = Celery("warehouse")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

add_task("warehouse.wsgi:application", app)
