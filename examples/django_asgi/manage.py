"""Django's command line for a shop whose sales report is slow.

Requires:
    Python 3.11 or later, Django 5.2 or later, an ASGI server

To install:
    pip install raincheck django uvicorn

To run, in the directory of this file (the first line makes db.sqlite3, with a year of sales):
    python manage.py migrate
    python -m uvicorn shop.asgi:application

What to expect:
    The front page is answered with 200, as if raincheck were not there:

    curl -i http://127.0.0.1:8000/

    The report asks the database thousands of times. Its view is marked with @long_running, so the
    answer is 202 Accepted at once. Its Location answers 202 until the report is there, as CSV:

    curl -i http://127.0.0.1:8000/report
    curl -i <the Location>
    curl -i <the Location>/status

    An unknown product is checked by a decorator before the view begins, and answered with 404:

    curl -i 'http://127.0.0.1:8000/report?product=snow'
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    execute_from_command_line(sys.argv)
