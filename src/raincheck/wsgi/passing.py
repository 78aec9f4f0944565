"""A response that is recorded, and goes to the client that waits for it as it comes."""

from __future__ import annotations

from raincheck.engine.deferral import Deferral
from raincheck.errors import OperationCancelled
from raincheck.wsgi.channel import Channel


class Passing:
    """Has the client take what is recorded; the rest of the race is with its subclass."""

    deferral: Deferral
    _is_left = False  # by the client to which it goes

    @property
    def is_passing(self) -> bool:
        """Whether the response goes to the client, too."""
        return self.deferral.is_passing

    def begin_passing(self, channel: Channel) -> None:
        """Have the response that begins now go to the client, too, unless it is told to poll."""
        channel.closed()  # the recording goes on, whoever leaves: no server waits for its end
        self.deferral.begin_passing()

    def pass_on(self, channel: Channel, data: bytes) -> bool:
        """Have the client take a chunk as well; False if it does not, or never has."""
        if not self.is_passing or self._is_left:
            return False
        if not channel.put(data):
            self._is_left = True
            self.deferral.leave_alone()
        return not self._is_left

    def cut(self, channel: Channel, error: BaseException | None) -> None:
        """Have what was passed on, and is not complete, not look whole."""
        if self.is_passing:
            channel.cut(error or OperationCancelled("its response was not completed"))
