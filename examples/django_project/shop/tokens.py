"""Who calls the API: a token in place of a session."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, User
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.deprecation import MiddlewareMixin

BEARER = "Bearer "
LIFETIME = 7 * 24 * 3600  # seconds
signer = TimestampSigner(salt="shop.tokens")

View = Callable[..., HttpResponse]


def token_of(user: AbstractBaseUser) -> str:
    """Return a token with which requests are this user's."""
    return str(signer.sign(str(user.pk)))


class TokenMiddleware(MiddlewareMixin):
    """Have a request with a token belong to its user: API calls, and polls of what they started."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """Find the user, or refuse a token that is wrong."""
        credentials = request.headers.get("Authorization", "")
        if not credentials.startswith(BEARER):
            return None
        try:
            number = signer.unsign(credentials.removeprefix(BEARER), max_age=LIFETIME)
            request.user = User.objects.get(pk=number, is_active=True)
        except (BadSignature, User.DoesNotExist):
            return unauthorized()
        request.has_token = True
        return None


def token_required(view: View) -> View:
    """Refuse requests without a token: a session would let other sites send them."""

    @wraps(view)
    def check(request: HttpRequest, *args: Any) -> HttpResponse:
        if not hasattr(request, "has_token"):
            return unauthorized()
        return view(request, *args)

    return check


def unauthorized() -> HttpResponse:
    """Ask for a token."""
    return JsonResponse(
        {"error": "send a token"}, status=401, headers={"WWW-Authenticate": "Bearer"}
    )
