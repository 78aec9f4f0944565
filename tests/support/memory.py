"""What a process keeps in memory."""

from __future__ import annotations

import tracemalloc

from raincheck.engine import durations as engine_durations
from raincheck.monitor import estimates
from raincheck.operations import durations


def size_of_what_is_not_learned() -> int:
    """Return the bytes that are traced, but for what is learned of durations."""
    # That grows until its bounds, which the tests of estimates show.
    learning = [durations.__file__, engine_durations.__file__, estimates.__file__]
    filters = [tracemalloc.Filter(False, path) for path in (*learning, tracemalloc.__file__)]
    traces = tracemalloc.take_snapshot().filter_traces(filters).traces
    return sum(trace.size for trace in traces)
