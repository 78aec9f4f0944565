"""What pollers may do to an operation: cancel or forget it, by DELETE or by a page's form."""

from __future__ import annotations

import hmac

from raincheck.engine.engine import Engine
from raincheck.engine.refusals import STORE_RETRY_AFTER
from raincheck.http.messages import Response
from raincheck.http.problems import problem, unavailable
from raincheck.monitor import views
from raincheck.monitor.audience import CANCEL
from raincheck.monitor.page.document import next_of, see
from raincheck.monitor.poll import Poll
from raincheck.monitor.views import View
from raincheck.operations.operation import Operation, State

CANCELS = (State.CANCELLING, State.CANCELLED)


def delete(engine: Engine, operation: Operation) -> Operation | Response:
    """Do what a DELETE of R asks for; return what the operation has become, or why it has not."""
    writes, changed = engine.health.writes, None
    if not operation.is_terminal:
        changed = writes.run(lambda: engine.cancel(operation.id))
    if changed is None:  # or it has ended since the look
        # What is large may take its time.
        changed = writes.run(lambda: engine.forget(operation.id), may_be_slow=True)
    operation = changed or operation
    if not operation.forgotten and operation.state not in CANCELS:  # a newer raincheck's
        return unavailable("This can't be cancelled now.", STORE_RETRY_AFTER)
    return operation


def cancel_by_form(engine: Engine, poll: Poll, view: View) -> Response:
    """Cancel as the button of a page asks for it; what has ended stays as it is."""
    operation, token = view.operation, poll.request.parameter(CANCEL) or b""
    if operation.form_token is None or not same(token.decode("latin-1"), operation.form_token):
        return problem(403, "forbidden", "The form is not one that was given to its sender.")
    there = next_of(view.links.seen_from(poll.request))
    if operation.is_terminal:
        return see(view, there)
    refused = views.refused_deletion(view, poll.request)
    if refused is None:
        engine.health.writes.run(lambda: engine.cancel(operation.id))
    return refused or see(view, there)


def same(text: str, other: str) -> bool:
    """Compare in a time that tells nothing of where they differ."""
    return hmac.compare_digest(_bytes(text), _bytes(other))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
