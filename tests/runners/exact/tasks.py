"""Celery's workers of the application that `TEST_TARGET` names."""

from __future__ import annotations

import os

from celery import Celery

from raincheck.runners.celery import add_task

celery = Celery("exact", broker=os.environ.get("TEST_BROKER"))
celery.conf.update(broker_connection_retry_on_startup=True, worker_enable_remote_control=False)
add_task(os.environ.get("TEST_TARGET", ""), celery)
