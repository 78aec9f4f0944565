"""Which promises were broken, by the logs alone. Pure, and knows nothing of raincheck but its wire.

Each rule takes the evidence of a run and yields what contradicts it. An answer that no rule
explains is a violation itself.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.torture.evidence import Call, Evidence, grouped
from tests.torture.work import MAKES_SAFE, NOTES

TERMINAL = frozenset({"succeeded", "failed", "canceled"})
LOST = frozenset({"interrupted", "shutdown"})  # reasons that need a blow as an excuse
HANDLERS_OWN = "this handler always fails"
CANCELLED = "raincheck.errors.OperationCancelled"  # which Flask takes for an error
LEFT = "ClientDisconnect"  # while it uploads; but whoever was promised an answer has not left
BROKEN_OFF = "raincheck.errors.StoreUnavailable"
FORGOTTEN = "raincheck.errors.BodyMissing"  # what is deleted while it is sent must not look whole
IDS_SHOWN = 6  # characters of an operation's id that logs show
CUT_OFF = "Task cancelled, timeout graceful shutdown exceeded"  # uvicorn, of what stays synchronous
CUT_SHORT = ("incomplete chunked read", "complete message body")  # httpx's words


@dataclass(frozen=True)
class Violation:
    """A broken promise."""

    rule: str
    rid: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.rid}: {self.text}"


def check(evidence: Evidence) -> list[Violation]:
    """Return everything that contradicts the promises."""
    return [violation for rule in RULES for violation in rule(evidence)]


# --- the rules --------------------------------------------------------------------------------


def every_promise_is_kept(evidence: Evidence) -> Iterator[Violation]:
    """Every operation that any client heard of has ended soon after the last blow."""
    deadline = evidence.calm + evidence.facts.bound
    for path, calls in evidence.operations.items():
        if not any(_says_the_end(c) and c.end <= deadline for c in calls):
            last = next((c for c in reversed(calls) if c.status is not None), None)
            text = f"{path} has not ended; last: {_shown(last)}"
            yield Violation("every promise is kept", calls[0].rid, text)


def _says_the_end(call: Call) -> bool:
    if call.purpose == "start":
        return False
    return call.is_outcome or call.state in TERMINAL or call.status in (204, 410)


def bodies_are_right(evidence: Evidence) -> Iterator[Violation]:
    """Every response of a handler is one that this request's handler has made, all of it."""
    for call in evidence.calls:
        if call.is_of_handler and call.purpose in ("start", "poll") and not call.is_variant:
            for text in _defects(evidence, call):
                yield Violation("bodies are right", call.rid, f"{text}: {_shown(call)}")


def _defects(evidence: Evidence, call: Call) -> Iterator[str]:
    work, nonce = evidence.works[call.rid], int(call.header["x-nonce"])
    body = work.expected(nonce)
    expected = {
        "x-rid": work.rid,
        "content-type": "application/x-torture",
        "x-received": hashlib.sha256(work.uploaded).hexdigest(),
    }
    if (call.length, call.digest) != (len(body), hashlib.sha256(body).hexdigest()):
        yield f"its {call.length} bytes are not the {len(body)} expected"
    if call.status != work.status:
        yield f"its status is not {work.status}"
    for name, value in expected.items():
        if call.header.get(name) != value:
            yield f"its {name} is {call.header.get(name)!r}, not {value!r}"
    if tuple(value for name, value in call.fields if name == "x-note") != NOTES:
        yield "its repeated field is not as it was"
    if nonce not in [effect.nonce for effect in evidence.begins.get(call.rid, ())]:
        yield "no run of its handler has made it"


def answers_are_whole(evidence: Evidence) -> Iterator[Violation]:
    """An answer that was begun is cut short only if its server, or the store, is struck."""
    for call in evidence.calls:
        if not any(text in call.error for text in CUT_SHORT):
            continue
        is_struck = evidence.touched([0], call.sent, call.broke)
        if not is_struck and not evidence.is_away(call.sent, call.broke):
            yield Violation("answers are whole", call.rid, f"{call.error}: {_shown(call)}")


def the_end_is_final(evidence: Evidence) -> Iterator[Violation]:
    """Nothing changes how an operation has ended, and it doesn't run on."""
    for path, calls in evidence.operations.items():
        outcomes = {(c.status, c.state, c.code, c.digest): c for c in calls if c.is_outcome}
        if len(outcomes) > 1:
            text = f"{path} has ended in several ways: {[_shown(c) for c in outcomes.values()]}"
            yield Violation("the end is final", calls[0].rid, text)
        ended = min((c.end for c in calls if c.is_outcome), default=None)
        for call in calls:
            if ended is not None and call.sent > ended and _says_it_runs(call):
                text = f"{path} had ended {call.sent - ended:.2f} s before: {_shown(call)}"
                yield Violation("the end is final", calls[0].rid, text)


def _says_it_runs(call: Call) -> bool:
    if call.purpose == "status":
        return call.status == 200 and call.state not in TERMINAL
    return call.purpose == "poll" and call.status == 202


def handlers_begin_as_often_as_they_may(evidence: Evidence) -> Iterator[Violation]:
    """What may not be repeated begins once, the rest as often as it may, as a replay."""
    for rid, begins in evidence.begins.items():
        work = evidence.works[rid]
        most = evidence.facts.max_attempts if work.is_repeatable else 1
        if len(begins) > most:
            text = f"its handler ({work.method} /{work.route}) was begun {len(begins)} times"
            yield Violation("handlers begin as often as they may", rid, f"{text}: {begins}")
        if sum(not effect.is_rerun for effect in begins) > 1:
            text = f"a run that was no replay followed another: {begins}"
            yield Violation("handlers begin as often as they may", rid, text)


def a_key_is_one_operation(evidence: Evidence) -> Iterator[Violation]:
    """All requests with one key are answered by one operation; another request is refused."""
    keyed = grouped((c for c in evidence.calls if c.key is not None), lambda c: c.key)
    for key, calls in keyed.items():
        paths = {c.operation for c in calls if c.operation is not None}
        if len(paths) > 1:
            yield Violation("a key is one operation", key, f"it became {sorted(paths)}")
        nonces = {c.header["x-nonce"] for c in calls if c.is_of_handler}
        if len(nonces) > 1:
            yield Violation("a key is one operation", key, f"it was answered by {sorted(nonces)}")
        for call in calls:
            if call.is_variant and call.status not in (None, 422, 410, 503, 429):
                text = f"another request under its key was not refused: {_shown(call)}"
                yield Violation("a key is one operation", key, text)


def strangers_see_nothing(evidence: Evidence) -> Iterator[Violation]:
    """Whoever asks for what is somebody else's hears what he would of what never was."""
    spied = [c for c in evidence.calls if c.purpose in ("spy", "nobody's") and c.status is not None]
    answers = Counter((c.digest, c.code) for c in spied if c.status == 404 and c.method == "GET")
    for call in spied:
        is_excused = call.status == 503 and evidence.is_away(call.sent, call.end, call.pid)
        if call.status != 404 and not is_excused:
            yield Violation("strangers see nothing", call.rid, _shown(call))
    if len(answers) > 1:
        text = f"404 is said in several ways: {answers}"
        yield Violation("strangers see nothing", "all", text)


def the_cancelled_are_silent(evidence: Evidence) -> Iterator[Violation]:
    """After a client has heard `canceled` the handler does nothing, unless it was frozen."""
    effects = grouped(evidence.effects, lambda e: e.rid)
    for path, calls in evidence.operations.items():
        heard = min((c.end for c in calls if c.state == "canceled"), default=None)
        if heard is None:
            continue
        for effect in effects.get(calls[0].rid, ()):
            if effect.t > heard and not evidence.touched([effect.pid], 0, effect.t):
                text = f"{path}: {effect.event} {effect.t - heard:.3f} s after `canceled`"
                yield Violation("the cancelled are silent", calls[0].rid, text)
                break


def only_the_cancelled_are_cancelled(evidence: Evidence) -> Iterator[Violation]:
    """An operation is cancelled, or given up, only if its owner has asked for it."""
    for path, calls in evidence.operations.items():
        asked = any(c.purpose == "cancel" for c in calls)
        for call in calls:
            if call.state == "canceled" and not asked:
                text = f"nobody has cancelled {path}: {_shown(call)}"
                yield Violation("only the cancelled are cancelled", call.rid, text)
                break


def the_refused_begin_nothing(evidence: Evidence) -> Iterator[Violation]:
    """A request that was refused for lack of room has begun no handler."""
    for call in evidence.calls:
        is_refused = call.purpose == "start" and call.status in (429, 503)
        if is_refused and call.key is None and call.rid in evidence.begins:
            yield Violation("the refused begin nothing", call.rid, _shown(call))


def losses_have_a_reason(evidence: Evidence) -> Iterator[Violation]:
    """What was interrupted was run by a process that was struck; what may be repeated, often."""
    for path, calls in evidence.operations.items():
        lost = next((c for c in calls if c.code in LOST), None)
        if lost is None:
            continue
        begins = evidence.begins.get(lost.rid, [])
        asked = [c for c in evidence.calls_of[lost.rid] if c.purpose == "start"]
        pids = [b.pid for b in begins] + [c.pid for c in asked]  # one may begin and not answer
        if evidence.facts.claims.get(_id(path), 0) > len(begins):  # or claim, and then not begin
            pids.append(evidence.facts.claimants.get(_id(path), 0))
        first = min(c.sent for c in asked)
        blows = evidence.touched(pids, first, lost.end)
        if not blows:
            text = f"{path} is {lost.code}, and no process of it was struck: {pids}"
            yield Violation("losses have a reason", lost.rid, text)
        elif _is_known_as_repeatable(evidence, lost) and not _was_tried(evidence, path, asked):
            text = f"{path} is {lost.code} and was begun only {len(begins)} times: {blows}"
            yield Violation("losses have a reason", lost.rid, text)


def _is_known_as_repeatable(evidence: Evidence, lost: Call) -> bool:
    """Tell whether it may be repeated by its method, or its handler has begun and said so."""
    work = evidence.works[lost.rid]
    return work.method in MAKES_SAFE or (work.is_repeatable and lost.rid in evidence.begins)


def _was_tried(evidence: Evidence, path: str, asked: list[Call]) -> bool:
    """Tell whether it was claimed as often as it may be, or was not meant to begin at all.

    Of a request with a key that was refused as the store failed, there may be a record: who asks
    again hears that nobody has run it.
    """
    claims = evidence.facts.claims.get(_id(path), 0)
    refused = (c for c in asked if c.key is not None and c.status in (None, 503))
    is_refused = any(evidence.is_away(call.sent, call.broke or call.end) for call in refused)
    return claims >= evidence.facts.max_attempts or (is_refused and claims == 1)


def _id(path: str) -> str:
    return path.rpartition("/")[2]


def every_answer_is_explained(evidence: Evidence) -> Iterator[Violation]:
    """Clients are answered nothing that no rule expects."""
    for call in evidence.calls:
        if call.status is None or call.purpose in ("spy", "nobody's"):
            continue
        if not any(explains(evidence, call) for explains in _EXPLANATIONS):
            yield Violation("every answer is explained", call.rid, _shown(call))


def _is_the_handlers(evidence: Evidence, call: Call) -> bool:
    return call.is_of_handler


def _is_an_operation(evidence: Evidence, call: Call) -> bool:
    if call.purpose == "status":
        return call.status == 200 and (call.code is None or _is_a_reason(evidence, call))
    if call.purpose == "cancel" and call.status == 204:
        return True
    return call.status == 202 and call.operation is not None


def _is_an_end(evidence: Evidence, call: Call) -> bool:
    if call.state == "canceled":
        return call.status == 410
    return call.status == 500 and call.state == "failed" and _is_a_reason(evidence, call)


def _is_a_reason(evidence: Evidence, call: Call) -> bool:
    if call.code in LOST:
        return True  # another rule looks into it
    if call.state == "canceled":
        return call.code == "response_discarded"
    if evidence.works[call.rid].route == "fail":
        return call.code in ("exception", "http_500", None)
    return call.code == f"http_{evidence.works[call.rid].status}"


def _is_a_failure(evidence: Evidence, call: Call) -> bool:
    is_own = call.purpose in ("start", "poll") and call.code is None
    return is_own and call.status == 500 and evidence.works[call.rid].route == "fail"


def _is_cut_off(evidence: Evidence, call: Call) -> bool:
    """Tell whether a server that was to end gave up a request that it had promised nothing."""
    ends = (blow for blow in evidence.blows if blow.action == "restart")
    is_of_server = call.status == 500 and not call.pid
    return is_of_server and any(b.begin <= call.end and call.sent <= b.end for b in ends)


def _is_gone(evidence: Evidence, call: Call) -> bool:
    if call.status != 410:
        return False
    others = [c for c in evidence.calls_of[call.rid] if c.sent <= call.end]
    first = min(c.sent for c in others)
    is_old = call.end - first > evidence.facts.retention
    return is_old or any(c.purpose == "cancel" for c in others)


def _is_refused(evidence: Evidence, call: Call) -> bool:
    if call.status == 422:
        return call.is_variant
    has_a_time = "retry-after" in call.header
    if call.purpose == "start":  # another rule looks into what it has begun
        return call.status in (429, 503) and has_a_time
    return call.status == 503 and has_a_time and evidence.is_away(call.sent, call.end, call.pid)


_EXPLANATIONS = (
    _is_the_handlers,
    _is_an_operation,
    _is_an_end,
    _is_a_failure,
    _is_cut_off,
    _is_gone,
    _is_refused,
)


def servers_end_when_asked(evidence: Evidence) -> Iterator[Violation]:
    """A server that is to end does."""
    for text in evidence.stuck:
        yield Violation("servers end when asked", "none", text)


def servers_meet_no_defect(evidence: Evidence) -> Iterator[Violation]:
    """Servers log no exception but those that handlers raise."""
    for error, count in Counter(evidence.errors).items():
        if not _is_expected(evidence, error):
            yield Violation("servers meet no defect", "none", f"{count} times {error}")


def _is_expected(evidence: Evidence, error: str) -> bool:
    if any(text in error for text in (HANDLERS_OWN, CANCELLED, CUT_OFF)):
        return True
    if FORGOTTEN in error:
        deleted = (call.path for call in evidence.calls if call.purpose == "cancel")
        return any(path.rpartition("/")[2][:IDS_SHOWN] in error for path in deleted)
    if BROKEN_OFF in error:  # where the store goes away while it is read, nothing else can be done
        return any(blow.pid == -1 for blow in evidence.blows)
    return LEFT in error and not any(
        path.rpartition("/")[2][:IDS_SHOWN] in error for path in evidence.operations
    )


def nothing_is_left(evidence: Evidence) -> Iterator[Violation]:
    """After retention and purge there is nothing but the memory of what has been."""
    for kind, names in evidence.facts.left.items():
        if names:
            text = f"{len(names)} {kind}, such as {names[:5]}"
            yield Violation("nothing is left", "none", text)


def _shown(call: Call | None) -> str:
    if call is None:
        return "no answer at all"
    what = f"{call.purpose} {call.method} {call.path[:60]} (call {call.number}, {call.sent:.3f})"
    return f"{what} → {call.status} state={call.state} code={call.code} from {call.pid}"


RULES: tuple[Callable[[Evidence], Iterator[Violation]], ...] = (
    every_promise_is_kept,
    bodies_are_right,
    answers_are_whole,
    the_end_is_final,
    handlers_begin_as_often_as_they_may,
    a_key_is_one_operation,
    strangers_see_nothing,
    the_cancelled_are_silent,
    only_the_cancelled_are_cancelled,
    the_refused_begin_nothing,
    losses_have_a_reason,
    every_answer_is_explained,
    servers_end_when_asked,
    servers_meet_no_defect,
    nothing_is_left,
)
