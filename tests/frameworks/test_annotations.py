"""What a marked handler's annotations say reaches it, whenever they are evaluated.

Frameworks inject by annotations. In Python up to 3.13 they are values, from 3.14 on they are made
when somebody asks (PEP 649), and with `from __future__ import annotations` they are text.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from django.test import Client, override_settings
from fastapi.testclient import TestClient as FastAPIClient
from litestar.testing import TestClient as LitestarClient

import tests.frameworks.django_project  # noqa: F401 - it makes Django's settings

NAME = "tests_annotated"
TEXT = "from __future__ import annotations\n"

FASTAPI = """
from typing import Annotated
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from raincheck import long_running

class Order(BaseModel):
    count: int

def user(name: str) -> str:
    return name.upper()

User = Annotated[str, Depends(user)]
app = FastAPI()

@app.post("/orders/{number}")
@long_running
{asynchronous}def order(number: int, order: Order, name: User) -> list[object]:
    return [number, order.count, name]
"""

LITESTAR = """
from dataclasses import dataclass
from litestar import Litestar, post
from litestar.di import NamedDependency, Provide
from litestar.params import JSONBody
from raincheck import long_running

@dataclass
class Order:
    count: int

async def user() -> str:
    return "ADA"

@post("/orders/7"{threads})
@long_running
{asynchronous}def order(data: JSONBody[Order], user: NamedDependency[str]) -> list[object]:
    return [7, data.count, user]

app = Litestar([order], dependencies={"user": Provide(user)})
"""

NINJA = """
from django.http import HttpRequest
from django.urls import path
from ninja import NinjaAPI, Schema
from raincheck import long_running

class Order(Schema):
    count: int

api = NinjaAPI(urls_namespace=__name__)

@api.post("/orders/{number}")
@long_running
{asynchronous}def order(request: HttpRequest, number: int, order: Order, name: str) -> list[object]:
    return [number, order.count, name.upper()]

urlpatterns = [path("", api.urls)]
"""


@pytest.fixture(params=[TEXT, ""], ids=["text", "values"])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return what makes a module of its source, in which annotations are text or not."""

    def make(source: str, **words: str) -> Any:
        for word, value in words.items():
            source = source.replace(f"{{{word}}}", value)
        module = ModuleType(NAME)
        monkeypatch.setitem(sys.modules, NAME, module)
        exec(compile(request.param + source, NAME, "exec", dont_inherit=True), module.__dict__)  # noqa: S102
        return module

    return make


@pytest.mark.parametrize("asynchronous", ["async ", ""], ids=["async", "sync"])
def test_fastapi_injects_what_is_annotated(made: Callable[..., Any], asynchronous: str) -> None:
    client = FastAPIClient(made(FASTAPI, asynchronous=asynchronous).app)
    answer = client.post("/orders/7?name=ada", json={"count": "3"})
    assert answer.json() == [7, 3, "ADA"]


@pytest.mark.parametrize("asynchronous", ["async ", ""], ids=["async", "sync"])
def test_litestar_injects_what_is_annotated(made: Callable[..., Any], asynchronous: str) -> None:
    threads = "" if asynchronous else ", sync_to_thread=True"
    module = made(LITESTAR, asynchronous=asynchronous, threads=threads)
    with LitestarClient(module.app) as client:
        answer = client.post("/orders/7", json={"count": 3})
    assert answer.json() == [7, 3, "ADA"]


@pytest.mark.parametrize("asynchronous", ["async ", ""], ids=["async", "sync"])
def test_django_ninja_injects_what_is_annotated(
    made: Callable[..., Any], asynchronous: str
) -> None:
    made(NINJA, asynchronous=asynchronous)
    with override_settings(ROOT_URLCONF=NAME, MIDDLEWARE=[]):
        answer = Client().post("/orders/7?name=ada", {"count": 3}, content_type="application/json")
    assert answer.json() == [7, 3, "ADA"]
