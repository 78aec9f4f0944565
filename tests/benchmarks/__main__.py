"""Runs all benchmarks, one after the other, and keeps their figures: `python -m tests.benchmarks`.

By default each measures as little as its `--quick` does: all are meant to take less than fifteen
minutes on two cores that do nothing else.
What is missing on this machine is said and left out. The exit status is 1 if a benchmark failed or,
with `--against`, if a ratio has become worse beyond noise; otherwise it is 0.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.figures import Change, Run, changes, reservations
from tests.benchmarks.tables import NOTES, Table, choose
from tests.support.processes import ROOT

BENCHMARKS = (
    *("asgi_overhead", "wsgi_overhead", "polls", "deferring", "offload", "stores", "client"),
    *("polling", "pollers", "listeners", "growth", "failing_stores"),
)
KEPT = ROOT / ".benchmarks"
LONGEST_SECONDS = {False: 900, True: 7200}  # that one may take, in full or not; then it has failed
GRACE_SECONDS = 30  # in which it has to stop its servers then
PACKAGES = (
    *("raincheck", "anyio", "starlette", "fastapi", "uvicorn", "uvloop", "httptools", "gunicorn"),
    *("flask", "django", "redis", "psycopg", "celery", "dramatiq"),
)
TOOLS = {"node": "--version", "wrk": "-v", "valgrind": "--version", "redis-server": "--version"}


def main() -> int:
    """Run what was asked for, and return the exit status."""
    arguments = _parse()
    before = Run.from_json(arguments.against.read_text()) if arguments.against else None
    run = Run(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(),
        is_full=arguments.full,
        versions=versions(),
        machine=machine(),
    )
    for name in arguments.only:
        measure(name, run)
    kept = arguments.keep or KEPT / f"{run.date.replace(':', '')}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(run.to_json())
    show_summary(run, kept)
    slower = before is not None and show_changes(before, run)
    return 1 if run.failed or slower else 0


def measure(name: str, run: Run) -> None:
    """Run one benchmark in a process of its own, and add what it has noted."""
    command = [sys.executable, "-m", f"tests.benchmarks.{name}"]
    with tempfile.TemporaryDirectory() as directory:
        notes = Path(directory) / "notes"
        notes.touch()
        run.load[name], begin = round(os.getloadavg()[0], 2), time.monotonic()
        print(f"\n=== {name}", flush=True)
        process = subprocess.Popen(
            [*command, *([] if run.is_full else ["--quick"])],
            cwd=ROOT,
            env={**os.environ, NOTES: str(notes)},
        )
        if status := _wait(process, LONGEST_SECONDS[run.is_full]):
            print(f"\n{name} has failed: {status}", flush=True)
            run.failed.append(name)
        run.seconds[name] = round(time.monotonic() - begin, 1)
        run.add(name, notes.read_text().splitlines())


def _wait(process: subprocess.Popen[bytes], seconds: float) -> str:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"it took more than {seconds:.0f} s"
    finally:
        _stop(process)
    return f"exit status {process.returncode}" if process.returncode else ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Have it stop its servers, if it has not ended."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        process.kill()
        process.wait()


# --- what is measured, and where ---------------------------------------------------------------


def commit() -> str:
    """Return the commit of this tree, with `+` if there are other changes; empty without git."""
    head = _output("git", "rev-parse", "--short=12", "HEAD")
    return f"{head}{'+' if _output('git', 'status', '--porcelain') else ''}"


def versions() -> dict[str, str]:
    """Return the versions of what takes part and is here."""
    found = {"python": f"{platform.python_implementation()} {platform.python_version()}"}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    for tool, option in TOOLS.items():
        if shutil.which(tool):
            found[tool] = (_output(tool, option).splitlines() or ["unknown"])[0]
    return found


def machine() -> dict[str, str | int]:
    """Return what this machine is."""
    cores = len(os.sched_getaffinity(0))
    return {"system": platform.platform(), "processor": _processor(), "cores": cores}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()


# --- what is said at the end -------------------------------------------------------------------


def show_summary(run: Run, kept: Path) -> None:
    """Say what was not measured, what it took, and where figures are."""
    print(f"\n=== {sum(run.seconds.values()):.0f} s, {len(run.figures)} figures in {kept}")
    for what in run.missing:
        print(f"missing for {what}")
    for name in run.failed:
        print(f"failed: {name}")


def show_changes(before: Run, run: Run) -> bool:
    """Print what differs from another run, and tell whether a ratio has become worse."""
    print(f"\nAgainst {before.commit} of {before.date}")
    for reservation in reservations(before, run):
        print(f"not the same: {reservation}")
    found = changes(before.figures, run.figures)
    ratios = [change for change in found if change.after.is_ratio]
    _show("Slower", [change for change in ratios if change.is_worse])
    _show("Faster", [change for change in ratios if not change.is_worse])
    absolute = [change for change in found if not change.after.is_ratio]
    _show("Not judged: they depend on the machine, and on what else it did", absolute)
    return any(change.is_worse for change in ratios)


def _show(title: str, found: Iterable[Change]) -> None:
    table = Table(title, "", "before", "now", "beyond")
    for change in found:
        print(change.name)
        table.row("", str(change.before), str(change.after), f"{change.noise:.0%}")


def _parse() -> argparse.Namespace:
    asked = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choose(asked, "--only", BENCHMARKS)
    asked.add_argument("--full", action="store_true", help="measure as much as each does alone")
    asked.add_argument("--keep", type=Path, metavar="FILE", help=f"figures ({KEPT.name}/DATE.json)")
    asked.add_argument(
        "--against", type=Path, metavar="FILE", help="a run before: say what has become slower"
    )
    return asked.parse_args()


if __name__ == "__main__":
    sys.exit(main())
