"""Django's command line for a shop whose exports are slow.

Requires:
    Python 3.11 or later, Django 5.2 or later, openpyxl, a WSGI or ASGI server

To install:
    pip install raincheck django openpyxl gunicorn uvicorn

To run, in the directory of this file (which makes db.sqlite3, with orders and two users):
    python manage.py migrate
    python manage.py seed --orders 100000
    python -m gunicorn --workers 2 --threads 4 shop.wsgi:application

    Or, instead of the last line: python -m uvicorn shop.asgi:application
    Or: python manage.py runserver
    With DATABASE_URL=postgresql://user:password@host/name it runs on PostgreSQL (psycopg[binary]).

What to expect:
    In a browser at http://127.0.0.1:8000/, log in as ada or bob, password "umbrella". A button
    starts an export, a bar shows how far it is, a link offers the file in the end; it can be
    cancelled meanwhile. Without JavaScript the button leads to the 202 as it is: JSON, whose
    "links" has the address of the file ("response").

    For the API, manage.py prints the token of a user. The view is marked with @long_running, so
    the answer is 202 Accepted at once, with a Location, which answers 202 until the file is there.
    How far it is says the status resource, and DELETE cancels:

    TOKEN=$(python manage.py token ada)
    curl -i http://127.0.0.1:8000/api/exports -H "Authorization: Bearer $TOKEN" --json '{"format": "csv"}'
    curl -i -H "Authorization: Bearer $TOKEN" <the Location>
    curl -i -H "Authorization: Bearer $TOKEN" <the Location>/status
    curl -i -H "Authorization: Bearer $TOKEN" -X DELETE <the Location>

    What is checked before the view begins is answered at once, here with 400 and 401:

    curl -i http://127.0.0.1:8000/api/exports -H "Authorization: Bearer $TOKEN" --json '{"format": "pdf"}'
    curl -i http://127.0.0.1:8000/api/exports --json '{"format": "csv"}'

    An operation belongs to the user who started it; to others it is unknown, which is 404.
"""  # noqa: E501 - commands to copy

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    execute_from_command_line(sys.argv)
