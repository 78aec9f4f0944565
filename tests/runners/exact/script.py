"""The requests that each application is asked here and by workers."""

from __future__ import annotations

from tests.runners.exact.wire import Asked

_PARTS = (
    '--of these\r\nContent-Disposition: form-data; name="Titel"\r\n\r\nGrüße; a="b"\r\n'
    '--of these\r\nContent-Disposition: form-data; name="Datei"; filename="Übersicht €.csv"\r\n'
    "Content-Type: text/csv; charset=utf-8\r\n\r\na;b\r\n1;ü\r\n\r\n"
    '--of these\r\nContent-Disposition: form-data; name="Datei"; filename="b.bin"\r\n'
    "Content-Type: application/octet-stream\r\nX-Own: yes\r\n\r\n"
).encode()
MULTIPART = _PARTS + bytes(range(256)) * 400 + b"\r\n--of these--\r\n"
OF_FORM = ("Content-Type", 'multipart/form-data; boundary="of these"')
URLENCODED = ("Content-Type", "application/x-www-form-urlencoded")
GZIP = ("Accept-Encoding", "gzip")
PIECES = (b"first", b"x" * 100_000, b"last")

PATHS = {
    "percent-encoded slash": "/{way}/echo/a%2Fb/c",
    "percent-encoded percent": "/{way}/echo/a%252Fb%25",
    "UTF-8": "/{way}/echo/caf%C3%A9/%E2%82%AC",
    "bytes that are no UTF-8": "/{way}/echo/%FF%FEx",
    "parameters of a segment": "/{way}/echo/a;b=1;c/d,e:@&=+$!*'()~",
    "space, plus and dots": "/{way}/echo/a%20b+c/./d",
    "double slashes and one at the end": "/{way}/echo/a//b/",
    "small hexadecimal digits": "/{way}/echo/%c3%a9%2fx",
    "odd queries": "/{way}/echo/x?a=1&a=2;b=%2F&c=%C3%A9&d=%FF&e&=f&g=a+b%20c&%41=x?y/z#",
    "an empty query": "/{way}/echo/x?",
}
SCRIPT: dict[str, Asked] = {
    **{name: Asked(target.rstrip("#")) for name, target in PATHS.items()},
    "header fields": Asked(
        "/{way}/echo/h",
        headers=(
            ("X-Twice", "1"),
            ("X-Twice", "2, 3"),
            ("X-Latin", "ü"),
            ("X-Empty", ""),
            ("Accept", "application/json;q=0.5"),
            ("Cookie", 'a=1; b="2 3"; c=x=y; d=%2F'),
            ("X-Forwarded-For", "10.1.2.3, 10.0.0.1"),
            ("X-Forwarded-Proto", "https"),
            ("Authorization", "Bearer a.b-c"),
            ("If-None-Match", '"other"'),
        ),
    ),
    "JSON": Asked("/{way}/echo/j", "POST", (("Content-Type", "application/json"),), b'{"a": 1}'),
    "an empty body": Asked("/{way}/echo/e", "POST", (URLENCODED,), b""),
    "no body": Asked("/{way}/echo/n", "DELETE"),
    "a binary body": Asked("/{way}/echo/b", "PUT", (), bytes(range(256)) * 2000),
    "a chunked body": Asked("/{way}/echo/c", "POST", (), PIECES),
    "a chunked body that is read in pieces": Asked("/{way}/upload", "POST", (), PIECES),
    "files with names": Asked("/{way}/form", "POST", (OF_FORM,), MULTIPART),
    "files, chunked": Asked("/{way}/form", "POST", (OF_FORM,), (MULTIPART[:300], MULTIPART[300:])),
    "a form": Asked("/{way}/form", "POST", (URLENCODED,), b"Titel=Gr%C3%BC%C3%9Fe+%26&b=%2F&c="),
    "compressed": Asked("/{way}/text", headers=(GZIP,)),
    "not compressed": Asked("/{way}/text"),
    "pieces": Asked("/{way}/stream"),
    "pieces, compressed": Asked("/{way}/stream", headers=(GZIP,)),
    "204": Asked("/{way}/status?status=204"),
    "205": Asked("/{way}/status?status=205"),
    "200 without a body": Asked("/{way}/status?status=200"),
    "404 of the handler's": Asked("/{way}/status?status=404"),
    "an error of the framework's": Asked("/{way}/refuse"),
    "no such path": Asked("/{way}/nothing/of/it"),
    "a method that is not allowed": Asked("/{way}/text", "PATCH"),
}
