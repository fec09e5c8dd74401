"""A stub OpenAI server in a process of its own, with known TTFT and TPOT, which writes down what it really did.

    python tests/graders/stub_server.py TTFT TPOT

Place: tests of the load client and `benchmarks/load_generator.py` start it. It says its port on standard output; the
word `truth` on standard input makes it say, as JSON, for each request by X-Request-Id when it came and when tokens were
written, on the machine's monotonic clock. The field `stub` of a request makes it lie in one way.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from typing import Any, ClassVar

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
WORDS = (" größe", " token", " 模型", " cache")

Truth = dict[str, Any]


def framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(value: object) -> bytes:
    return framed(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n")


class Answer:
    """One answer: the i-th token at received + TTFT + i·TPOT, also where the one before was late."""

    def __init__(self, server: "Server", request: dict[str, Any], name: str) -> None:
        self.server, self.lie = server, request.get("stub", "honest")
        self.model = "other" if self.lie == "wrong_model" else request["model"]
        self.asked = int(request["max_tokens"])
        self.count = self.asked // 2 if self.lie == "truncated" else self.asked
        self.prompt = len(request["prompt"])
        late = server.ttft + self.asked * server.tpot
        self.moments = [server.ttft + index * server.tpot for index in range(self.count)]
        if self.lie == "burst":
            self.moments[1:] = [late] * (self.count - 1)
        self.sent = 0
        self.truth: Truth = {"received": time.monotonic(), "writes": []}
        server.truth[name] = self.truth
        server.transport.write(HEAD)
        if self.lie == "early_empty":
            server.transport.write(self.chunk("", [], None))
        self.later()

    def later(self) -> None:
        moment = self.truth["received"] + self.moments[self.sent]
        asyncio.get_running_loop().call_later(max(0.0, moment - time.monotonic()), self.go)

    def chunk(self, text: str, ids: list[int], finish: str | None) -> bytes:
        choice = {
            "index": 0,
            "text": text,
            "logprobs": None,
            "finish_reason": finish,
            "stop_reason": None,
            "token_ids": ids,
        }
        return event(
            {"id": "cmpl-0", "object": "text_completion", "created": 1, "model": self.model, "choices": [choice]}
        )

    def go(self) -> None:
        if self.server.transport.is_closing():
            return
        self.token()
        while self.sent < self.count and self.moments[self.sent] == self.moments[self.sent - 1]:
            self.token()
        if self.lie == "error_inside" and self.sent == 3:
            error = {"message": "CUDA out of memory", "type": "InternalServerError", "code": 500}
            self.server.transport.write(event({"error": error}) + framed(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            self.server.answered()
        elif self.lie == "cut" and self.sent == 3:
            self.server.transport.close()
        elif self.sent < self.count:
            self.later()
        else:
            self.end()

    def token(self) -> None:
        self.sent += 1
        last = self.sent == self.count
        finish = ("stop" if self.lie == "truncated" else "length") if last else None
        data = self.chunk(WORDS[self.sent % len(WORDS)], [1000 + self.sent], finish)
        self.truth["writes"].append([time.monotonic(), 1])
        self.server.transport.write(data)

    def end(self) -> None:
        tokens = 100 * self.count if self.lie == "inflated" else self.count
        usage = {"prompt_tokens": self.prompt, "completion_tokens": tokens, "total_tokens": self.prompt + tokens}
        last: dict[str, Any] = {
            "id": "cmpl-0",
            "object": "text_completion",
            "created": 1,
            "model": self.model,
            "choices": [],
        }
        data = event({**last, "usage": usage})
        if self.lie != "no_done":
            data += framed(b"data: [DONE]\n\n")
        self.server.transport.write(data + b"0\r\n\r\n")
        self.server.answered()


class Server(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    truth: ClassVar[dict[str, Truth]] = {}
    ttft = tpot = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""
        self.closes = self.used = False

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:]) if end else {}
        if end and len(body) >= int(fields["content-length"]):
            self.buffer = b""
            self.answer(json.loads(body), fields["x-request-id"])

    def answer(self, request: dict[str, Any], name: str) -> None:
        lie = request.get("stub")
        self.closes = lie == "closes"
        if lie == "refused":
            body = b'{"error":{"message":"the engine is dead","type":"ServiceUnavailable","code":503}}'
            head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
            self.transport.write(head.format(len(body)).encode() + body)
        elif lie == "hangs_up" and self.used:
            self.transport.close()
        elif lie != "silent":
            Answer(self, request, name)
        self.used = True

    def answered(self) -> None:
        if self.closes:
            self.transport.close()


def listen(server: asyncio.Server) -> None:
    line = os.read(sys.stdin.fileno(), 4096)
    if line.strip() == b"truth":
        sys.stdout.write(json.dumps(Server.truth) + "\n")
        sys.stdout.flush()
    elif not line:
        server.close()


async def main() -> None:
    Server.ttft, Server.tpot = float(sys.argv[1]), float(sys.argv[2])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    loop.add_reader(sys.stdin.fileno(), listen, server)
    with contextlib.suppress(asyncio.CancelledError):
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
