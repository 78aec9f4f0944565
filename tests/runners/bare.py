"""An application without raincheck."""

from starlette.applications import Starlette

app = Starlette()
