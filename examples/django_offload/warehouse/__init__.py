"""A warehouse; its Celery app is made with it, as Celery's guide for Django has it."""

from warehouse.celery import app as celery_app

__all__ = ["celery_app"]
