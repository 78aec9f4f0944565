"""Each rule of the checker catches what it is there to catch, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.torture.checker import RULES, check
from tests.torture.evidence import Blow, Call, Effect, Evidence, Facts, load
from tests.torture.journal import CHAOS, CLIENTS, FACTS, HANDLERS, SERVERS, Journal
from tests.torture.work import NOTES, Work

R = "/operations/0123456789abcdef"
NONCE = 7
PID = 100
POST = Work("r1", "work", "POST", seed=5, size=20, upload=3)
GET = Work("r1", "work", "GET", seed=5, size=20)
FACTS_OF_A_RUN = Facts(seed=1, store="redis", lease=5, max_attempts=3, retention=60, bound=10)


TRACEBACKS = """\
ERROR:    Exception
Traceback (most recent call last):
  File "x.py"
OSError: cause
The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "y.py"
KeyError: 'x'
something else
"""


class Story:
    """The logs of one request, written by hand."""

    def __init__(self, work: Work = POST) -> None:
        self.work = work
        self.calls: list[Call] = []
        self.effects: list[Effect] = []
        self.blows: list[Blow] = []
        self.facts = FACTS_OF_A_RUN
        self.stuck: list[str] = []
        self.errors: list[str] = []
        self._numbers = count(1)

    def call(self, purpose: str, t: float, **fields: Any) -> Call:
        own: dict[str, Any] = {"method": "GET", "path": R, "owner": "me", "rid": self.work.rid}
        answer: dict[str, Any] = {"sent": t, "answered": t + 0.1, "purpose": purpose, "pid": PID}
        call = Call(number=next(self._numbers), **(answer | own | fields))
        self.calls.append(call)
        return call

    def asked(self, t: float = 1.0, **fields: Any) -> Call:
        own = {"method": self.work.method, "path": self.work.path, "work": self.work}
        return self.call("start", t, **(own | fields))

    def accepted(self, t: float = 1.0, **fields: Any) -> Call:
        return self.asked(t, **({"status": 202, "state": "running", "operation": R} | fields))

    def refused(self, t: float, status: int, code: str | None = None, **fields: Any) -> Call:
        return self.asked(t, status=status, code=code, fields=(("retry-after", "5"),), **fields)

    def began(
        self, t: float = 1.0, nonce: int = NONCE, pid: int = PID, rerun: bool = False
    ) -> None:
        self.effects.append(Effect("begin", self.work.rid, pid, t, nonce, rerun))

    def responded(self, t: float, nonce: int = NONCE, **fields: Any) -> Call:
        return self.call("poll", t, **(self._response(nonce) | fields))

    def _response(self, nonce: int) -> dict[str, Any]:
        body = self.work.expected(nonce)
        names = {
            "operation-status": "succeeded",
            "content-type": "application/x-torture",
            "x-rid": self.work.rid,
            "x-nonce": str(nonce),
            "x-received": hashlib.sha256(self.work.uploaded).hexdigest(),
        }
        return {
            "status": self.work.status,
            "state": "succeeded",
            "length": len(body),
            "digest": hashlib.sha256(body).hexdigest(),
            "fields": (*names.items(), *(("x-note", note) for note in NOTES)),
        }

    def lost(self, t: float, code: str = "interrupted") -> Call:
        fields = (("operation-status", "failed"),)
        return self.call("poll", t, status=500, state="failed", code=code, fields=fields)

    def cancelled(self, t: float) -> Call:
        fields = (("operation-status", "canceled"),)
        return self.call("poll", t, status=410, state="canceled", code="canceled", fields=fields)

    def struck(self, action: str, begin: float, end: float, pid: int = PID) -> None:
        self.blows.append(Blow(action, pid, begin, end, end - begin))

    def broken(self) -> set[str]:
        """Return the names of the rules that find something."""
        evidence = Evidence(
            self.calls, self.effects, self.blows, self.facts, 20.0, self.stuck, self.errors
        )
        return {violation.rule for violation in check(evidence)}


def ordinary(work: Work = POST) -> Story:
    """Tell of a request that was deferred, ran, and was polled to its end."""
    story = Story(work)
    story.accepted()
    story.began()
    story.call("poll", 2, status=202, state="running", operation=R)
    story.responded(3)
    return story


def test_an_ordinary_run_breaks_nothing() -> None:
    assert ordinary().broken() == set()


def woken_after_an_outage(frozen: int = PID) -> Story:
    """Tell of a process that is frozen when it has just seen that the store is away."""
    story = Story()
    story.accepted()
    story.began()
    story.struck("store crash", 2, 3, pid=-1)
    story.struck("freeze past the lease", 3.1, 12, pid=frozen)
    fields = (("retry-after", "5"),)
    story.call("poll", 9, answered=12.1, status=503, code="unavailable", fields=fields)
    return story


def test_who_was_frozen_may_not_know_yet_that_the_store_is_back() -> None:
    story = woken_after_an_outage()
    story.responded(12.3)
    assert story.broken() == set()


def test_a_run_full_of_excused_misfortune_breaks_nothing() -> None:
    story = Story(GET)
    story.accepted()
    story.began()
    story.struck("kill", 1.5, 2)
    story.struck("store crash", 2, 3, pid=-1)
    story.call("poll", 2.5, status=503, code="unavailable", fields=(("retry-after", "5"),))
    story.call("spy", 2.6, owner="you", status=503)
    story.errors.append("raincheck.errors.StoreUnavailable: no")
    story.began(4, nonce=8, pid=PID + 1, rerun=True)
    story.responded(6, nonce=8)
    story.call("cancel", 7, method="DELETE", status=204)
    story.call("poll", 8, status=410, code="gone")
    assert story.broken() == set()


# --- one broken promise each ----------------------------------------------------------------------


def unfinished() -> Story:
    story = Story()
    story.accepted()
    story.began()
    story.call("poll", 29.5, status=202, state="running", operation=R)
    return story


def finished_too_late() -> Story:
    story = unfinished()
    story.responded(31)
    return story


def never_answered() -> Story:
    story = Story()
    story.accepted()
    return story


def with_one_wrong_byte() -> Story:
    story = ordinary()
    story.calls[-1] = replace(story.calls[-1], digest=hashlib.sha256(b"else").hexdigest())
    return story


def cut_short() -> Story:
    story = ordinary()
    story.calls[-1] = replace(story.calls[-1], length=19)
    return story


def with_another_status() -> Story:
    story = ordinary()
    story.calls[-1] = replace(story.calls[-1], status=201)
    return story


def without_its_repeated_field() -> Story:
    story = ordinary()
    story.calls[-1] = replace(story.calls[-1], fields=story.calls[-1].fields[:-1])
    return story


def with_an_upload_cut_short() -> Story:
    story = ordinary()
    fields = dict(story.calls[-1].fields[:-2]) | {"x-received": hashlib.sha256(b"").hexdigest()}
    notes = (("x-note", note) for note in NOTES)
    story.calls[-1] = replace(story.calls[-1], fields=(*fields.items(), *notes))
    return story


def of_no_run() -> Story:
    story = Story()
    story.accepted()
    story.began(nonce=1)
    story.responded(3)
    return story


def cut_off_in_the_middle() -> Story:
    story = ordinary()
    error = "RemoteProtocolError: peer closed connection without sending complete message body"
    story.call("poll", 3, status=None, answered=None, error=error, broke=3.1)
    return story


def ended_twice() -> Story:
    story = ordinary(GET)
    story.began(4, nonce=8, rerun=True)
    story.responded(5, nonce=8)
    return story


def running_after_its_end() -> Story:
    story = ordinary()
    story.call("poll", 4, status=202, state="running", operation=R)
    return story


def running_after_its_end_by_its_status() -> Story:
    story = ordinary()
    story.call("status", 4, path=f"{R}/status", status=200, state="running")
    return story


def begun_twice() -> Story:
    story = ordinary()
    story.began(2, nonce=8, rerun=True)
    return story


def begun_too_often() -> Story:
    story = ordinary(GET)
    for nonce in (8, 9, 10):
        story.began(2, nonce=nonce, rerun=True)
    return story


def begun_anew() -> Story:
    story = ordinary(GET)
    story.began(2, nonce=8)
    return story


def two_operations_of_a_key() -> Story:
    story = ordinary()
    story.calls[0] = replace(story.calls[0], key="k")
    story.accepted(2, key="k", operation=f"{R}4")
    story.responded(3, path=f"{R}4")
    return story


def two_responses_of_a_key() -> Story:
    story = Story(GET)
    for nonce in (NONCE, 8):
        story.began(nonce=nonce, rerun=nonce == 8)
        story.asked(2, key="k", **story._response(nonce))
    return story


def another_request_under_a_key() -> Story:
    story = ordinary()
    story.calls[0] = replace(story.calls[0], key="k")
    story.accepted(2, key="k", is_variant=True)
    return story


def shown_to_a_stranger() -> Story:
    story = ordinary()
    story.call("spy", 4, owner="you", status=200)
    return story


def unavailable_to_a_stranger() -> Story:
    story = ordinary()
    story.call("spy", 4, owner="you", status=503)
    return story


def hinted_to_a_stranger() -> Story:
    story = ordinary()
    story.call("spy", 4, owner="you", status=404, code="not-found", digest="a")
    story.call("nobody's", 5, owner="you", status=404, code="not-found", digest="b")
    return story


def busy_after_being_cancelled() -> Story:
    story = Story()
    story.accepted()
    story.began()
    story.call("cancel", 2, method="DELETE", status=202, operation=R, state="cancelling")
    story.cancelled(3)
    story.effects.append(Effect("beat", "r1", PID, 3.5, NONCE, False))
    return story


def cancelled_by_nobody() -> Story:
    story = Story()
    story.accepted()
    story.began()
    story.cancelled(3)
    return story


def begun_though_refused() -> Story:
    story = Story()
    story.refused(1, 503)
    story.began()
    return story


def lost_for_no_reason() -> Story:
    story = Story()
    story.accepted()
    story.began()
    story.lost(3)
    return story


def lost_to_a_short_freeze() -> Story:
    story = lost_for_no_reason()
    story.struck("freeze", 1.5, 2)
    return story


def lost_to_a_blow_to_another() -> Story:
    story = lost_for_no_reason()
    story.struck("kill", 1.5, 2, pid=PID + 1)
    return story


def lost_though_repeatable(claims: int = 1) -> Story:
    story = Story(GET)
    story.facts = replace(story.facts, claims={R.rpartition("/")[2]: claims})
    story.accepted()
    story.began()
    for number in range(3):
        story.struck("kill", 1.5 + number / 10, 2, pid=PID + number)
    story.lost(3)
    return story


def answered_500_by_nobody_knows_whom() -> Story:
    story = ordinary()
    story.call("poll", 2.5, status=500)
    return story


def cut_off_by_a_server_that_was_not_to_end() -> Story:
    story = Story()
    story.asked(status=500, pid=0)
    story.struck("kill", 0.5, 3)
    return story


def not_found() -> Story:
    story = ordinary()
    story.call("poll", 2.5, status=404, code="not-found")
    return story


def gone_too_early() -> Story:
    story = ordinary()
    story.call("poll", 4, status=410, code="gone")
    return story


def unavailable_for_no_reason() -> Story:
    story = ordinary()
    story.call("poll", 2.5, status=503, fields=(("retry-after", "5"),))
    return story


def unavailable_though_another_was_frozen() -> Story:
    story = woken_after_an_outage(frozen=PID + 1)
    story.responded(12.3)
    return story


def unavailable_without_a_time() -> Story:
    story = ordinary()
    story.struck("store crash", 2, 3, pid=-1)
    story.call("poll", 2.5, status=503)
    return story


def failed_for_an_unknown_reason() -> Story:
    story = Story()
    story.accepted()
    story.began()
    story.lost(3, "response_lost")
    return story


def unstoppable() -> Story:
    story = ordinary()
    story.stuck.append("restart: not within 20 s")
    return story


def defective() -> Story:
    story = ordinary()
    story.errors += ["RuntimeError: this handler always fails", "KeyError: 'x'"]
    return story


def defective_without_its_store() -> Story:
    story = ordinary()
    story.errors.append("raincheck.errors.StoreUnavailable: no")
    return story


def without_the_client_it_was_promised_to() -> Story:
    story = ordinary()
    story.errors.append(
        "the handler of operation 012345… raised: starlette.requests.ClientDisconnect"
    )
    return story


def with_a_forgotten_body() -> Story:
    story = ordinary()
    story.facts = replace(story.facts, left={"operations": [], "chunks": ["0123 1 0"]})
    return story


CAUGHT: dict[str, list[Callable[[], Story]]] = {
    "every promise is kept": [unfinished, finished_too_late, never_answered],
    "bodies are right": [
        with_one_wrong_byte,
        cut_short,
        with_another_status,
        without_its_repeated_field,
        with_an_upload_cut_short,
        of_no_run,
    ],
    "answers are whole": [cut_off_in_the_middle],
    "the end is final": [ended_twice, running_after_its_end, running_after_its_end_by_its_status],
    "handlers begin as often as they may": [begun_twice, begun_too_often, begun_anew],
    "a key is one operation": [
        two_operations_of_a_key,
        two_responses_of_a_key,
        another_request_under_a_key,
    ],
    "strangers see nothing": [
        shown_to_a_stranger,
        unavailable_to_a_stranger,
        hinted_to_a_stranger,
    ],
    "the cancelled are silent": [busy_after_being_cancelled],
    "only the cancelled are cancelled": [cancelled_by_nobody],
    "the refused begin nothing": [begun_though_refused],
    "losses have a reason": [
        lost_for_no_reason,
        lost_to_a_short_freeze,
        lost_to_a_blow_to_another,
        lost_though_repeatable,
    ],
    "every answer is explained": [
        answered_500_by_nobody_knows_whom,
        cut_off_by_a_server_that_was_not_to_end,
        not_found,
        gone_too_early,
        unavailable_for_no_reason,
        unavailable_though_another_was_frozen,
        unavailable_without_a_time,
        failed_for_an_unknown_reason,
    ],
    "servers end when asked": [unstoppable],
    "servers meet no defect": [
        defective,
        defective_without_its_store,
        without_the_client_it_was_promised_to,
    ],
    "nothing is left": [with_a_forgotten_body],
}


CASES = [
    pytest.param(rule, story, id=f"{rule}: {story.__name__}")
    for rule, stories in CAUGHT.items()
    for story in stories
]


@pytest.mark.parametrize(("rule", "story"), CASES)
def test_a_broken_promise_is_seen_by_its_rule_alone(rule: str, story: Callable[[], Story]) -> None:
    assert story().broken() == {rule}


def test_every_rule_is_seen_to_catch_something() -> None:
    assert {rule.__name__.replace("_", " ") for rule in RULES} == set(CAUGHT)


@pytest.mark.parametrize("action", ["kill", "restart"])
def test_what_may_not_be_repeated_is_lost_with_its_process(action: str) -> None:
    story = lost_for_no_reason()
    story.struck(action, 1.5, 2)
    assert story.broken() == set()


@pytest.mark.parametrize(("action", "pid"), [("kill", PID), ("store crash", -1)])
def test_a_blow_may_cut_an_answer_short(action: str, pid: int) -> None:
    story = cut_off_in_the_middle()
    story.struck(action, 2.9, 3.05, pid=pid)
    assert story.broken() == set()


def test_a_process_that_never_answered_may_have_been_struck() -> None:
    story = Story()
    story.asked(0.5, key="k", status=None, answered=None, pid=0)
    story.struck("kill", 0.6, 0.7, pid=PID + 1)
    story.accepted(key="k")
    story.lost(3)
    assert story.broken() == set()


def test_a_server_that_is_to_end_may_cut_off_what_it_promised_nothing() -> None:
    story = Story()
    story.asked(status=500, pid=0)
    story.struck("restart", 0.5, 3)
    assert story.broken() == set()


def test_what_was_claimed_as_often_as_it_may_be_is_lost() -> None:
    assert lost_though_repeatable(claims=3).broken() == set()


def test_who_has_claimed_an_operation_may_be_struck_before_its_handler_begins() -> None:
    story = Story()
    story.accepted()
    story.struck("kill", 1.5, 2, pid=PID + 1)
    story.lost(3)
    assert story.broken() == {"losses have a reason"}
    known = R.rpartition("/")[2]
    story.facts = replace(story.facts, claims={known: 1}, claimants={known: PID + 1})
    assert story.broken() == set()
    story.facts = replace(story.facts, claimants={known: PID + 2})
    assert story.broken() == {"losses have a reason"}


def test_a_mark_that_nobody_has_heard_of_makes_nothing_repeatable() -> None:
    story = Story(replace(POST, route="again"))
    story.accepted()
    story.struck("kill", 1.5, 2)
    story.lost(3)
    assert story.broken() == set()


def test_a_refused_request_may_have_left_a_record_that_nobody_runs() -> None:
    story = Story(GET)
    story.facts = replace(story.facts, claims={R.rpartition("/")[2]: 1})
    story.asked(1, key="k", status=503, fields=(("retry-after", "5"),), pid=PID)
    story.struck("store crash", 0.9, 1.2, pid=-1)
    story.struck("kill", 1.3, 1.4)
    story.accepted(key="k")
    story.lost(3)
    assert story.broken() == set()


def test_a_response_may_be_deleted_while_it_is_sent() -> None:
    story = ordinary()
    error = "ERROR: raincheck.errors.BodyMissing: the body of operation 012345… is not all there"
    story.errors.append(error)
    assert story.broken() == {"servers meet no defect"}
    story.call("cancel", 2.6, method="DELETE", status=204)
    assert story.broken() == set()


def test_a_long_freeze_is_an_excuse() -> None:
    story = lost_for_no_reason()
    story.struck("freeze past the lease", 1.5, 8)
    story.calls[-1] = replace(story.calls[-1], answered=8.5)
    assert story.broken() == set()


def test_the_logs_are_read_as_they_were_written(tmp_path: Path) -> None:
    clients, chaos = Journal(tmp_path / CLIENTS), Journal(tmp_path / CHAOS)
    what = {"purpose": "start", "method": "POST", "path": POST.path, "owner": "me"}
    sent = clients.write("sent", call=1, rid="r1", work=POST.as_json(), server=2, key="k", **what)
    clients.write("sent", call=2, rid="r1", purpose="poll", method="GET", path=R, owner="me")
    broke = clients.write("lost", call=2, error="ReadTimeout: ")
    fields = [["x-note", "one"], ["x-note", "two"]]
    answered = clients.write("answered", call=1, status=202, operation=R, fields=fields, pid=PID)
    struck = chaos.write("blow", number=1, action="kill", pid=PID, seconds=0.0)
    chaos.write("stuck", number=1, error="no")
    slow = chaos.write("slow", seconds=0.7)
    over, calm = chaos.write("over", number=1), chaos.write("calm")
    clients.close()
    chaos.close()
    (tmp_path / HANDLERS).write_text(f"begin r1 {PID} 1.5 {NONCE} 1\n")
    (tmp_path / SERVERS).write_text(TRACEBACKS)
    (tmp_path / FACTS).write_text(json.dumps(asdict(FACTS_OF_A_RUN)))

    evidence = load(tmp_path)

    start, poll = evidence.calls
    assert (start.sent, start.answered, start.work, start.key) == (sent, answered, POST, "k")
    assert (start.status, start.operation, start.pid) == (202, R, PID)
    assert start.fields == (("x-note", "one"), ("x-note", "two"))
    assert (poll.purpose, poll.status, poll.answered) == ("poll", None, None)
    assert (poll.error, poll.broke) == ("ReadTimeout: ", broke)
    assert evidence.effects == [Effect("begin", "r1", PID, 1.5, NONCE, True)]
    assert evidence.blows == [
        Blow("kill", PID, struck, over),
        Blow("slow", -1, slow - 0.7, slow, 0.7),
    ]
    assert (evidence.calm, evidence.stuck, evidence.errors) == (
        calm,
        ["kill: no"],
        ["ERROR:    Exception: KeyError: 'x'"],
    )
    assert evidence.facts == FACTS_OF_A_RUN
