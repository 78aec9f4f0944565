"""What the JavaScript module does with servers that are odd, or no raincheck."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest

import raincheck

MODULE = Path(raincheck.__file__).parent / "monitor" / "client.js"
SERVER = """
import http from "node:http";
const asked = [], left = {};
const often = (name, most) => (left[name] = (left[name] ?? most) - 1) >= 0;
const server = http.createServer((request, response) => {
    const { method, url, socket, headers } = request;
    asked.push([method, url, headers.authorization ?? null]);
    const say = (status, fields = {}, body = "") => response.writeHead(status, fields).end(body);
    const json = (it) => JSON.stringify(it);
    ({
        "/plain": () => say(202, { location: "/r" }, "null"),
        "/r": () => say(404, {}, "null"),
        "/nowhere": () => say(202, {}, "no JSON"),
        "/lost": () => say(202, { location: "/lost/r" }),
        "/lost/r": () => often("lost", 2) ? socket.destroy() : say(200, {}, "found"),
        "/busy": () => say(202, { location: "/busy/r" }),
        "/busy/r": () => often("busy", 2) ? say(503, { "retry-after": "1" }) : say(200, {}, "free"),
        "/own": () => say(202, { location: "/own/r" }),
        "/own/r": () => say(503, { "operation-status": "failed" }, "its own"),
        "/odd": () => say(202, { location: "/odd/r" }),
        "/odd/r": () => often("odd", 1) ? say(202, { "retry-after": "-9" }) : say(200, {}, "even"),
        "/other": () => say(202, { location: `http://127.0.0.1:${server.address().port}/other/r` }),
        "/other/r": () => say(200, {}, "of another origin"),
        "/see-other": () => say(202, { location: "/m", "operation-location": "/m" },
            json({ status: "running", links: { response: "/see-other/r" } })),
        "/see-other/r": () => often("other", 1)
            ? say(404, { "retry-after": "1" }, json({ code: "result-not-ready" }))
            : say(200, {}, "seen"),
    })[url]();
});
await new Promise((go) => server.listen(0, go));
const base = `http://localhost:${server.address().port}`;
const init = { method: "POST", body: "{}", headers: { authorization: "secret" } };
let told;
try {
    const last = await waitFor(await fetch(base + PATH, init), init);
    told = [last.status, await last.text()];
} catch (error) {
    told = [error.name, error.message];
}
console.log(JSON.stringify([told, asked]));
process.exit();
"""


@pytest.mark.server
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/plain", [404, "null"]),
        ("/nowhere", ["TypeError", "202 without a place to poll"]),
        ("/lost", [200, "found"]),
        ("/busy", [200, "free"]),
        ("/own", [503, "its own"]),
        ("/odd", [200, "even"]),
        ("/other", [200, "of another origin"]),
        ("/see-other", [200, "seen"]),
    ],
)
def test_the_module_copes_with_what_servers_say(path: str, expected: list[object]) -> None:
    script = f'const {{ waitFor }} = await import("data:text/javascript;base64,MODULE");\n{SERVER}'
    script = script.replace("MODULE", base64.b64encode(MODULE.read_bytes()).decode())
    script = script.replace("PATH", json.dumps(path))
    command = ["node", "--input-type=module", "--eval", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told, asked = json.loads(done.stdout)
    assert told == expected
    [first, *polls] = asked
    assert first == ["POST", path, "secret"]
    secret = None if path == "/other" else "secret"
    assert all(method == "GET" and sent == secret for method, _, sent in polls)
