"""What the shop remembers."""

from django.db import models

PRODUCTS = ("drizzle", "rain", "hail", "fog", "rainbow", "sunshine", "thunder", "wind")


class Order(models.Model):
    """What somebody has bought."""

    placed = models.DateTimeField()
    customer = models.CharField(max_length=50)
    product = models.CharField(max_length=50, choices=[(name, name) for name in PRODUCTS])
    quantity = models.PositiveIntegerField()
    price = models.DecimalField(max_digits=8, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.quantity} x {self.product} for {self.customer}"
