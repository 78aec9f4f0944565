"""Environments that freeze a process between requests: what goes on after a 202 stands still."""

from __future__ import annotations

import logging
import os

from raincheck.config.options import Settings
from raincheck.config.policy import Policy

logger = logging.getLogger("raincheck")

FROZEN = (
    "nothing is deferred: AWS Lambda freezes this process between requests, and handlers would "
    "stand still; with drain=0 they are handed over to a process of the same application that runs "
    "elsewhere and shares the store"
)


def is_frozen_between_requests() -> bool:
    """Tell whether this process goes on only while a request is handled."""
    return "AWS_LAMBDA_FUNCTION_NAME" in os.environ


def policy_here(settings: Settings) -> Policy:
    """Build the policy of some options, under which nothing is deferred that would stand still."""
    # Without a drain handlers don't go on here anyway: what may be run again is, elsewhere.
    if not is_frozen_between_requests() or not settings.drain:
        return settings.policy()
    logger.warning(FROZEN)
    return settings.policy(defers=False)
