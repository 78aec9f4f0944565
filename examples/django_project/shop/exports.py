"""Orders as files, CSV and XLSX; neither is ever in memory as a whole."""

import csv
from collections.abc import Iterator
from io import TextIOWrapper
from typing import IO, Any

from django.db.models import QuerySet
from openpyxl import Workbook

from raincheck import current_operation
from shop.models import Order

COLUMNS = ("order", "placed", "customer", "product", "quantity", "price", "total")
CONTENT_TYPES = {
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
EVERY = 100  # rows


def write_csv(orders: QuerySet[Order], file: IO[bytes]) -> None:
    """Write a text file with one line for each order."""
    text = TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    lines = csv.writer(text)
    lines.writerow(COLUMNS)
    lines.writerows(rows(orders))
    text.detach()  # or it would close the file


def write_xlsx(orders: QuerySet[Order], file: IO[bytes]) -> None:
    """Write a spreadsheet with one row for each order."""
    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("orders")
    sheet.append(COLUMNS)
    try:
        for row in rows(orders):
            sheet.append(row)
    finally:
        workbook.save(file)  # when it is cancelled, too: this removes a temporary file


def rows(orders: QuerySet[Order]) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each order, say how many there were, and stop if nobody waits for them."""
    operation, total = current_operation(), orders.count()
    fields = ("pk", "placed", "customer", "product", "quantity", "price")
    for done, order in enumerate(orders.order_by("pk").values_list(*fields).iterator()):
        if done % EVERY == 0:
            operation.raise_if_cancelled()
            operation.progress(done, total=total, message="orders")
        number, placed, customer, product, quantity, price = order
        when = placed.strftime("%Y-%m-%d %H:%M")
        yield number, when, customer, product, quantity, price, quantity * price
    operation.progress(total, total=total, message="orders")
