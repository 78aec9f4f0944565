"""A FastAPI application whose slow endpoint runs on Celery's workers: it counts primes.

Requires:
    Python 3.11 or later, FastAPI, an ASGI server, Celery, a Redis server

To install:
    pip install "raincheck[celery,redis]" "celery[redis]" fastapi uvicorn

To run, in the directory of this file, with Redis on its usual port (or at REDIS_URL):
    python -m uvicorn web:app

And in other terminals, or on other machines, as many workers as there is work for:
    python -m celery -A tasks worker --concurrency 2

What to expect:
    The endpoint is marked with @long_running(runner="celery"): the answer is 202 Accepted at once,
    and a worker's process does the work. Its Location answers 202 until the number is there, and
    with the response that the web process would have given then, byte for byte:

    curl -i http://127.0.0.1:8000/primes/2000000
    curl -i <the Location>
    curl -i <the Location>/status
    curl -i -X DELETE <the Location>

    The status resource says how far it is, and DELETE stops the worker's handler within a second
    or two. Validation comes first, in the web process, so this is answered 422 and not 202:

    curl -i http://127.0.0.1:8000/primes/0

    Stop Redis: the answer is 503, and nothing has run. Kill a worker while it counts (kill -9):
    another one, or the same one started again, counts again, as a GET may be run twice.
"""

import os
from typing import Annotated

from fastapi import FastAPI, Path

from raincheck import current_operation, long_running
from raincheck.asgi import RaincheckMiddleware
from raincheck.runners.celery import CeleryWorkers

app = FastAPI()
app.add_middleware(
    RaincheckMiddleware,
    application="primes",  # the same in the web processes and in the workers
    store=os.environ.get("REDIS_URL", "redis://localhost:6379") + "/0",
    workers={"celery": CeleryWorkers("tasks:celery")},  # a name: neither module imports the other
)


@app.get("/primes/{limit}")
@long_running(runner="celery")
def count_primes(limit: Annotated[int, Path(gt=0, le=100_000_000)]) -> dict[str, int]:
    """Count the primes up to a limit, the slow way."""
    operation, found = current_operation(), 0
    for number in range(2, limit + 1):
        if number % 10_000 == 0:
            operation.raise_if_cancelled()
            operation.progress(number, total=limit, message="counting")
        found += all(number % divisor for divisor in range(2, int(number**0.5) + 1))
    return {"limit": limit, "primes": found}
