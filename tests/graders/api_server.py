"""An API server for tests: it answers what it was given, in pieces or at once, and holds watches open.

Place: the fixtures `api` and `core` of tests/graders/conftest.py. Limits: GET, without TLS.
"""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import kubernetes

END = b"\n"
"""The last piece of an answer that is not held open."""

Answer = tuple[int, bytes | list[bytes]]


class Api:
    """Answers GET by path; a list is sent in pieces, after which it is held open until `ended`, as a watch is.

    `in_turn` are answers given once each, before those of `answers`; `watches` those to one watch after another.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.in_turn: dict[str, list[Answer]] = {}
        self.watches: list[Answer] = []
        self.asked: list[dict[str, list[str]]] = []
        self.ended = threading.Event()
        self.port = 0

    @contextlib.contextmanager
    def client(self) -> Iterator[kubernetes.client.ApiClient]:
        """The official client for it."""
        settings = kubernetes.client.Configuration(host=f"http://127.0.0.1:{self.port}")
        settings.proxy = None
        with kubernetes.client.ApiClient(settings) as client:
            yield client

    def answer(self, path: str, query: dict[str, list[str]]) -> Answer:
        if "watch" in query:
            self.asked.append(query)
            return self.watches.pop(0) if self.watches else (200, [])
        if path.endswith("/log") and "container" in query:
            path += f"?container={query['container'][0]}" + ("&previous" if query["previous"] == ["true"] else "")
        if path in self.in_turn:
            answer = self.in_turn[path].pop(0)
            if not self.in_turn[path]:
                del self.in_turn[path]
            return answer
        return self.answers.get(path, (404, b'{"message": "not found"}'))


@contextlib.contextmanager
def serving() -> Iterator[Api]:
    """An API server that runs meanwhile."""
    found = Api()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):  # who watches may go at any moment
                self.answer()

        def answer(self) -> None:
            url = urlsplit(self.path)
            status, body = found.answer(unquote(url.path), parse_qs(url.query))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if isinstance(body, bytes):
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in body:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if not body or body[-1] != END:
                found.ended.wait(10)
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        found.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
