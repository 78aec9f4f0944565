"""What the warehouse has."""

from django.db import models


class Product(models.Model):
    """Something with a price, in cents."""

    name = models.CharField(max_length=100)
    price = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"{self.name}: {self.price / 100:.2f}"
