"""`manage.py seed`: users to log in as and orders to export."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandParser

from shop.models import PRODUCTS, Order

USERS = ("ada", "bob")
PASSWORD = "umbrella"  # noqa: S105 - not to be kept: the docstring of manage.py has it
CUSTOMERS = ("Ågot", "Béla", "Chloë", "Dörte", 'Edgar "Ed" Poe, esq.', "Gül")


class Command(BaseCommand):
    """Makes two users, and as many orders as are wanted."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Say how many."""
        parser.add_argument("--orders", type=int, default=100_000)

    def handle(self, *args: Any, orders: int, **options: Any) -> None:
        """Add what is not there yet."""
        for name in USERS:
            if not User.objects.filter(username=name).exists():
                User.objects.create_user(name, password=PASSWORD)
        Order.objects.bulk_create(invented(orders), batch_size=2_000)
        self.stdout.write(f"{Order.objects.count()} orders; log in as ada or bob, {PASSWORD}")


def invented(number: int) -> Iterator[Order]:
    """Yield orders, one every few minutes."""
    dice = random.Random(1)  # noqa: S311 - the same orders for everyone
    placed = datetime(2025, 1, 1, tzinfo=UTC)
    for _ in range(number):
        placed += timedelta(minutes=dice.randint(1, 9))
        yield Order(
            placed=placed,
            customer=dice.choice(CUSTOMERS),
            product=dice.choice(PRODUCTS),
            quantity=dice.randint(1, 20),
            price=Decimal(dice.randint(99, 9_999)) / 100,
        )
