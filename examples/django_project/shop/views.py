"""The page, and the export that it and the API start."""

import json
import tempfile
from collections.abc import Callable
from functools import wraps
from typing import Any

from django import forms
from django.contrib.auth.decorators import login_not_required
from django.db.transaction import non_atomic_requests
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from raincheck import long_running
from shop.exports import CONTENT_TYPES, write_csv, write_xlsx
from shop.models import PRODUCTS, Order
from shop.tokens import token_required

WRITERS = {"csv": write_csv, "xlsx": write_xlsx}

View = Callable[..., HttpResponse]


class ExportForm(forms.Form):
    """What can be asked for."""

    format = forms.ChoiceField(choices=[(name, name) for name in WRITERS])
    product = forms.ChoiceField(
        choices=[("", "all products"), *((name, name) for name in PRODUCTS)], required=False
    )


def index(request: HttpRequest) -> HttpResponse:
    """Show the buttons."""
    context = {"orders": Order.objects.count(), "form": ExportForm()}
    return render(request, "shop/index.html", context)


def valid(form_class: type[forms.Form]) -> Callable[[View], View]:
    """Call a view with what the form makes of the request, or answer 400."""

    def decorate(view: View) -> View:
        @wraps(view)
        def check(request: HttpRequest) -> HttpResponse:
            form = form_class(data_of(request))
            if not form.is_valid():
                return JsonResponse({"errors": form.errors}, status=400)
            return view(request, form.cleaned_data)

        return check

    return decorate


def data_of(request: HttpRequest) -> Any:
    """Return what a browser's form or a JSON document says."""
    if request.content_type != "application/json":
        return request.POST
    try:
        data = json.loads(request.body)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


@require_POST
@non_atomic_requests  # a transaction of minutes holds up others, and there is nothing to roll back
@valid(ExportForm)
@long_running  # raincheck's mark is the innermost: what is above it comes before the 202
def export(request: HttpRequest, wanted: dict[str, str]) -> FileResponse:
    """Answer the orders as a file; written as a whole first, so none is ever cut."""
    orders = Order.objects.all()
    if wanted["product"]:
        orders = orders.filter(product=wanted["product"])
    kind = wanted["format"]
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the response closes it
    try:
        WRITERS[kind](orders, file)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    name, content_type = f"orders.{kind}", CONTENT_TYPES[kind]
    return FileResponse(file, as_attachment=True, filename=name, content_type=content_type)


# A token, unlike a session's cookie, is sent by nobody who was not given it: no CSRF.
export_for_api = csrf_exempt(login_not_required(token_required(export)))
