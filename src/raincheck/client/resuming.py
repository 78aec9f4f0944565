"""Going on with a token, in another process or after an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raincheck.client.fields import origin
from raincheck.client.options import Options
from raincheck.client.tokens import to_place
from raincheck.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx
    import requests

_OPTIONS, _TOKEN, _FOR = "raincheck", "raincheck_token", "raincheck_token_for"


def resume(
    token: str, client: httpx.Client, *, options: Options | None = None, stream: bool = False
) -> httpx.Response:
    """Follow an operation on, with the credentials of a client that has a `Transport`.

    Args:
        token: Of an error, or what `on_token` was called with.
        options: How to follow; default: as the client's transport.
        stream: Whether the response is left to be read, and to be closed, by the caller.

    Raises:
        InvalidToken: This is no token.
        FollowError: The operation has no end, or its end can't be seen.
        ConfigurationError: The client has no `Transport`.
    """
    request = _marked(client.build_request("GET", _url(token)), token, options)
    return _followed(client.send(request, stream=stream))


async def resume_async(
    token: str, client: httpx.AsyncClient, *, options: Options | None = None, stream: bool = False
) -> httpx.Response:
    """Follow an operation on, with the credentials of a client that has an `AsyncTransport`.

    Args:
        token: Of an error, or what `on_token` was called with.
        options: How to follow; default: as the client's transport.
        stream: Whether the response is left to be read, and to be closed, by the caller.

    Raises:
        InvalidToken: This is no token.
        FollowError: The operation has no end, or its end can't be seen.
        ConfigurationError: The client has no `AsyncTransport`.
    """
    request = _marked(client.build_request("GET", _url(token)), token, options)
    return _followed(await client.send(request, stream=stream))


def resume_session(
    token: str, session: requests.Session, *, stream: bool = False, **kwargs: Any
) -> requests.Response:
    """Follow an operation on, with the credentials of a session that has an `Adapter`.

    Args:
        token: Of an error, or what `on_token` was called with.
        stream: Whether the response is left to be read, and to be closed, by the caller.
        kwargs: As of `Session.send`: `timeout` and others.

    Raises:
        InvalidToken: This is no token.
        FollowError: The operation has no end, or its end can't be seen.
        ConfigurationError: The session has no `Adapter` for its URL.
    """
    import requests

    from raincheck.client.requests_adapter import Adapter, resuming

    url = _url(token)
    if not isinstance(session.get_adapter(url), Adapter):
        raise ConfigurationError("the session has no raincheck.client.Adapter mounted for this")
    prepared = resuming(session.prepare_request(requests.Request("GET", url)), token)
    settings = session.merge_environment_settings(url, {}, stream, None, None)
    return session.send(prepared, **{**settings, **kwargs})


def _url(token: str) -> str:
    """Return the URL whose credentials a client is to add: never those for another origin."""
    place = to_place(token)
    return place.url if origin(place.url) == origin(place.asked) else place.asked


def _marked(request: httpx.Request, token: str, options: Options | None) -> httpx.Request:
    """Have a transport go on with a token, but not where a response redirects the client."""
    request.extensions |= {_TOKEN: token, _FOR: str(request.url)}
    if options is not None:
        request.extensions[_OPTIONS] = options
    return request


def _followed(response: httpx.Response) -> httpx.Response:
    if not any(_TOKEN in answer.extensions for answer in (response, *response.history)):
        raise ConfigurationError("the client has no raincheck.client.Transport")
    return response
