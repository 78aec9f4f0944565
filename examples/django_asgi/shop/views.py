"""A fast view and a slow one."""

import csv
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from io import StringIO

from django.db.models import Avg
from django.http import HttpRequest, HttpResponse, JsonResponse

from raincheck import current_operation, long_running
from shop.models import Sale

WINDOW = timedelta(days=30)

View = Callable[[HttpRequest], HttpResponse]


def index(request: HttpRequest) -> HttpResponse:
    """Answer at once."""
    return JsonResponse({"sales": Sale.objects.count(), "see": "/report"})


def product_exists(view: View) -> View:
    """Refuse what can't be reported on."""

    @wraps(view)
    def check(request: HttpRequest) -> HttpResponse:
        product = request.GET.get("product")
        if product is not None and not Sale.objects.filter(product=product).exists():
            return JsonResponse({"error": f"nobody ever bought {product}"}, status=404)
        return view(request)

    return check


@product_exists  # raincheck's mark is the innermost: what is above it comes before the 202
@long_running
def report(request: HttpRequest) -> HttpResponse:
    """Answer moving averages as CSV: a query for each product and day, as reports often are."""
    text = StringIO()
    rows = csv.writer(text)
    rows.writerow(["product", "day", "average of 30 days"])
    sales = Sale.objects.order_by("product", "day")
    if product := request.GET.get("product"):
        sales = sales.filter(product=product)
    total, operation = sales.count(), current_operation()
    for done, sale in enumerate(sales):
        operation.raise_if_cancelled()
        operation.progress(done, total=total, message=sale.product)
        rows.writerow([sale.product, sale.day, f"{average_until(sale):.2f}"])
    headers = {"Content-Disposition": 'attachment; filename="report.csv"'}
    return HttpResponse(text.getvalue(), content_type="text/csv", headers=headers)


def average_until(sale: Sale) -> float:
    """Return the average amount that was sold of the product in the 30 days before."""
    window = Sale.objects.filter(product=sale.product, day__gt=sale.day - WINDOW, day__lte=sale.day)
    return float(window.aggregate(average=Avg("amount"))["average"])
