"""A Flask application that accepts by day what is worked on at night, by cron.

Requires:
    Python 3.11 or later, Flask, a WSGI server

To install:
    pip install raincheck flask gunicorn

To run, in the directory of this file:
    python -m gunicorn --workers 2 --threads 4 app:app

    And in the crontab, with the same directory and user (here five past ten each evening):
    5 22 * * * cd /srv/nightly_batch && python -m raincheck work app:app --queue nightly --once

What to expect:
    A statement is ordered, and nobody works on it yet: 202 Accepted, whose status document says
    from when on it is expected. The Location answers 202 until the night:

    curl -i -X POST http://127.0.0.1:8000/statements/ada
    curl -i <the Location>

    What cron runs can be run by hand, at any time; it begins nothing before its time, which is
    ten in the evening, or the hour that NIGHT_BEGINS says in the environment of the server:

    python -m raincheck work app:app --queue nightly --once

    Then the Location answers with the statement. An unknown account has no statement: the handler
    answers 404, as if it had been run at once, and the operation has failed:

    curl -i -X POST http://127.0.0.1:8000/statements/nobody

    Labels are printed by a program that is no handler, labels.py. It takes what waits, says how
    far it is, and completes each with a response of its own:

    curl -i -X POST http://127.0.0.1:8000/labels -d 'text=fragile'
    python labels.py
"""

import os
from datetime import datetime, timedelta

from flask import Flask, Response, abort, jsonify, request

from raincheck import current_operation, long_running
from raincheck.flask import Raincheck

BOOKINGS = {"ada": [120, -30, -45], "bob": [80, -80]}
NIGHT_BEGINS = int(os.environ.get("NIGHT_BEGINS", "22"))  # o'clock

app = Flask(__name__)
Raincheck(app, application="nightly-batch", store="sqlite:operations.db")


def tonight() -> datetime:
    """Return when the next night begins; now, if it has begun."""
    now = datetime.now().astimezone()
    begin = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(hours=NIGHT_BEGINS)
    return max(now, begin)


@app.post("/statements/<account>")
@long_running(queue="nightly", not_before=tonight, retry=True)
def statement(account: str) -> Response:
    """Add up, at night."""
    if account not in BOOKINGS:
        abort(404)
    bookings = BOOKINGS[account]
    for done, _ in enumerate(bookings):
        current_operation().progress(done, total=len(bookings))
    return jsonify(account=account, balance=sum(bookings))


@app.post("/labels")
@long_running(queue="labels")
def label() -> Response:
    """Refuse what can't be printed; the rest is done by labels.py, and not here."""
    raise AssertionError(f"nobody is to run this: {request.form}")
