"""Marked callbacks of Bottle."""

# mypy: disable-error-code="import-untyped, untyped-decorator"

from __future__ import annotations

import bottle

from raincheck import long_running
from raincheck.inspection import marked_requests
from tests.handlers.checks import RAN, Case, FindsHandlers, environ, run

app = bottle.Bottle()
inner = bottle.Bottle()


def ran(name: str) -> str:
    RAN.append(name)
    return name


@app.get("/plain/<number:int>")
def plain(number: int) -> str:
    return ran("plain")


@app.post("/marked/<number:int>")
@long_running
def marked(number: int) -> str:
    return ran("marked")


@app.route("/any", method="ANY")
@long_running
def anything() -> str:
    return ran("anything")


@long_running
@app.post("/above")
def above() -> str:
    return ran("above")


@app.get("/bücher/<name>")
@long_running
def books(name: str) -> str:
    return ran("books")


@inner.post("/order")
@long_running
def order() -> str:
    return ran("order")


@inner.get("/order")
def orders() -> str:
    return ran("orders")


@app.post("/applied", apply=[long_running])
def applied() -> str:
    return ran("applied")


app.mount("/shop/", inner)
app.mount("/other/", lambda environ, start_response: start_response("200 OK", []) or [])


class TestBottle(FindsHandlers):
    app = app
    cases = (
        Case("GET", "/plain/1", False),
        Case("POST", "/marked/1", True),
        Case("POST", "/marked/one", False),
        Case("GET", "/marked/1", False),
        Case("DELETE", "/any", True),
        Case("POST", "/above", False),
        Case("POST", "/applied", True),
        Case("GET", "/bücher/ä", True),
        Case("GET", "/none", False),
        Case("GET", "", False),
        Case("POST", "/shop/order", True),
        Case("GET", "/shop/order", False),
        Case("GET", "/other/any", True, unless="nobody knows what this application is"),
    )


class TestByItsMethod(FindsHandlers):
    app = app.wsgi
    cases = (Case("POST", "/marked/1", True), Case("GET", "/plain/1", False))


def test_bytes_of_a_path_that_are_no_text_are_ignored_as_bottle_does() -> None:
    is_marked = marked_requests(app)
    request = {**environ("POST", "/"), "PATH_INFO": "/mark\xffed/1"}
    assert is_marked is not None
    assert is_marked(request)
    assert run(app, request)
