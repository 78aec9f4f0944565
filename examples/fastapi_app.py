"""A FastAPI application with an endpoint that is always slow: reports.

Requires:
    Python 3.11 or later, FastAPI, an ASGI server

To install:
    pip install raincheck fastapi uvicorn

To run, in the directory of this file:
    python -m uvicorn fastapi_app:app

What to expect:
    The endpoint is marked with @long_running, so the answer is 202 Accepted at once. Its Location
    answers 202 until the report is there:

    curl -i http://127.0.0.1:8000/reports -H 'X-User: ada' --json '{"title": "Rain", "pages": 40}'
    curl -i -H 'X-User: ada' <the Location>
    curl -i -H 'X-User: ada' <the Location>/status

    Validation and authentication come first, so these are answered 422 and 401 and not 202:

    curl -i http://127.0.0.1:8000/reports -H 'X-User: ada' --json '{"title": "Rain", "pages": 0}'
    curl -i http://127.0.0.1:8000/reports --json '{"title": "Rain", "pages": 40}'

    An operation belongs to the user who started it; to others it is unknown, which is 404:

    curl -i -H 'X-User: bob' <the Location>

    With -H 'Idempotency-Key: order-1', an order that is sent again is the same report. And as it
    does no harm to write one twice, it is written again by the next server if this one is killed.
"""

from typing import Annotated, Any

import anyio
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, Field

from raincheck import current_operation, long_running
from raincheck.asgi import RaincheckMiddleware

SECONDS_PER_PAGE = 0.1


class Order(BaseModel):
    """What a report is to be."""

    title: str
    pages: int = Field(gt=0, le=10_000)


class Report(BaseModel):
    """A report."""

    title: str
    author: str
    pages: list[str]


def user(x_user: Annotated[str | None, Header()] = None) -> str:
    """Authenticate the user; a real application would not just believe the header."""
    if x_user is None:
        raise HTTPException(401, "Say who you are in X-User.")
    return x_user


def owner(scope: dict[str, Any]) -> str | None:
    """Tell raincheck to whom a request, and so the operation it becomes, belongs."""
    value = dict(scope["headers"]).get(b"x-user")
    return value.decode("latin-1") if value else None


app = FastAPI()
app.add_middleware(RaincheckMiddleware, owner=owner)


@app.post("/reports")
@long_running(retry=True)
async def create_report(order: Order, author: Annotated[str, Depends(user)]) -> Report:
    """Write a report, page by page."""
    pages = []
    for number in range(1, order.pages + 1):
        current_operation().progress(number - 1, total=order.pages, message=f"page {number}")
        await anyio.sleep(SECONDS_PER_PAGE)  # a database or another service would be asked here
        pages.append(f"{order.title}, page {number}")
    return Report(title=order.title, author=author, pages=pages)
