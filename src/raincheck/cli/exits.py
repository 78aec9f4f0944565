"""How a command ends: its status, and the one sentence that says why."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

from raincheck.cli.plain import plain
from raincheck.errors import ConfigurationError, StoreError

OK = 0
FAILED = 1
UNUSABLE = 2  # wrong arguments (argparse has it so), or something isn't installed
INTERRUPTED = 130
STATUSES = """\
exit status:
  0    done
  1    the store failed, or there is no such store, operation or response
  2    wrong arguments, or something is not installed
  130  interrupted
"""
_LONGEST = 2000  # characters of a sentence


class Refusal(Exception):
    """A command can't do what it was asked.

    Args:
        sentence: What was wrong, and what to do.
        status: What the process ends with.
    """

    def __init__(self, sentence: str, status: int = FAILED) -> None:
        super().__init__(sentence)
        self.status = status


def complain(sentence: str, status: int) -> int:
    """Say why a command ends, and return with which status."""
    print(sentence, file=sys.stderr)
    return status


def ended(work: Callable[[], int]) -> int:
    """Do what a command does, and return its status, whatever comes in between."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # it may know fewer letters than operations have
            stream.reconfigure(errors="backslashreplace")
    try:
        status = work()
        sys.stdout.flush()
        return status
    except Refusal as refusal:
        return _explain(refusal, refusal.status)
    except ConfigurationError as error:
        return _explain(error, UNUSABLE)
    except StoreError as error:
        return _explain(error, FAILED)
    except KeyboardInterrupt:
        return complain("interrupted", INTERRUPTED)
    except BrokenPipeError:  # nobody reads on: the interpreter is not to try again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _explain(error: Exception, status: int) -> int:
    """Say it line by line: a store's path or answer may be anything."""
    for line in str(error).splitlines() or [type(error).__name__]:
        complain(plain(line, _LONGEST), status)
    return status
