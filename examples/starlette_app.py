"""A Starlette application whose answers are sometimes slow: digits of pi.

Requires:
    Python 3.11 or later, Starlette, an ASGI server

To install:
    pip install raincheck uvicorn

To run, in the directory of this file:
    python -m uvicorn starlette_app:app

What to expect:
    A few digits take no time and are answered with 200, as if raincheck were not there:

    curl -i http://127.0.0.1:8000/pi/100

    5,000 digits take longer than the budget of half a second. The answer is 202 Accepted with a
    Location, which answers 202 until the digits are there:

    curl -i http://127.0.0.1:8000/pi/5000
    curl -i <the Location>

    How far it is says the status resource, and DELETE cancels:

    curl -i <the Location>/status
    curl -i -X DELETE <the Location>
"""

from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from raincheck import current_operation
from raincheck.asgi import RaincheckMiddleware


def pi(request: Request) -> Response:
    """Answer digits of pi; as this is a plain function, Starlette runs it in a thread."""
    wanted = request.path_params["digits"]
    operation = current_operation()
    digits: list[str] = []
    for digit in digits_of_pi():
        if len(digits) >= wanted:
            break
        if len(digits) % 50 == 0:
            operation.raise_if_cancelled()
            operation.progress(len(digits), total=wanted, message="digits")
        digits.append(str(digit))
    return PlainTextResponse("".join(digits) + "\n")


def digits_of_pi() -> Iterator[int]:
    """Yield the digits of pi; each takes longer than the one before (Gibbons' spigot)."""
    q, r, t, k, n, m = 1, 0, 1, 1, 3, 3
    while True:
        if 4 * q + r - t < n * t:
            yield n
            q, r, n = 10 * q, 10 * (r - n * t), 10 * (3 * q + r) // t - 10 * n
        else:
            n, r = (q * (7 * k + 2) + r * m) // (t * m), (2 * q + r) * m
            q, t, k, m = q * k, t * m, k + 1, m + 2


app = Starlette(
    routes=[Route("/pi/{digits:int}", pi)],
    middleware=[Middleware(RaincheckMiddleware, budget=0.5)],
)
