"""A response that is recorded, and goes to the client that waits for it as it comes."""

from __future__ import annotations

import threading

from raincheck.config.policy import Candidate
from raincheck.errors import OperationCancelled
from raincheck.wsgi.channel import Channel
from raincheck.wsgi.ownership import Ownership


class Passing(Ownership):
    """Has the client take what is recorded; the rest of the race is with its subclass."""

    is_passing: bool
    candidate: Candidate
    changed: threading.Condition
    _is_due: bool
    _may_pass: bool
    _is_left: bool

    def leave_alone(self) -> None:
        """Say that the client waits for the response no longer."""
        if self.operation is not None:
            self.gateway.engine.leave_alone(self.operation)

    def begin_passing(self, channel: Channel) -> None:
        """Have the response that begins now go to the client, too, unless it is told to poll."""
        channel.closed()  # the recording goes on, whoever leaves: no server waits for its end
        with self.changed:
            is_due = self._is_due and not self.candidate.in_person
            self.is_passing = self._may_pass and not is_due
            self.changed.notify_all()

    def pass_on(self, channel: Channel, data: bytes) -> bool:
        """Have the client take a chunk as well; False if it does not, or never has."""
        if not self.is_passing or self._is_left:
            return False
        if not channel.put(data):
            self._is_left = True
            self.leave_alone()
        return not self._is_left

    def cut(self, channel: Channel, error: BaseException | None) -> None:
        """Have what was passed on, and is not complete, not look whole."""
        if self.is_passing:
            channel.cut(error or OperationCancelled("its response was not completed"))
