"""What the shop remembers."""

from django.db import models


class Sale(models.Model):
    """What was sold of one product on one day."""

    product = models.CharField(max_length=50, db_index=True)
    day = models.DateField()
    amount = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"{self.amount} x {self.product} on {self.day}"
