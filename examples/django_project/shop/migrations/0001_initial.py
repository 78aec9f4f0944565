"""The table of orders."""

from django.db import migrations, models

PRODUCTS = ("drizzle", "rain", "hail", "fog", "rainbow", "sunshine", "thunder", "wind")


class Migration(migrations.Migration):
    """Make the table."""

    initial = True
    dependencies: list[tuple[str, str]] = []
    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("placed", models.DateTimeField()),
                ("customer", models.CharField(max_length=50)),
                (
                    "product",
                    models.CharField(choices=[(name, name) for name in PRODUCTS], max_length=50),
                ),
                ("quantity", models.PositiveIntegerField()),
                ("price", models.DecimalField(decimal_places=2, max_digits=8)),
            ],
        ),
    ]
