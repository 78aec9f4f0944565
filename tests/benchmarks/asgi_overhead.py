"""Prints what the ASGI middleware costs, bare against wrapped: `python -m` this, and `--help`.

It judges nothing: targets stand beside what was measured. Only instructions and differences
within a round are comparable on a busy machine. Servers run with the interpreter that runs this.
"""

from __future__ import annotations

import argparse

from tests.benchmarks.asgi_cost import instructions
from tests.benchmarks.asgi_footprint import import_time, large_response, memory_each
from tests.benchmarks.asgi_timing import lateness, microseconds, throughput
from tests.benchmarks.tables import Scale

PARTS = {
    "instructions": instructions,
    "microseconds": microseconds,
    "throughput": throughput,
    "lateness": lateness,
    "memory": memory_each,
    "large": large_response,
    "import": import_time,
}


def main() -> None:
    """Run the parts that were asked for."""
    arguments = _parse()
    scale = Scale(repeat=arguments.repeat or (1 if arguments.quick else 3), quick=arguments.quick)
    for name in arguments.only:
        PARTS[name](scale)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.asgi_overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        type=_names,
        default=list(PARTS),
        metavar="PART,...",
        help=f"of {', '.join(PARTS)}",
    )
    parser.add_argument("--repeat", type=int, help="runs of which instructions are the median")
    parser.add_argument("--quick", action="store_true", help="measure less, and less exactly")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: known are {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    main()
