"""Django's command line for a warehouse whose new prices are set by Celery's workers.

Requires:
    Python 3.11 or later, Django 5.2 or later, a WSGI server, Celery, a Redis server

To install:
    pip install "raincheck[celery,django]" "celery[redis]" gunicorn

To run, in the directory of this file, with Redis on its usual port (or at REDIS_URL):
    python manage.py migrate
    python -m gunicorn --workers 2 --threads 4 warehouse.wsgi:application

And in other terminals, as many workers as there is work for:
    python -m celery -A warehouse worker --concurrency 2

What to expect:
    The view is marked with @long_running(runner="celery"): the answer is 202 Accepted at once, a
    worker's process does the work, and the Location answers 202 until it is done:

    curl -i http://127.0.0.1:8000/prices/raise -d percent=3
    curl -i <the Location>
    curl -i <the Location>/status

    With ATOMIC_REQUESTS the view is one transaction, in the worker. DELETE stops it, and all prices
    are what they were before; so they are when a worker is killed. As it would do harm to raise
    prices twice, and this is a POST, it is not run again then: its response is 500, "interrupted".

    curl -i -X DELETE <the Location>
    curl -i http://127.0.0.1:8000/prices

    What is checked before is answered at once, here with 400:

    curl -i http://127.0.0.1:8000/prices/raise -d percent=many
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "warehouse.settings")
    execute_from_command_line(sys.argv)
