"""Prints what the ASGI middleware costs, bare against wrapped: `python -m` this, and `--help`.

It judges nothing: targets stand beside what was measured. Only instructions and differences
within a round are comparable on a busy machine. Servers run with the interpreter that runs this.
"""

from __future__ import annotations

from tests.benchmarks.asgi_cost import instructions
from tests.benchmarks.asgi_footprint import import_time, large_response, memory_each
from tests.benchmarks.asgi_timing import lateness, microseconds, throughput
from tests.benchmarks.tables import Scale, choose, parser

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
    asked = parser("asgi_overhead", __doc__)
    choose(asked, "--only", PARTS)
    asked.add_argument("--repeat", type=int, help="runs of which instructions are the median")
    arguments = asked.parse_args()
    scale = Scale(repeat=arguments.repeat or (1 if arguments.quick else 3), quick=arguments.quick)
    for name in arguments.only:
        PARTS[name](scale)


if __name__ == "__main__":
    main()
