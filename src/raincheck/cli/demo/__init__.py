"""A slow application on real input, to try raincheck with: it archives the standard library."""

from raincheck.cli.demo.application import app
from raincheck.cli.demo.instructions import instructions

__all__ = ["app", "instructions"]
