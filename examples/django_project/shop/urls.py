"""Which view answers which path; all but the API and the login are for users who are logged in."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path
from django.views.generic import TemplateView

from shop import views

script = TemplateView.as_view(template_name="shop/export.js", content_type="text/javascript")

urlpatterns = [
    path("", views.index, name="index"),
    path("export.js", script, name="script"),  # a larger project would have static files
    path("exports", views.export, name="export"),
    path("exports/", include("raincheck.django.urls")),
    path("api/exports", views.export_for_api),
    path("login", LoginView.as_view(), name="login"),
    path("logout", LogoutView.as_view(), name="logout"),
]
