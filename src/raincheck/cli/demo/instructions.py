"""What the demo tells people to try: curl lines for any shell."""

from __future__ import annotations

from collections.abc import Collection

from raincheck.cli.demo.library import packages

_TEXT = """\
raincheck demo: archives of the Python standard library, compressed as small as they get.
What takes longer than {budget:g} seconds is answered 202 Accepted, to be polled.

A small package is answered at once, as if raincheck were not there:

    curl -D - -o json.tar.xz {url}/archives/json

A large one takes a while. The answer is 202; its Location is where the archive will be:

    curl -i {url}/archives/{large}
    curl -i {url}/archives -H 'Content-Type: application/json' -d '{{"package": "{large}"}}'

No client follows a 202 by itself, so keep the Location (and ask for a 202 at once) ...

    R=$(curl -si -H 'Prefer: respond-async' {url}/archives/{large} |
        tr -d '\\r' | sed -n 's/^location: //p')

... see how far it is, as often as you like ...

    curl -i $R/status

... and fetch it until it is no 202 any more:

    while [ "$(curl -s -o archive.tar.xz -w '%{{http_code}}' $R)" = 202 ]; do sleep 1; done
    python -m tarfile -l archive.tar.xz

The whole standard library takes minutes: its handler is marked @long_running, so that the 202
comes at once. Cancel it, and look:

    R=$(curl -si {url}/library | tr -d '\\r' | sed -n 's/^location: //p')
    curl -i -X DELETE $R
    curl -i $R

A handler that fails after the 202 has left (give it {broken:g} seconds):

    R=$(curl -si {url}/broken | tr -d '\\r' | sed -n 's/^location: //p')
    curl -i $R

Meanwhile this page stays fast. Stop the server and start it again in the same directory: archives
that were finished are still there.

    curl {url}/

In a browser, {url}/ has the same to click.

Packages: {packages}
"""
# A distribution may leave out the first; no Python runs without the second.
_LARGE = ("idlelib", "encodings")

BUDGET = 2.0  # seconds
BROKEN_AFTER = 4.0  # seconds


def instructions(url: str) -> str:
    """Return what to try at a server's URL (without a slash at its end)."""
    names = packages()
    return _TEXT.format(
        url=url,
        budget=BUDGET,
        broken=BROKEN_AFTER,
        large=large_package(names),
        packages=" ".join(names),
    )


def large_package(names: Collection[str]) -> str:
    """Return a package that takes longer than the budget."""
    return next((name for name in _LARGE if name in names), _LARGE[-1])
