"""The data service of the lab: hands out samples to the pods that train, and keeps the ledger of who read what.

Place: runs in a pod of its own (charts/ddp-data) as `python data_service.py`, with CONTROL_TOKEN in its environment and
PORT if that is not 8080; `ddp_api` says what it answers. Limits: standard library and numpy; a thread for each
connection, CONNECTIONS of one address at most; bodies need a content length.
"""

import os
import secrets
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from ddp_api import Api, Reply, Request
from ddp_runs import Runs
from ddp_spec import Refused

Incoming = socket.socket | tuple[bytes, socket.socket]
PORT = 8080
CONNECTIONS = 64
IDLE_SECONDS = 900.0
"""A connection on which nothing comes for so long is closed: its pod's node may be gone."""


class Handler(BaseHTTPRequestHandler):
    """One connection, which stays open from request to request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE_SECONDS
    server: "DataServer"

    def serve(self) -> None:
        """Answers one request."""
        request = Request(
            method=self.command,
            target=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            ip=self.client_address[0],
        )
        try:
            body = self.body(request)
        except Refused as refused:
            self.close_connection = True  # what was not read would be taken for the next request
            self.send(self.server.api.refuse(request, refused))
            return
        whole = Request(request.method, request.target, request.headers, request.ip, body)
        self.send(self.server.api.answer(whole))

    do_GET = do_POST = do_PUT = serve  # noqa: N815 - the library's names

    def body(self, request: Request) -> bytes:
        """What came after the headers."""
        length, most = request.headers.get("content-length"), self.server.api.body_limit(request)
        if "transfer-encoding" in request.headers:
            raise Refused(411, "the body comes in chunks; send its content-length instead")
        if length is None:
            return b""
        if not length.isascii() or not length.isdigit() or int(length[:20]) > most:
            raise Refused(413, f"the body has {length[:20]} bytes, where {most} are read at most")
        return self.rfile.read(int(length))

    def send(self, answer: Reply) -> None:
        """Head and body in one go; samples are copied to where they are sent from and nowhere else."""
        head = (
            f"HTTP/1.1 {int(answer.status)} {HTTPStatus(answer.status).phrase}\r\n"
            f"content-type: {answer.kind}\r\ncontent-length: {len(answer.body)}\r\n"
            f"{'connection: close' if self.close_connection else 'connection: keep-alive'}\r\n\r\n"
        ).encode()
        if isinstance(answer.body, bytes):
            self.connection.sendall(head + answer.body)
            return
        whole = bytearray(len(head) + len(answer.body))
        whole[: len(head)] = head
        answer.body.write(memoryview(whole)[len(head) :])
        self.connection.sendall(whole)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses: lines that are no HTTP, methods that nobody has."""
        self.close_connection = True
        request = Request(self.command or "-", getattr(self, "path", "-"), {}, self.client_address[0])
        self.send(self.server.api.refuse(request, Refused(code, message or explain or HTTPStatus(code).phrase)))

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the ledger does."""


class DataServer(ThreadingHTTPServer):
    """Listens, and bounds what one address may hold open."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], api: Api) -> None:
        super().__init__(address, Handler)
        self.api = api
        self._open: Counter[str] = Counter()
        self._counting = threading.Lock()

    def server_bind(self) -> None:
        """Binds without looking its own name up, for which a pod may wait long."""
        TCPServer.server_bind(self)
        self.server_port = int(self.server_address[1])

    def process_request(self, request: Incoming, client_address: tuple[str, int]) -> None:
        """A thread for the connection, unless its address has too many."""
        with self._counting:
            full = self._open[client_address[0]] >= CONNECTIONS
            if not full:
                self._open[client_address[0]] += 1
        if full:
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Incoming, client_address: tuple[str, int]) -> None:
        """One connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._counting:
                self._open[client_address[0]] -= 1

    def handle_error(self, request: Incoming, client_address: tuple[str, int]) -> None:
        """Pods go in the middle of a request; that is no news. Anything else is."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def make_server(address: tuple[str, int], token: str) -> DataServer:
    """The service at an address, listening; `serve_forever` serves."""
    runs = Runs(draw_ticket=lambda: secrets.token_hex(8))
    return DataServer(address, Api(runs, token=token, clock=time.monotonic, turned=threading.Condition()))


def main(environ: Mapping[str, str]) -> None:
    """Serves until it is killed."""
    token = environ.get("CONTROL_TOKEN", "")
    if not token:
        sys.exit("data_service: CONTROL_TOKEN is not set; give it the secret that the grader says in X-Token")
    server = make_server(("", int(environ.get("PORT", PORT))), token)
    print(f"data_service: listening on port {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(os.environ)
