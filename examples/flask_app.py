"""A Flask application over a database of rain: comparisons, reports and exports.

Requires:
    Python 3.11 or later, Flask, a WSGI server

To install:
    pip install raincheck flask gunicorn

To run, in the directory of this file (the first line makes rain.db, 20 years of 12 rain gauges):
    python flask_app.py
    python -m gunicorn --workers 2 --threads 4 flask_app:app

    Waitress serves it as well: python -m waitress --listen=127.0.0.1:8000 flask_app:app

What to expect:
    A token says who you are. The list of stations is answered with 200, as if raincheck were not
    there; without a token the answer is 401:

    curl -i http://127.0.0.1:8000/stations -H 'Authorization: Bearer token-of-ada'
    curl -i http://127.0.0.1:8000/stations

    Comparing all pairs of stations takes longer than the budget of half a second. The answer is
    202 Accepted with a Location, which answers 202 until the comparison is there. How far it is
    says the status resource, and DELETE cancels:

    curl -i http://127.0.0.1:8000/similarities -H 'Authorization: Bearer token-of-ada'
    curl -i -H 'Authorization: Bearer token-of-ada' <the Location>
    curl -i -H 'Authorization: Bearer token-of-ada' <the Location>/status
    curl -i -H 'Authorization: Bearer token-of-ada' -X DELETE <the Location>

    The view of reports is marked with @long_running, so they are answered 202 as soon as it is
    called; an unknown station is 404 before that. The gauge of Tromso has failed: the Location
    answers 500 in the end, with the error, and says "operation-status: failed":

    curl -i -X POST http://127.0.0.1:8000/stations/bergen/reports -H 'Authorization: Bearer token-of-ada'
    curl -i -X POST http://127.0.0.1:8000/stations/nowhere/reports -H 'Authorization: Bearer token-of-ada'
    curl -i -X POST http://127.0.0.1:8000/stations/tromso/reports -H 'Authorization: Bearer token-of-ada'

    An operation belongs to the user who started it; to others it is unknown, which is 404:

    curl -i -H 'Authorization: Bearer token-of-bob' <the Location>

    The readings stream as CSV. They begin within the budget, so they are never deferred, however
    long they take; a client that asks for it gets a 202, and can fetch them more than once:

    curl http://127.0.0.1:8000/readings.csv -H 'Authorization: Bearer token-of-ada' -o rain.csv
    curl -i http://127.0.0.1:8000/readings.csv -H 'Authorization: Bearer token-of-ada' -H 'Prefer: respond-async'
"""  # noqa: E501 - commands to copy

import csv
import random
import sqlite3
import statistics
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from io import StringIO
from itertools import combinations
from operator import itemgetter
from typing import Any

from flask import Flask, Response, abort, jsonify, request

from raincheck import current_operation, long_running
from raincheck.wsgi import RaincheckMiddleware

DATABASE = "rain.db"
TOKENS = {"token-of-ada": "ada", "token-of-bob": "bob"}  # a real application would look them up
STATIONS = (
    *("aberdeen", "bergen", "cardiff", "dublin", "essen", "faro"),
    *("galway", "hamburg", "inverness", "leeds", "porto", "tromso"),
)
DAYS = [date(2005, 1, 1) + timedelta(days=n) for n in range(20 * 365)]
FAILED = ("tromso", date(2024, 12, 24))
SHIFTS = range(-7, 8)  # days by which the weather may reach one station before another


class GaugeFailure(Exception):
    """A gauge has measured what can't be."""


def user(environ: dict[str, Any]) -> str | None:
    """Tell raincheck, and the views, whom a request comes from."""
    return TOKENS.get(environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer "))


app = Flask(__name__)
app.wsgi_app = RaincheckMiddleware(app.wsgi_app, budget=0.5, owner=user)  # type: ignore[method-assign]


@app.before_request
def authenticate() -> None:
    """Refuse strangers, before any view is called."""
    if user(request.environ) is None:
        abort(401)


@app.errorhandler(GaugeFailure)
def gauge_failed(error: GaugeFailure) -> tuple[Response, int]:
    """Say what is wrong, before a 202 or after it."""
    return jsonify(error=str(error)), 500


@app.get("/stations")
def stations() -> Response:
    """Answer at once."""
    return jsonify(STATIONS)


@app.get("/similarities")
def similarities() -> Response:
    """Answer how alike the rain of each two stations is: nothing marks it, but it takes long."""
    operation, found = current_operation(), {}
    rain = {station: [amount for _, amount in readings(station)] for station in STATIONS}
    pairs = list(combinations(STATIONS, 2))
    for done, (one, other) in enumerate(pairs):
        operation.raise_if_cancelled()
        operation.progress(done, total=len(pairs), message=f"{one} and {other}")
        found[f"{one} {other}"] = max(similarity(rain[one], rain[other], s) for s in SHIFTS)
    return jsonify(found)


@app.post(f"/stations/<any({', '.join(STATIONS)}):station>/reports")
@long_running  # directly above the function: below it, Flask would not see it
def report(station: str) -> Response:
    """Answer the driest and the wettest 30 days of each year."""
    operation, years = current_operation(), sorted({day.year for day in DAYS})
    rows = list(readings(station))
    found = {}
    for done, year in enumerate(years):
        operation.raise_if_cancelled()
        operation.progress(done, total=len(years), message=str(year))
        found[year] = extremes([(day, amount) for day, amount in rows if day[:4] == str(year)])
    return jsonify(found)


@app.get("/readings.csv")
def export() -> Response:
    """Stream all readings, while they are read."""
    return Response(as_csv(), mimetype="text/csv")


def as_csv() -> Iterator[str]:
    """Yield the readings of one station after the other."""
    yield "station,day,millimetres\r\n"
    for done, station in enumerate(STATIONS):
        current_operation().progress(done, total=len(STATIONS), message=station)
        text = StringIO()
        csv.writer(text).writerows((station, *reading) for reading in readings(station))
        yield text.getvalue()


def readings(station: str) -> Iterator[tuple[str, float]]:
    """Yield day and amount, from the database."""
    query = "SELECT day, millimetres FROM reading WHERE station = ? ORDER BY day"
    with closing(sqlite3.connect(DATABASE)) as database:
        yield from database.execute(query, (station,))


def similarity(one: list[float], other: list[float], shift: int) -> float:
    """Return the correlation of two stations, one of them some days later."""
    if shift < 0:
        one, other = other, one
    return statistics.correlation(one[abs(shift) :], other[: len(other) - abs(shift)])


def extremes(year: list[tuple[str, float]]) -> dict[str, Any]:
    """Return when the driest and the wettest 30 days of a year began, and their sums."""
    if any(amount < 0 for _, amount in year):
        raise GaugeFailure("there is no negative rain")
    sums = {
        day: round(sum(amount for _, amount in year[n : n + 30]), 1)
        for n, (day, _) in enumerate(year[:-29])
    }
    return {
        "driest": min(sums.items(), key=itemgetter(1)),
        "wettest": max(sums.items(), key=itemgetter(1)),
    }


def prepare() -> None:
    """Invent the readings."""
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute("DROP TABLE IF EXISTS reading")
        database.execute("CREATE TABLE reading (station TEXT, day TEXT, millimetres REAL)")
        database.execute("CREATE INDEX by_station ON reading (station, day)")
        database.executemany("INSERT INTO reading VALUES (?, ?, ?)", invented())


def invented() -> Iterator[tuple[str, str, float]]:
    """Yield the rain that each station shares with all others, and its own."""
    dice = random.Random(1)  # noqa: S311 - the same rain for everyone
    common = [dice.gammavariate(0.4, 8) for _ in DAYS]
    for n, station in enumerate(STATIONS):
        for day, amount in zip(DAYS, common, strict=True):
            rain = round(amount * n / 12 + dice.gammavariate(0.4, 6), 1)
            yield station, day.isoformat(), -1.0 if (station, day) == FAILED else rain


if __name__ == "__main__":
    prepare()
