"""The table, with a few thousand products in it."""

from typing import Any

from django.db import migrations, models


def add_products(apps: Any, schema_editor: Any) -> None:
    """Fill it."""
    product = apps.get_model("warehouse", "Product")
    product.objects.bulk_create(
        product(name=f"product {number}", price=100 * number) for number in range(1, 3001)
    )


class Migration(migrations.Migration):
    """Make the table."""

    initial = True
    dependencies: list[tuple[str, str]] = []
    operations = [
        migrations.CreateModel(
            name="Product",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=100)),
                ("price", models.PositiveIntegerField()),
            ],
        ),
        migrations.RunPython(add_products, migrations.RunPython.noop),
    ]
