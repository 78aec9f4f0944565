"""The demo's page: the same things to try as in the instructions, to click instead of to type."""

from __future__ import annotations

from html import escape

from raincheck.cli.demo.instructions import BUDGET, large_package
from raincheck.cli.demo.library import packages

_HTML = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>raincheck demo</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ max-width: 40rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.6 system-ui; }}
button, select {{ font: inherit; padding: .4rem .8rem; }}
</style>
<h1>raincheck demo</h1>
<p>Archives of the Python standard library, compressed as small as they get. What takes longer
than {budget:g} seconds becomes a page that waits: reload it, go back, close it and come again,
or stop the server and start it again. The work is done once.</p>
<form method="post" action="/archives">
<label>Archive of <select name="package">{options}</select></label>
<button>Build it</button>
</form>
<ul>
<li><a href="/archives/json">A small one</a> is there at once, as if raincheck were not.</li>
<li><a href="/archives/{large}">A large one</a> takes a while.</li>
<li><a href="/library">The whole library</a> takes minutes: cancel it.</li>
<li><a href="/broken">One that fails</a> says so.</li>
</ul>
<p>The same for a shell: <code>curl {url}/</code></p>
"""


def page(url: str) -> str:
    """Return the page of a server at a URL (without a slash at its end)."""
    names = packages()
    chosen = large_package(names)
    options = "".join(
        f"<option{' selected' if name == chosen else ''}>{escape(name)}</option>" for name in names
    )
    return _HTML.format(budget=BUDGET, options=options, large=chosen, url=escape(url))
