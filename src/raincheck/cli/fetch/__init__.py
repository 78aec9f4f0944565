"""`raincheck fetch`: curl that waits."""

from raincheck.cli.fetch.arguments import add_to

__all__ = ["add_to"]
