"""Runs the torture from the command line and prints what it consisted of."""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.torture.run import SERVERS, STORES, Report, plan_for, torture


def main(arguments: list[str] | None = None) -> int:
    """Return 1 if any promise was broken."""
    asked = _parser().parse_args(arguments)
    seconds = asked.seconds or asked.minutes * 60
    reports = []
    for store, server in itertools.product(_all(asked.store, STORES), _all(asked.server, SERVERS)):
        directory = Path(tempfile.mkdtemp(prefix=f"raincheck-torture-{store}-{server}-"))
        plan = plan_for(store, server, asked.seed, seconds, directory, lease=asked.lease)
        report = torture(plan)
        reports.append(report)
        if report.violations:
            print(report.text(), file=sys.stderr)  # noqa: T201
        elif not asked.keep:
            shutil.rmtree(directory)
    print(table(reports))  # noqa: T201
    return 1 if any(report.violations for report in reports) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="per store and server")
    parser.add_argument("--seconds", type=float, help="instead of minutes")
    seed = random.SystemRandom().randrange(1_000_000)
    parser.add_argument("--seed", type=int, default=seed, help="of the chaos and of the clients")
    parser.add_argument("--store", choices=[*STORES, "all"], default="all")
    parser.add_argument("--server", choices=[*SERVERS, "all"], default="all")
    parser.add_argument("--lease", type=float, default=5.0, help="seconds; raincheck's is 30")
    parser.add_argument("--keep", action="store_true", help="keep the logs in any case")
    return parser


def _all(asked: str, known: tuple[str, ...]) -> tuple[str, ...]:
    return known if asked == "all" else (asked,)


def table(reports: list[Report]) -> str:
    """Return the figures of all runs: a line for each, a column for each run."""
    names = [f"{report.plan.store}, {report.plan.server}" for report in reports]
    rows = [["", *names], ["seed", *(str(report.plan.seed) for report in reports)]]
    for name in reports[0].figures:
        rows.append([name, *(f"{report.figures[name]:,}" for report in reports)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
