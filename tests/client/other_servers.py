"""The client against servers that are not raincheck, each of which takes a language of its own.

They are too heavy for every run: this is a script.

    python -m tests.client.other_servers write DIRECTORY    puts their sources there
    python -m tests.client.other_servers ask                asks those that listen

To start them, in DIRECTORY:

* RESTEasy's jobs, on port 18301: Debian's libresteasy3.0-java and libjetty9-java, and a JDK.
  `CP=$(ls /usr/share/java/{resteasy-jaxrs,jaxrs-api,jboss-logging,servlet-api,jetty9-*}.jar
  /usr/share/java/{javax.activation,geronimo-annotation-1.3-spec,commons-io,httpclient,httpcore}.jar
  | tr '\\n' :)`, `javac -cp $CP Jobs.java && java -cp .:$CP Jobs 18301`
* express-delayed-response, on port 18302: `npm install express express-delayed-response` and
  `node app.js`
* pygeoapi, on port 18303, in an environment of its own: `pip install pygeoapi gunicorn`,
  `export PYGEOAPI_CONFIG=pygeoapi.yml PYGEOAPI_OPENAPI=openapi.yml PYTHONPATH=.`,
  `pygeoapi openapi generate pygeoapi.yml --output-file openapi.yml` and
  `gunicorn --threads 4 -b 127.0.0.1:18303 pygeoapi.flask_app:APP`
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import requests

from raincheck.client import Adapter, DeadlineExceeded, Options, Transport
from raincheck.client.tokens import to_place

JOBS = """\
import java.util.*;
import javax.ws.rs.*;
import javax.ws.rs.core.*;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.servlet.*;
import org.jboss.resteasy.plugins.server.servlet.HttpServlet30Dispatcher;

public class Jobs {
  public static class App extends Application {
    public Set<Class<?>> getClasses() { return new HashSet<>(Arrays.asList(Report.class)); }
  }
  @Path("/report") public static class Report {
    @GET public String get() throws Exception { Thread.sleep(2000); return "the report"; }
    @POST public Response post(String body) throws Exception {
      Thread.sleep(2000);
      return Response.status(201).entity("made of " + body).build();
    }
    @DELETE public Response fail() throws Exception {
      Thread.sleep(1000);
      return Response.status(409).entity("no").build();
    }
  }
  public static void main(String[] arguments) throws Exception {
    Server server = new Server(Integer.parseInt(arguments[0]));
    ServletContextHandler context = new ServletContextHandler();
    context.setContextPath("/");
    ServletHolder holder = new ServletHolder(new HttpServlet30Dispatcher());
    holder.setInitParameter("javax.ws.rs.Application", App.class.getName());
    holder.setAsyncSupported(true);
    context.setInitParameter("resteasy.async.job.service.enabled", "true");
    context.addServlet(holder, "/*");
    server.setHandler(context);
    server.start();
    server.join();
  }
}
"""
EXPRESS = """\
const express = require("express");
const { delay, status } = require("express-delayed-response").init();
const app = express();
const slow = delay({ timeout: 300 });
app.get("/report", slow, (request, response) => {
  response.progress({ completed: 1, of: 3 });
  setTimeout(() => response.status(201).json({ report: "done" }), 2500);
});
app.get("/fast", slow, (request, response) => response.json({ fast: true }));
app.get("/fails", slow, (request, response) => {
  setTimeout(() => response.status(422).json({ no: 1 }), 1000);
});
app.get("/status/:id", status());
app.listen(18302, "127.0.0.1");
"""
PROCESS = """\
import time

from pygeoapi.process.base import BaseProcessor, ProcessorExecuteError

WORD = {"title": "name", "schema": {"type": "string"}, "minOccurs": 1, "maxOccurs": 1}
JSON = {"type": "object", "contentMediaType": "application/json"}
METADATA = {
    "version": "0.1", "id": "slow", "title": "slow", "description": "slow", "keywords": [],
    "jobControlOptions": ["sync-execute", "async-execute"], "links": [],
    "inputs": {"name": WORD}, "outputs": {"echo": {"title": "echo", "schema": JSON}},
    "example": {"inputs": {"name": "ada"}},
}


class Slow(BaseProcessor):
    def __init__(self, definition):
        super().__init__(definition, METADATA)
        self.supports_outputs = True

    def execute(self, data, outputs=None):
        time.sleep(2)
        if data.get("name") == "fail":
            raise ProcessorExecuteError("it fails")
        return "application/json", {"id": "echo", "value": "slow " + data["name"]}
"""
ADDRESS = ("address", "city", "country", "email", "fax", "hours", "instructions", "name", "phone")
PERSON = (*ADDRESS, "position", "postalcode", "role", "stateorprovince")
CONFIGURATION = {
    "server": {
        "bind": {"host": "127.0.0.1", "port": 18303},
        "url": "http://127.0.0.1:18303",
        "mimetype": "application/json; charset=UTF-8",
        "encoding": "utf-8",
        "languages": ["en-US"],
        "limits": {"default_items": 20, "max_items": 50},
        "map": {"url": "https://tile.example/{z}/{x}/{y}.png", "attribution": "none"},
        "manager": {"name": "TinyDB", "connection": "jobs.db", "output_dir": "."},
    },
    "logging": {"level": "ERROR"},
    "metadata": {
        "identification": {
            **{"title": "t", "description": "d", "keywords": ["k"], "keywords_type": "theme"},
            **{"terms_of_service": "none", "url": "http://example.org"},
        },
        "license": {"name": "none", "url": "http://example.org"},
        "provider": {"name": "none", "url": "http://example.org"},
        "contact": dict.fromkeys(PERSON, "none") | {"url": "http://example.org"},
    },
    "resources": {"slow": {"type": "process", "processor": {"name": "slow.Slow"}}},
}
RESTEASY = "http://127.0.0.1:18301/report?asynch=true"
PYGEOAPI = "http://127.0.0.1:18303/processes/slow/execution"
DELAYED = "http://127.0.0.1:18302"
ASYNC = {"Prefer": "respond-async"}
Ask = Callable[..., Any]


def write(directory: Path) -> None:
    """Put the servers' sources into a directory."""
    (directory / "Jobs.java").write_text(JOBS)
    (directory / "app.js").write_text(EXPRESS)
    (directory / "slow.py").write_text(PROCESS)
    (directory / "pygeoapi.yml").write_text(json.dumps(CONFIGURATION))  # which is YAML, too


def libraries(options: Options) -> Iterator[tuple[str, Ask]]:
    """Give what asks, for each library."""
    with httpx.Client(transport=Transport(options=options)) as client:
        yield "httpx", client.request
    with requests.Session() as session:
        session.mount("http://", Adapter(options=options))
        yield "requests", session.request


def show(name: str, found: object, wanted: object) -> None:
    """Print a line of the table."""
    verdict = "as wanted" if found == wanted else f"WRONG: {wanted!r} was wanted"
    sys.stdout.write(f"{name:32} {found!r}: {verdict}\n")


def listens(port: int) -> bool:
    """Tell whether there is a server."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def resteasy() -> None:
    """Ask RESTEasy's job service."""
    for name, ask in libraries(Options(deadline=30)):
        for method, wanted in (("GET", 200), ("POST", 201), ("DELETE", 409)):
            show(f"RESTEasy {method}, {name}", ask(method, RESTEASY).status_code, wanted)
    cancelled("RESTEasy", lambda ask: ask("GET", RESTEASY), 410)


def express() -> None:
    """Ask express-delayed-response, whose 202 says nowhere to poll."""
    for name, ask in libraries(Options(deadline=30, place="/status/{id}")):
        for path, wanted in (("report", 201), ("fast", 200), ("fails", 422)):
            show(f"Express /{path}, {name}", ask("GET", f"{DELAYED}/{path}").status_code, wanted)
    for name, ask in libraries(Options()):
        show(f"Express, no place, {name}", ask("GET", f"{DELAYED}/report").status_code, 202)


def pygeoapi() -> None:
    """Ask pygeoapi, an OGC API."""

    def execute(ask: Ask, name: str = "ada") -> Any:
        return ask("POST", PYGEOAPI, json={"inputs": {"name": name}}, headers=ASYNC)

    for library, ask in libraries(Options(deadline=30)):
        show(f"pygeoapi, {library}", execute(ask).json().get("value"), "slow ada")
        show(f"pygeoapi, failed, {library}", execute(ask, "fail").status_code, 400)
    cancelled("pygeoapi", execute, 404)


def cancelled(name: str, ask_for: Callable[[Ask], Any], wanted: int) -> None:
    """Ask, give up, and look at what became of the job."""
    for library, ask in libraries(Options(deadline=1)):
        try:
            ask_for(ask)
        except DeadlineExceeded as late:
            url = to_place(late.token or "").url
            show(f"{name}, given up, {library}", requests.get(url, timeout=5).status_code, wanted)


def main(arguments: list[str]) -> None:
    """Do what the docstring says."""
    match arguments:
        case ["write", directory]:
            write(Path(directory))
        case ["ask"]:
            for port, ask in ((18301, resteasy), (18302, express), (18303, pygeoapi)):
                if listens(port):
                    ask()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
