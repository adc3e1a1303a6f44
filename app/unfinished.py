"""Unfinished: on a platform that nobody has told the server's own address yet, one page that says what to set."""

import re
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")
_TEXT = """peerbook is running, but not set up yet.

{sentence}

Here that is:

  BASE_URL=https://{host}

On Heroku: heroku config:set BASE_URL=https://{host}
"""


def explain(port: int, sentence: str) -> int:
    """Answer every request with what is missing, until told to stop; returns the exit code."""

    class Page(BaseHTTPRequestHandler):
        timeout = 15

        def do_GET(self) -> None:
            """The page, or that the process runs."""
            alive = self.path == "/livez"
            named = self.headers.get("Host", "").partition(":")[0]
            host = named if _HOST.fullmatch(named) else "book.example.org"
            text = "ok\n" if alive else _TEXT.format(sentence=sentence, host=host)
            self.send_response(200 if alive else 503)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text.encode())

        do_HEAD = do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the line would have the client's address."""

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with ThreadingHTTPServer(("0.0.0.0", port), Page) as server:
        server.daemon_threads = True
        print(sentence, file=sys.stderr, flush=True)
        server.serve_forever()
    return 0
