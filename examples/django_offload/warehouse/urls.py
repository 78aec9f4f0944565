"""Where what is; operations have a place of their own."""

from django.urls import include, path

from warehouse.views import prices, raise_prices

urlpatterns = [
    path("prices", prices),
    path("prices/raise", raise_prices),
    path("operations/", include("raincheck.django.urls")),
]
