"""The prices: shown at once, and raised by Celery's workers."""

import time
from collections.abc import Callable
from functools import wraps

from django.db.models import Sum
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from raincheck import current_operation, long_running
from warehouse.models import Product

SECONDS_PER_PRODUCT = 0.001  # to look up what it costs elsewhere


def prices(request: HttpRequest) -> HttpResponse:
    """Say what all products cost together."""
    return JsonResponse({"total": Product.objects.aggregate(Sum("price"))["price__sum"]})


def with_percent(view: Callable[[HttpRequest, int], HttpResponse]) -> Callable[..., HttpResponse]:
    """Call a view with what the form says, or answer 400."""

    @wraps(view)
    def check(request: HttpRequest) -> HttpResponse:
        try:
            percent = int(request.POST["percent"])
        except (KeyError, ValueError):
            return JsonResponse({"error": "percent must be a number"}, status=400)
        return view(request, percent)

    return check


@csrf_exempt
@require_POST
@with_percent
@long_running(runner="celery")
def raise_prices(request: HttpRequest, percent: int) -> HttpResponse:
    """Raise each price, one by one; all of it or nothing, as the request is a transaction."""
    operation, products = current_operation(), list(Product.objects.all())
    for done, product in enumerate(products, 1):
        operation.raise_if_cancelled()
        time.sleep(SECONDS_PER_PRODUCT)
        product.price += product.price * percent // 100
        product.save(update_fields=["price"])
        operation.progress(done, total=len(products), message="prices")
    return JsonResponse({"raised": len(products)}, status=201)
