"""Print the labels that wait, in a program that is no handler: see app.py."""

from urllib.parse import parse_qs

from raincheck.runners.operations import Operations

operations = Operations("sqlite:operations.db", application="nightly-batch")
while (work := operations.claim("labels")) is not None:
    with work:
        [text] = parse_qs(work.body.read().decode())["text"]
        work.progress(1, total=2, message="in the printer")
        work.complete(201, {"Content-Type": "text/plain"}, f"*** {text.upper()} ***\n".encode())
operations.close()
