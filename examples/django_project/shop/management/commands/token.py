"""`manage.py token`: the API token of a user."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from shop.tokens import token_of


class Command(BaseCommand):
    """Prints a token that is good for a week."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Say whose."""
        parser.add_argument("user")

    def handle(self, *args: Any, user: str, **options: Any) -> None:
        """Print it."""
        try:
            self.stdout.write(token_of(User.objects.get(username=user)))
        except User.DoesNotExist:
            raise CommandError(f"there is no user {user!r}") from None
