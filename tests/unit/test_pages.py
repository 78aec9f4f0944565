"""The pages that browsers are shown, and the parts for htmx and Turbo."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raincheck.config.page_options import Page
from raincheck.errors import ConfigurationError
from raincheck.http.messages import Headers, Request, Response
from raincheck.http.problems import problem, unavailable
from raincheck.monitor import views
from raincheck.monitor.links import Links, Resource
from raincheck.monitor.page.texts import TEXTS, duration, language_of
from raincheck.monitor.presentation import Presentation
from raincheck.monitor.views import View
from raincheck.operations.durations import Sketch
from raincheck.operations.operation import Progress, State
from tests.unit.test_views import OPERATIONS, R, operation_of, result_of, view_of

FORM = "of a form"
LARGEST_PAGE = 6 * 1024  # bytes
RESPONSE = Resource.RESPONSE
BROWSER: Headers = ((b"accept", b"text/html"), (b"host", b"example.org"))
HTMX: Headers = ((b"hx-request", b"true"),)
FRAME: Headers = ((b"turbo-frame", b'a"><script>1'),)
HOSTILE = 'a\u202e<img src=x onerror="1">\x00' + "long" * 100


@pytest.fixture
def presentation() -> Presentation:
    return Presentation(html=True)


def get(query: bytes = b"", *more: tuple[bytes, bytes], of: Headers = BROWSER) -> Request:
    scheme, path = "https", "/operations/a"
    return Request("GET", path, scheme, query=query, headers=(*of, *more))


def text(response: Response) -> str:
    assert isinstance(response.body, bytes)
    return response.body.decode()


def running(**fields: Any) -> View:
    return view_of(operation_of(form_token=FORM, **fields))


# --- while it runs ------------------------------------------------------------------------------


def test_a_browser_is_led_to_r_instead_of_a_202_that_it_would_not_follow(
    presentation: Presentation,
) -> None:
    led = presentation.started(running(), Request("GET", "/slow", headers=BROWSER), None)
    assert (led.status, led.header(b"location")) == (303, b"operations/a?waiting")
    assert led.header(b"operation-location") == f"{R}/status".encode()
    assert 'href="operations/a?waiting"' in text(led)


def test_a_browser_that_asks_for_a_202_has_the_page_in_it(presentation: Presentation) -> None:
    accepted = presentation.started(running(), get(), "respond-async")
    assert accepted.status == 202
    assert accepted.header(b"preference-applied") == b"respond-async"
    assert "<h1" in text(accepted)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.RUNNING, State.CANCELLING])
def test_a_running_operation_is_a_page_that_asks_for_itself(
    presentation: Presentation, state: State
) -> None:
    page = presentation.read(running(state=state), RESPONSE, get())
    assert page.status == 202
    assert page.header(b"refresh") == b"6;url=a?waiting"
    assert page.header(b"cache-control") == b"no-store"
    assert 'data-next="a?waiting"' in text(page)
    assert ("<form" in text(page)) is (state is not State.CANCELLING)


def test_a_page_says_how_long_it_takes_still_where_that_is_known(
    presentation: Presentation,
) -> None:
    past = Sketch(((70.0, 10.0), (90.0, 10.0)), count=20)
    page = text(presentation.read(replace(running(), past=past), RESPONSE, get()))
    assert re.search(r'<p id="left" class="dim">About \d+ s left</p>', page)
    assert '<p id="left" class="dim"></p>' in text(presentation.read(running(), RESPONSE, get()))


@pytest.mark.parametrize("resource", [Resource.STATUS, Resource.RESULT])
def test_only_r_is_a_page(presentation: Presentation, resource: Resource) -> None:
    request = get(b"", (b"accept", b"*/*;q=0.1"))
    told = presentation.read(running(), resource, request)
    assert told == views.read(running(), resource, request)


@pytest.mark.parametrize("language", TEXTS)
def test_a_page_is_small_and_in_the_language_that_is_preferred(
    presentation: Presentation, language: str
) -> None:
    progress = Progress(3, 10, "m" * 1000)
    page = presentation.read(
        running(progress=progress), RESPONSE, get(b"", (b"accept-language", language.encode()))
    )
    assert page.header(b"content-language") == language.encode()
    assert TEXTS[language]["working"] in text(page)
    assert f'<html lang="{language}" dir="{"rtl" if language == "ar" else "ltr"}">' in text(page)
    assert len(text(page).encode()) <= LARGEST_PAGE


def test_all_languages_say_the_same_things() -> None:
    for language, texts in TEXTS.items():
        assert texts.keys() == TEXTS["en"].keys(), language
        for key, said in texts.items():
            placeholders = sorted(re.findall(r"{\w+}", said))
            assert placeholders == sorted(re.findall(r"{\w+}", TEXTS["en"][key])), (language, key)


def test_what_comes_from_outside_is_cut_escaped_and_isolated(presentation: Presentation) -> None:
    view = running(progress=Progress(1, 2, HOSTILE), route="/<script>", method="GET", owner="ada")
    page = text(presentation.read(view, RESPONSE, get()))
    shown = "<bdi>a &lt;img src=x onerror=&quot;1&quot;&gt; long"
    assert shown in page
    assert "<bdi>GET /&lt;script&gt;</bdi>" in page
    assert "\x00" not in page
    assert "\u202e" not in page
    assert "long" * 50 not in page


def test_the_policy_allows_what_is_in_the_page_and_nothing_else(
    presentation: Presentation,
) -> None:
    page = presentation.read(running(), RESPONSE, get())
    policy = (page.header(b"content-security-policy") or b"").decode()
    assert policy.startswith("default-src 'none'; ")
    for element in ("script", "style"):
        [content] = re.findall(f"<{element}>(.*?)</{element}>", text(page), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy


def test_whoever_has_only_a_signature_sees_neither_the_request_nor_a_button(
    presentation: Presentation,
) -> None:
    links = Links(R, "/operations/a", "?signature=s")
    page = presentation.read(replace(running(), links=links), RESPONSE, get())
    assert 'data-next="a?signature=s&amp;waiting"' in text(page)
    assert "<form" not in text(page)
    assert "<bdi>" not in text(page).partition('id="progress"')[0]


def test_behind_a_proxy_that_says_where_the_links_are_those_that_it_knows() -> None:
    placed = Presentation(html=True, is_placed=True)
    request = Request("GET", "/slow", headers=BROWSER)
    led = placed.started(running(), request, None)
    assert led.header(b"location") == b"/operations/a?waiting"


def test_whoever_has_no_script_and_heeds_no_header_field_has_an_element_to_refresh(
    presentation: Presentation,
) -> None:
    page = text(presentation.read(running(), RESPONSE, get()))
    assert '<noscript><meta http-equiv="refresh" content="6;url=a?waiting"></noscript>' in page


def test_what_is_not_known_to_be_anybodys_says_nothing_of_its_request(
    presentation: Presentation,
) -> None:
    page = text(presentation.read(running(unbound=True), RESPONSE, get()))
    assert "<form" not in page
    assert "<bdi>" not in page.partition('id="progress"')[0]


@pytest.mark.parametrize("fields", [{"form_token": None}, {"coalesced": True}])
def test_what_cannot_be_cancelled_has_no_button(
    presentation: Presentation, fields: dict[str, Any]
) -> None:
    view = view_of(operation_of(**({"form_token": FORM} | fields)))
    assert "<form" not in text(presentation.read(view, RESPONSE, get()))


# --- at the end ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "fields", "is_shown"),
    [
        (200, {b"content-type": b"text/html"}, True),
        (200, {b"content-type": b"image/png"}, True),
        (422, {b"content-type": b"application/json; charset=utf-8"}, True),
        (200, {b"content-type": b"application/pdf"}, False),
        (200, {b"content-type": b"text/csv"}, False),
        (200, {}, False),
        (303, {b"location": b"/done"}, True),
        (200, {b"content-type": b"application/zip"}, False),
        (200, {b"content-type": b"text/csv", b"content-disposition": b"attachment"}, False),
        (200, {b"content-type": b"text/html", b"content-disposition": b"attachment"}, False),
    ],
)
def test_a_waiting_page_gives_way_to_the_result_or_says_that_a_file_is_there(
    presentation: Presentation, status: int, fields: dict[bytes, bytes], is_shown: bool
) -> None:
    result = result_of(status, headers=tuple(fields.items()))
    view = view_of(operation_of(State.SUCCEEDED, result=result))
    arrived = presentation.read(view, RESPONSE, get(b"waiting"))
    if is_shown:
        assert (arrived.status, arrived.header(b"location")) == (303, b"a")
    else:
        assert (arrived.status, arrived.header(b"refresh")) == (200, b"0;url=a")
        assert 'href="a" download' in text(arrived)
    assert presentation.read(view, RESPONSE, get()) == views.read(view, RESPONSE, get())


def test_no_content_is_said_to_be_none(presentation: Presentation) -> None:
    view = view_of(operation_of(State.SUCCEEDED, result=result_of(204, length=0)))
    arrived = presentation.read(view, RESPONSE, get(b"waiting"))
    assert (arrived.status, arrived.header(b"refresh")) == (200, None)
    assert TEXTS["en"]["nothing"] in text(arrived)


@pytest.mark.parametrize(
    ("query", "is_astray"),
    [
        (b"", False),
        (b"page=2", True),
        (b"waiting", False),
        (b"waiting&page=2", False),
        (b"signature=s", False),
        (b"cancel=x", False),
    ],
)
def test_a_link_of_the_result_that_has_only_a_query_is_one_of_its_route(
    presentation: Presentation, query: bytes, is_astray: bool
) -> None:
    here = (b"referer", b"https://example.org/operations/a")
    ended = view_of(operation_of(State.SUCCEEDED, result=result_of(200)))
    assert presentation.is_astray(ended, RESPONSE, get(query, here)) is is_astray
    assert not presentation.is_astray(running(), RESPONSE, get(query, here))
    assert not presentation.is_astray(ended, Resource.STATUS, get(query, here))
    assert not presentation.is_astray(ended, RESPONSE, get(query, here, of=BROWSER[1:]))


@pytest.mark.parametrize(
    "referer",
    [
        *(b"", b"https://example.org/other", b"https://evil.org/operations/a", b"rubbish"),
        *(b"https://[", b"https://example.org:rubbish/operations/a"),
    ],
)
def test_a_link_from_elsewhere_to_which_somebody_added_a_query_begins_nothing_again(
    presentation: Presentation, referer: bytes
) -> None:
    ended = view_of(operation_of(State.SUCCEEDED, result=result_of(200)))
    request = get(b"fbclid=1", (b"referer", referer))
    assert not presentation.is_astray(ended, RESPONSE, request)


@pytest.mark.parametrize("name", ["failed without", "canceled", "expired", "forgotten"])
def test_what_has_no_response_leads_nowhere(presentation: Presentation, name: str) -> None:
    here = (b"referer", b"https://example.org/operations/a")
    assert not presentation.is_astray(view_of(OPERATIONS[name]), RESPONSE, get(b"page=2", here))


def test_a_route_that_climbs_is_not_led_to(presentation: Presentation) -> None:
    here = (b"referer", b"https://example.org/operations/a")
    ended = operation_of(State.SUCCEEDED, result=result_of(200), route="/a/../../b")
    assert not presentation.is_astray(view_of(ended), RESPONSE, get(b"page=2", here))


@pytest.mark.parametrize("name", ["failed without", "canceled", "expired", "forgotten"])
@pytest.mark.parametrize("query", [b"", b"waiting"])
def test_what_has_no_response_is_explained_with_its_own_status(
    presentation: Presentation, name: str, query: bytes
) -> None:
    view = view_of(OPERATIONS[name])
    told = presentation.read(view, RESPONSE, get(query))
    page = presentation.refusal(told, get(query), is_poll=True)
    assert page.status == views.read(view, RESPONSE, get()).status
    assert page.header(b"content-type") == b"text/html; charset=utf-8"
    assert page.header(b"operation-status") == told.header(b"operation-status")
    assert '<a class="to" href="/">' in text(page)


@pytest.mark.parametrize(
    ("response", "title"),
    [
        (views.not_found(), "Not found"),
        (views.gone("x"), "No longer here"),
        (problem(403, "forbidden", "x"), "Not allowed"),
        (problem(500, "exception", "x"), "That did not work"),
        (problem(422, "idempotency-key-reused", "x"), "Something is wrong"),
        (unavailable("x", 5), "Too busy just now"),
    ],
)
def test_a_problem_is_a_page_with_the_same_status_and_fields(
    presentation: Presentation, response: Response, title: str
) -> None:
    page = presentation.refusal(response, get())
    assert page.status == response.status
    assert f"<h1>{title}</h1>" in text(page)
    assert page.header(b"retry-after") == response.header(b"retry-after")
    assert page.header(b"cache-control") == b"no-store"


def test_who_is_too_early_comes_again_by_itself(presentation: Presentation) -> None:
    assert presentation.refusal(unavailable("x", 5), get()).header(b"refresh") == b"5"
    post = Request("POST", "/", headers=BROWSER)
    assert presentation.refusal(unavailable("x", 5), post).header(b"refresh") is None


@pytest.mark.parametrize(
    ("referer", "back"),
    [
        (b"https://example.org/form?a=1", "/form?a=1"),
        (b"https://example.org//evil.org/", "/evil.org/"),
        (b"https://example.org/operations/a", "/"),
        (b"https://example.org/operations/a?waiting", "/"),
        (b"https://example.org.evil/form", "/"),
        (b"http://example.org/form", "/form"),
        (b"https://example.org/\\\\evil.org", "/"),
        (b"https://example.org/\tevil.org", "/"),
        (b"https://evil.org/", "/"),
        (b'https://example.org/"><script>', "/&quot;&gt;&lt;script&gt;"),
        (b"rubbish", "/"),
    ],
)
def test_the_way_back_is_where_the_browser_came_from_on_this_site(
    presentation: Presentation, referer: bytes, back: str
) -> None:
    page = presentation.refusal(views.not_found(), get(b"", (b"referer", referer)))
    assert f'<a class="to" href="{back}">' in text(page)


def test_a_program_is_told_problems_as_before(presentation: Presentation) -> None:
    asked = Request("GET", "/operations/a", headers=((b"accept", b"*/*"),))
    assert presentation.refusal(views.not_found(), asked) == views.not_found()


# --- options ------------------------------------------------------------------------------------


def test_without_html_a_browser_gets_what_a_program_gets() -> None:
    presentation = Presentation(html=False)
    view = running()
    assert presentation.started(view, get(), None) == views.started(view)
    assert presentation.read(view, RESPONSE, get()) == views.read(view, RESPONSE, get())
    assert presentation.refusal(views.not_found(), get()) == views.not_found()


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"wroking": "x"}, "has no text 'wroking'"),
        ({"of": "{completed} of {n}"}, r"may have \['completed', 'total'\]"),
        ({"back": "{"}, "may have no placeholder"),
    ],
)
def test_a_wrong_text_is_said_at_once(texts: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Presentation(html={"en": texts})


@pytest.mark.parametrize("written", [b"bytes", None])
def test_a_callable_that_returns_no_text_has_failed(
    caplog: pytest.LogCaptureFixture, written: Any
) -> None:
    shown = Presentation(html=True, page=lambda told: written).read(running(), RESPONSE, get())
    assert ">Working on it</h1>" in text(shown)
    assert "must return a str" in caplog.text


def test_a_language_can_be_added() -> None:
    presentation = Presentation(html={"nl": {"working": "Bezig"}})
    page = presentation.read(running(), RESPONSE, get(b"", (b"accept-language", b"nl-BE")))
    assert page.header(b"content-language") == b"nl"
    assert ">Bezig</h1>" in text(page)
    assert TEXTS["en"]["cancel"] in text(page)


def test_a_callable_writes_the_page_without_a_policy_of_raincheck() -> None:
    seen: list[Page] = []

    def page(told: Page) -> str:
        seen.append(told)
        return f"<title>{told.title}</title>{told.main}"

    shown = Presentation(html=True, page=page).read(running(), RESPONSE, get())
    assert (shown.status, seen[0].kind, seen[0].status) == (202, "waiting", 202)
    assert text(shown).startswith("<title>Working on it</title><main data-next")
    assert shown.header(b"content-security-policy") is None


def test_a_page_that_fails_gives_way_to_raincheck_s_own(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    template = tmp_path / "page.html"
    template.touch()
    custom: list[Any] = [lambda told: 1 / 0, str(template)]
    presentations = [Presentation(html=True, page=each) for each in custom]
    template.unlink()
    for presentation in presentations:
        page = presentation.read(running(), RESPONSE, get())
        assert ">Working on it</h1>" in text(page)
    assert caplog.text.count("the option `page` has failed") == 2


def test_a_template_is_filled(tmp_path: Path) -> None:
    template = tmp_path / "page.html"
    template.write_text("$language $direction $title: $main $script $other", "utf-8")
    shown = Presentation(html=True, page=str(template)).refusal(views.not_found(), get())
    assert text(shown).startswith("en ltr Not found: <main><h1>Not found</h1>")
    assert text(shown).endswith("</main>  $other")


def test_a_template_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="page must be the path of a template"):
        Presentation(html=True, page=str(tmp_path / "missing.html"))


# --- parts --------------------------------------------------------------------------------------


def test_htmx_gets_an_element_that_polls_and_is_replaced(presentation: Presentation) -> None:
    asked = get(of=HTMX)
    for part in (
        presentation.started(running(), asked, None),
        presentation.read(running(), RESPONSE, asked),
    ):
        assert part.status == 202
        assert 'hx-get="/operations/a"' in text(part)
        assert 'hx-swap="outerHTML"' in text(part)
        assert 'hx-trigger="load delay:5s, every 30s"' in text(part)


def test_of_htmx_2_the_element_inherits_nothing_and_htmx_4_does_not_anyway(
    presentation: Presentation,
) -> None:
    older = text(presentation.read(running(), RESPONSE, get(of=HTMX)))
    newer_request = get(b"", (b"hx-request-type", b"partial"), of=HTMX)
    newer = text(presentation.read(running(), RESPONSE, newer_request))
    assert 'hx-confirm="unset"' in older
    assert "unset" not in newer


@pytest.mark.parametrize(
    ("status", "told"), [(200, 200), (201, 201), (303, 303), (204, 286), (404, 286), (503, 286)]
)
def test_htmx_swaps_in_a_result_and_polls_no_more(
    presentation: Presentation, status: int, told: int
) -> None:
    state = State.FAILED if status >= 400 else State.SUCCEEDED
    view = view_of(operation_of(state, result=result_of(status)))
    part = presentation.read(view, RESPONSE, get(of=HTMX))
    assert part.status == told
    said = str(status).encode() if told == 286 else None
    assert part.header(b"operation-result-status") == said


@pytest.mark.parametrize("name", ["failed without", "canceled", "expired"])
def test_what_has_no_response_ends_the_polling_of_htmx(
    presentation: Presentation, name: str
) -> None:
    asked = get(of=HTMX)
    told = presentation.read(view_of(OPERATIONS[name]), RESPONSE, asked)
    part = presentation.refusal(told, asked, is_poll=True)
    assert (part.status, b"hx-" in part.body) == (286, False)  # type: ignore[operator]
    assert part.header(b"operation-result-status") == str(told.status).encode()


def test_a_passing_trouble_is_not_swapped_in_by_htmx(presentation: Presentation) -> None:
    part = presentation.refusal(unavailable("x", 5), get(of=HTMX), is_poll=True)
    assert (part.status, part.header(b"hx-reswap")) == (503, b"none")


def test_a_refusal_of_the_request_itself_is_no_end_of_polling(presentation: Presentation) -> None:
    assert presentation.refusal(unavailable("x", 5), get(of=HTMX)).status == 503


def test_htmx_that_navigates_is_led_to_the_page(presentation: Presentation) -> None:
    asked = get(b"", (b"hx-boosted", b"true"), of=HTMX)
    part = presentation.started(running(), asked, None)
    assert (part.status, part.header(b"hx-redirect")) == (202, b"/operations/a")


def test_a_turbo_frame_gets_itself_back_whatever_its_name(presentation: Presentation) -> None:
    part = text(presentation.read(running(), RESPONSE, get(of=FRAME)))
    assert part.startswith('<turbo-frame id="a&quot;&gt;&lt;script&gt;1">')
    assert 'getElementById("a\\">\\u003cscript>1")' in part
    problem_part = text(presentation.refusal(views.not_found(), get(of=FRAME), is_poll=True))
    assert problem_part.startswith('<turbo-frame id="a&quot;&gt;&lt;script&gt;1">')


# --- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept_language", "language"),
    [
        (None, "en"),
        (b"", "en"),
        (b"xx", "en"),
        (b"de-AT, en;q=0.5", "de"),
        (b"xx, fr;q=0.2, es;q=0.9", "es"),
        (b"de;q=0, fr", "fr"),
        (b"de;q=0", "en"),
        (b"DE", "de"),
        (b"<script>, ar", "ar"),
        (b"de;q=rubbish", "de"),
        (b"x" * 5000 + b",de", "en"),
    ],
)
def test_the_language_is_the_preferred_one_that_is_known(
    accept_language: bytes | None, language: str
) -> None:
    assert language_of(accept_language, TEXTS) == language


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (-5, "1 s"),
        (0, "1 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (601, "10 min"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (200_000, "2 d"),
    ],
)
def test_a_duration_is_written_in_symbols(seconds: float, written: str) -> None:
    assert duration(seconds) == written
