"""A year of sales to report on."""

from datetime import date, timedelta
from typing import Any

from django.db import migrations

PRODUCTS = ("drizzle", "rain", "hail", "fog", "rainbow", "sunshine", "thunder", "wind")


def sell(apps: Any, schema_editor: Any) -> None:
    """Invent the sales of a year: some products sell by week, others by season."""
    sale = apps.get_model("shop", "Sale")
    days = [date(2025, 1, 1) + timedelta(days=n) for n in range(365)]
    sale.objects.bulk_create(
        sale(product=product, day=day, amount=(n + 3) * day.toordinal() % (11 + 2 * n) + day.month)
        for n, product in enumerate(PRODUCTS)
        for day in days
    )


class Migration(migrations.Migration):
    """Fill the table."""

    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(sell, migrations.RunPython.noop)]
