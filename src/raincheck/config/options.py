"""The options of the middleware: one list of them for every gateway, checked at construction.

Pure: a store's URL is only looked at here; `stores` opens it.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, TypedDict, get_args
from urllib.parse import urlsplit

from raincheck.config.left_alone import KINDS, LeftAlone
from raincheck.config.limits import Limits
from raincheck.config.page_options import check_page
from raincheck.config.policy import Mode, Policy
from raincheck.config.secret_options import check_url_lifetime, encryption_keys, url_secrets
from raincheck.config.webhook_options import check_webhook
from raincheck.config.worker_options import Workers, check_workers
from raincheck.errors import ConfigurationError
from raincheck.http.urls import Location
from raincheck.operations.store import Store

SHORTEST_PATIENCE = 15.0  # seconds
DialectName = Literal["location", "see-other"]


class Options(TypedDict, total=False):
    """What may be passed to a middleware; `Settings` says what each means."""

    budget: float | None
    mode: Mode
    include: Iterable[str]
    exclude: Iterable[str]
    budgets: Mapping[str, float | None] | None
    max_wait: float
    prefix: str
    status_url: Callable[[Any, str], str] | None
    location: Location
    public_url: str | None
    dialect: str
    retention: float
    owner: Callable[..., str | None] | None
    keep_cookies: bool
    limits: Limits | Mapping[str, int]
    drain: float
    store: str | Store | None
    bodies: str | None
    application: str | None
    timeout: float | None
    retry: Mapping[str, bool] | None
    max_attempts: int
    runners: Mapping[str, str] | None
    workers: Workers | None
    abandon_after: float | None
    idempotency_keys: bool
    identity_headers: Iterable[str] | None
    coalesce: Iterable[str]
    left_alone: Iterable[str]
    client_js: bool
    url_secret: str | Iterable[str] | None
    url_lifetime: float
    encryption_key: str | Iterable[str] | None
    webhook: str | Callable[[Any], str | None] | None
    webhook_secret: str | None
    webhook_networks: Iterable[str]
    html: bool | Mapping[str, Mapping[str, str]]
    page: str | Callable[[Any], str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every option with its default; times in seconds, sizes in bytes.

    `python -m raincheck options` prints what follows; the request that callables are given is the
    scope under ASGI, the environ under WSGI, and Django's own there.

    Attributes:
        budget: Seconds a handler may take before its request is answered 202. Default 10: well
            below the 29 or 30 s at which gateways give up. 0 defers every request that may be
            deferred at once, None marked handlers only, whatever clients prefer.
        mode: Who may get a 202: anyone (`"auto"`, the default), only clients that send
            `Prefer: respond-async` (`"prefer"`), or only requests to `@long_running` handlers
            (`"marked"`).
        include: Path patterns that may be deferred; `*` is within a segment, `**` of any depth,
            `{name}` and `<int:name>` as in routes. Default: all.
        exclude: Path patterns that are never deferred, marked or not; they win over `include`.
        budgets: Budgets of single path patterns, such as `{"/export/**": 0, "/search": None}`; the
            first that matches wins.
        max_wait: The longest `Prefer: wait` that is honoured, in seconds, at the start and by
            polls; 0: polls never wait. Default 25.
        prefix: Path below which operations are found; all of it is raincheck's. Default
            `"/operations"`.
        status_url: Callable (request, operation id) → path of R, for a monitor that the
            application mounts itself; then raincheck intercepts nothing. It is called for every
            request: any may be a poll, and nobody knows what it looks at.
        location: How URLs are written: `"absolute"` (the default: most clients need it), `"path"`,
            or `"relative"` (for proxies that change paths and don't say so).
        public_url: The URL under which the outside sees the application's root, such as
            `"https://api.example.org/v1"`.
        dialect: Which URL a client is told to poll: `"location"` (the default) R, which becomes the
            response; `"see-other"` the status URL, which is 200 with `Retry-After` and at the end
            303 to R (404 until then), for clients that know this.
        retention: Seconds a finished operation stays readable; then 410, and a day later 404.
            Default 86,400 (a day).
        owner: Callable (request) → the principal a request belongs to, or None for strangers;
            nobody else sees its operation. Under ASGI called in a thread. Asked again, while it
            returns None, when a handler is marked or tells its progress, and when its response
            begins; and by polls of what has an owner.
        keep_cookies: Whether a replayed response keeps `Set-Cookie`. Default False.
        limits: A `raincheck.Limits`, or a mapping of its fields.
        drain: Seconds that shutdown waits for running handlers. Default 10.
        store: Where operations are kept: a URL, or a store. Default: `RAINCHECK_STORE`, else an
            SQLite file in the user's state directory.
        bodies: The URL of an object storage for large response bodies: `s3://bucket/prefix`,
            `gs://…`, `az://…` or `file:///…`. Default: they are in the store.
        application: A name for the application: processes that share it, the mount point and the
            store show each other's operations and run them again. Default: what the server was told
            to start and in which directory, what the middleware is around, and the prefix.
        timeout: Seconds a handler may run once it was deferred; then its operation has failed as
            `timeout` and it is asked to stop. `@long_running(timeout=...)` wins. Default None: no
            limit.
        retry: Whether a handler may be run again if its process is lost, by path pattern, such as
            `{"/imports/**": True, "/feed": False}`; the first that matches wins, and
            `@long_running(retry=...)` over it. Default: if the method is safe (RFC 9110 §9.2.1),
            and not otherwise.
        max_attempts: How often a handler may be begun, the first time included; 1: none is ever
            run again. Default 3.
        runners: Names of workers by path pattern, such as `{"/reports/**": "workers"}`: nothing of
            the application runs in the process that is asked, which answers 202 at once; the first
            that matches wins. `@long_running(runner=...)` does so when the handler is called.
            Default: none.
        workers: How workers are told that an operation waits for them, by their name: a callable
            (operation id), such as those of `raincheck.runners`. Workers of other names look into
            the store themselves (`python -m raincheck work`). Default: none.
        abandon_after: Seconds without a poll after which a running operation is cancelled, unless a
            webhook waits for it; at least 15. Default None: never.
        idempotency_keys: Whether `Idempotency-Key` is honoured on POST, PUT, PATCH and DELETE
            requests that may be deferred. Default True.
        identity_headers: Names of the header fields by which the application tells who asks, such
            as `["X-API-Key"]`, beside `Authorization`, `Proxy-Authorization` and `Cookie`. Without
            an owner, a key is of those who send the same in all of them. Default None: there are no
            others, and a key that comes with none of them is warned of, once.
        coalesce: Path patterns where identical safe requests of one owner that come while the
            first is handled share its operation. Default: none.
        left_alone: Kinds of requests that are never deferred, as their clients read what comes
            themselves: `events` (`Accept: text/event-stream`), `mcp` (Model Context Protocol),
            `engine.io` (Socket.IO's polling), `download` (a link with that attribute, whose
            browser saves whatever it gets). Default: all of these; `()`: none.
        client_js: Whether the JavaScript module for browsers is served at `{prefix}/client.js`, to
            whoever asks. Default False.
        url_secret: A secret, or several of which the first signs, for links that hand a response
            to somebody else; takes the extra `signed-urls`. Default None: there are none.
        url_lifetime: Seconds such a link is good for, at least. Default 3,600 (an hour).
        encryption_key: A Fernet key, or several of which the first encrypts, for captured
            requests; takes the extra `encryption`. Default None: they are stored as they came.
        webhook: The URL that is told when an operation has ended, or a callable (request) → URL or
            None; takes the extra `webhooks`. Default None.
        webhook_secret: What signs it, as Standard Webhooks have it (`whsec_…`); must be given with
            `webhook`.
        webhook_networks: Networks that are not public and that webhooks may reach all the same,
            such as `["10.1.0.0/16"]`. Default: none.
        html: Whether browsers are shown a page while they wait, and htmx and Turbo a part of one;
            False: they get JSON like all others. A mapping of languages to texts adds to those that
            there are, such as `{"nl": {"working": "Bezig"}}`. Default True.
        page: Callable (`raincheck.contracts.Page`) → HTML, or the path of a template, for pages of
            your own. Default None: raincheck's.

    Raises:
        ConfigurationError: An option is unknown, has a wrong value, or contradicts another.
    """

    budget: float | None = 10.0
    mode: Mode = "auto"
    include: Iterable[str] = ()
    exclude: Iterable[str] = ()
    budgets: Mapping[str, float | None] | None = None
    max_wait: float = 25.0
    prefix: str = "/operations"
    status_url: Callable[[Any, str], str] | None = None
    location: Location = "absolute"
    public_url: str | None = None
    dialect: str = "location"
    retention: float = 86_400.0
    owner: Callable[..., str | None] | None = None
    keep_cookies: bool = False
    limits: Limits | Mapping[str, int] = field(default_factory=Limits)
    drain: float = 10.0
    store: str | Store | None = field(default=None, repr=False)
    bodies: str | None = field(default=None, repr=False)
    application: str | None = None
    timeout: float | None = None
    retry: Mapping[str, bool] | None = None
    max_attempts: int = 3
    runners: Mapping[str, str] | None = None
    workers: Workers | None = field(default=None, repr=False)
    abandon_after: float | None = None
    idempotency_keys: bool = True
    identity_headers: Iterable[str] | None = None
    coalesce: Iterable[str] = ()
    left_alone: Iterable[str] = tuple(KINDS)
    client_js: bool = False
    url_secret: str | Iterable[str] | None = field(default=None, repr=False)
    url_lifetime: float = 3_600.0
    encryption_key: str | Iterable[str] | None = field(default=None, repr=False)
    webhook: str | Callable[[Any], str | None] | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    webhook_networks: Iterable[str] = ()
    html: bool | Mapping[str, Mapping[str, str]] = True
    page: str | Callable[[Any], str] | None = None

    @classmethod
    def build(cls, options: Mapping[str, Any]) -> Self:
        """Check the names, then the values."""
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
                raise ConfigurationError(f"unknown option {name!r}{hint}")
        return cls(**options)

    def __post_init__(self) -> None:
        _check_seconds("budget", self.budget, optional=True)
        if self.budgets is not None and not isinstance(self.budgets, Mapping):
            raise ConfigurationError(f"budgets must map patterns to seconds: {self.budgets!r}")
        for pattern, budget in (self.budgets or {}).items():
            _check_seconds(f"budgets[{pattern!r}]", budget, optional=True)
        for name in ("max_wait", "drain", "retention"):
            _check_seconds(name, getattr(self, name))
        if not self.retention:
            raise ConfigurationError("retention must be more than 0: nobody could read a response")
        for name in ("keep_cookies", "idempotency_keys", "client_js"):
            if not isinstance(getattr(self, name), bool):
                value = getattr(self, name)
                raise ConfigurationError(f"{name} must be True or False: {value!r}")
        _check_seconds("timeout", self.timeout, optional=True)
        if self.timeout == 0:
            raise ConfigurationError("timeout must be more than 0: nothing could ever end well")
        _check_seconds("abandon_after", self.abandon_after, optional=True)
        if self.abandon_after is not None and self.abandon_after < SHORTEST_PATIENCE:
            raise ConfigurationError(
                f"abandon_after must be at least {SHORTEST_PATIENCE:g} seconds: of a client that "
                "waits (`Prefer: wait`) is heard every five"
            )
        if self.application is not None and not isinstance(self.application, str):
            raise ConfigurationError(f"application must be a str, not {self.application!r}")
        _check_attempts(self.max_attempts)
        _check_retry(self.retry)
        check_workers(self.runners, self.workers, self.application)
        _check_choice("mode", self.mode, get_args(Mode))
        _check_choice("location", self.location, get_args(Location))
        _check_choice("dialect", self.dialect, get_args(DialectName))
        _check_prefix(self.prefix)
        _check_public_url(self.public_url, self.location)
        for name in ("owner", "status_url"):
            _check_callable(name, getattr(self, name))
        for name in ("include", "exclude", "coalesce"):  # read twice, and an iterator is empty then
            object.__setattr__(self, name, _as_patterns(name, getattr(self, name)))
        if self.identity_headers is not None:
            object.__setattr__(self, "identity_headers", _as_names(self.identity_headers))
        object.__setattr__(self, "left_alone", LeftAlone(self.left_alone).kinds)
        _check_store(self.store, self.bodies)
        self._check_secrets()
        networks = check_webhook(self.webhook, self.webhook_secret, self.webhook_networks)
        object.__setattr__(self, "webhook_networks", networks)
        check_page(self.html, self.page)
        self.policy()  # raises where a pattern is wrong
        self.effective_limits()

    def _check_secrets(self) -> None:
        for name, read in (("url_secret", url_secrets), ("encryption_key", encryption_keys)):
            object.__setattr__(self, name, read(getattr(self, name)) or None)
        check_url_lifetime(self.url_lifetime)
        if self.url_secret is not None and self.owner is None:
            raise ConfigurationError(
                "url_secret needs owner: what belongs to nobody is read by whoever knows its URL, "
                "signed or not"
            )

    def effective_limits(self) -> Limits:
        """Return `limits` as a `Limits`."""
        if isinstance(self.limits, Limits):
            return self.limits
        try:
            return Limits(**self.limits)
        except TypeError:
            known = ", ".join(f.name for f in fields(Limits))
            raise ConfigurationError(f"limits has {known}, unlike {self.limits!r}") from None

    def policy(self, *, defers: bool = True) -> Policy:
        """Build the policy that these options describe.

        Args:
            defers: Whether any request is to be deferred.
        """
        return Policy(
            mode=self.mode,
            budget=self.budget,
            include=self.include,
            exclude=self.exclude if defers else ["**"],
            budgets=self.budgets,
            max_wait=self.max_wait,
            request_body=self.effective_limits().request_body,
            retry=self.retry,
            max_attempts=self.max_attempts,
            coalesce=self.coalesce,
            left_alone=self.left_alone,
            runners=self.runners,
        )


def _check_seconds(name: str, value: object, *, optional: bool = False) -> None:
    if optional and value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < float("inf"):  # type: ignore[operator]
        none = " or None" if optional else ""
        raise ConfigurationError(f"{name} must be a number of seconds ≥ 0{none}, not {value!r}")


def _check_attempts(value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"max_attempts must be an integer ≥ 1, not {value!r}")


def _check_retry(value: object) -> None:
    rules = value if value is not None else {}
    if not isinstance(rules, Mapping) or not all(isinstance(may, bool) for may in rules.values()):
        raise ConfigurationError(f"retry must map path patterns to True or False, not {value!r}")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


_URL = re.compile(r"https?://[A-Za-z0-9._~:\[\]@!$&'()*+,;=%/-]+")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")  # RFC 3986 §2.3: what never needs quoting


def _check_prefix(prefix: object) -> None:
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(
            f"prefix must be a path like /operations, with no slash at its end, not {prefix!r}"
        )


def _check_public_url(url: object, location: str) -> None:
    if url is None:
        return
    parts = urlsplit(url) if isinstance(url, str) else None
    if not parts or parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigurationError(f"public_url must be like https://example.org/api, not {url!r}")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"public_url can't have a query or fragment: {url!r}")
    if not _URL.fullmatch(str(url)):
        raise ConfigurationError(f"public_url must be encoded (RFC 3986, punycode): {url!r}")
    if location != "absolute":
        raise ConfigurationError(f'public_url needs location="absolute", not {location!r}')


def _check_callable(name: str, value: object) -> None:
    if value is not None and (not callable(value) or inspect.iscoroutinefunction(value)):
        raise ConfigurationError(f"{name} must be callable and not async: {value!r}")


def _as_patterns(name: str, value: object) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError(f"give {name} a list of path patterns, not {value!r}")
    return tuple(value)


_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.1


def _as_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, str) and isinstance(value, Iterable):
        names = tuple(value)
        if all(isinstance(name, str) and _FIELD_NAME.fullmatch(name) for name in names):
            return names
    raise ConfigurationError(f"give identity_headers a list of field names, not {value!r}")


def _check_store(value: object, bodies: object) -> None:
    if value is not None and not isinstance(value, str) and not hasattr(value, "write_chunk"):
        raise ConfigurationError(f"store must be a URL or a store, not {value!r}")
    if bodies is not None and not isinstance(bodies, str):
        raise ConfigurationError(f"bodies must be the URL of an object storage, not {bodies!r}")
