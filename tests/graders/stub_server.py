"""An honest OpenAI server without a model, in a process of its own: known TTFT and TPOT, and a log of what it did.

    python -m tests.graders.stub_server TTFT TPOT

Place: the truth bench, tests of the load client and the benchmarks start it; `liars` puts lies on top. It says its port
on standard output; the word `truth` on standard input makes it say, as JSON, for each request by X-Request-Id when the
kernel had it and when the kernel was given which number of tokens, on the machine's monotonic clock. Limits: one
request of a connection after the other, greedy answers that depend on the prompt alone.

The field `shape` of a request asks for an answer of another shape, see `Shape`.
"""

import asyncio
import json
import sys
import time
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.graders.engine_metrics import EngineMetrics
from tests.graders.stub_wire import Truth, Wire, start

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
WORDS = (" größe", " token", " 模型", " cache")
MODEL = "stub"
DONE = b"data: [DONE]\n\n"
LAST = b"0\r\n\r\n"


def word(token: int) -> str:
    """The tokenizer's text of a token."""
    return WORDS[token % len(WORDS)]


def framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(value: object) -> bytes:
    return framed(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n")


def plain(status: str, body: bytes, kind: str = "application/json") -> bytes:
    """An answer that comes whole."""
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Shape:
    """How an answer comes: seconds to the first token and per token; `each` tokens to a chunk; before every
    `stall_every`-th token a pause of `stall` seconds; an error inside the stream after `error_after` tokens."""

    ttft: float
    tpot: float
    each: int = 1
    stall_every: int = 0
    stall: float = 0.0
    error_after: int = -1

    def steps(self, count: int) -> list[tuple[float, int]]:
        """Seconds after the request came and tokens, of each chunk."""
        found = []
        for first in range(0, count, self.each):
            size = min(self.each, count - first)
            last = first + size - 1
            stalls = last // self.stall_every if self.stall_every else 0
            found.append((self.ttft + last * self.tpot + stalls * self.stall, size))
        return found


@dataclass
class Request:
    """What a client asks for. `prompt` is what the engine computes: token ids, or one number for each word."""

    name: str
    fields: dict[str, Any]
    chat: bool
    received: float
    prompt: Sequence[int]
    tokens: int

    @property
    def key(self) -> int:
        """A number that depends on the whole prompt."""
        return zlib.crc32(array("q", self.prompt).tobytes())


def read_request(name: str, path: str, body: bytes, received: float) -> Request:
    fields = json.loads(body)
    chat = path.endswith("/chat/completions")
    prompt = " ".join(str(each.get("content")) for each in fields["messages"]) if chat else fields["prompt"]
    ids = [zlib.crc32(each.encode()) for each in prompt.split()] if isinstance(prompt, str) else prompt
    asked = fields.get("max_tokens") or fields.get("max_completion_tokens") or 16
    return Request(name, fields, chat, received, ids, int(asked))


@dataclass
class Stub:
    """What all connections of one server share; a lying server overrides what it lies about."""

    ttft: float
    tpot: float
    wire: type[Wire] = Wire
    truth: dict[str, Truth] = field(default_factory=dict)
    running: int = 0
    finished: "list[Answer]" = field(default_factory=list)
    engine: EngineMetrics = field(default_factory=lambda: EngineMetrics(started=time.time()))

    def post(self, wire: Wire, path: str, name: str, body: bytes, received: float) -> None:
        """Answers a POST that came to the kernel at that time."""
        self.answer(wire, read_request(name or f"request-{len(self.truth)}", path, body, received))

    def answer(self, wire: Wire, request: Request) -> None:
        """Answers a request to generate."""
        Answer(self, wire, request).begin()

    def metrics(self) -> str:
        """What it did, under vLLM's names; counted only when asked, as that takes longer than to stream."""
        self.engine.running.set(self.running)
        finished, self.finished = self.finished, []
        for answer in finished:
            self.count(answer)
        return self.engine.text()

    def count(self, answer: "Answer") -> None:
        prompt, received = len(answer.request.prompt), answer.request.received
        (first, size), (last, _) = answer.writes[0], answer.writes[-1]
        self.engine.admit(prompt, cached=self.cached(answer))
        for step in [size - 1, *(each for _, each in answer.writes[1:])]:
            if step:
                self.engine.step(int(step))
        tpot = (last - first) / max(1, answer.sent - size)
        self.engine.finish(prompt=prompt, tokens=answer.sent, ttft=first - received, e2e=last - received, tpot=tpot)

    def get(self, wire: Wire, path: str) -> None:
        """Answers a GET."""
        if path == "/health":
            wire.whole(plain("200 OK", b""))
        elif path == "/metrics":
            wire.whole(plain("200 OK", self.metrics().encode(), "text/plain; version=0.0.4"))
        elif path == "/v1/models":
            models = [{"id": MODEL, "object": "model", "created": int(time.time()), "owned_by": "gpulab"}]
            wire.whole(plain("200 OK", json.dumps({"object": "list", "data": models}).encode()))
        else:
            wire.whole(plain("404 Not Found", b'{"detail":"Not Found"}'))

    def cached(self, answer: "Answer") -> int:
        """Prompt tokens that came from a prefix cache; it has none."""
        return 0

    def ids(self, request: Request, count: int) -> list[int]:
        """The greedy answer to a prompt."""
        key = request.key
        return [1000 + (key + place * (key % 89 + 1)) % 8000 for place in range(count)]

    def shape(self, request: Request) -> Shape:
        return Shape(**{"ttft": self.ttft, "tpot": self.tpot, **request.fields.get("shape", {})})


class Answer:
    """One answer: each chunk at its moment after the request came, also where the one before was late."""

    def __init__(self, stub: Stub, wire: Wire, request: Request) -> None:
        self.stub, self.wire, self.request = stub, wire, request
        self.shape = stub.shape(request)
        self.ids = stub.ids(request, request.tokens)
        self.steps = self.shape.steps(len(self.ids))
        self.place = self.sent = 0
        self.head = {"id": f"cmpl-{request.name}", "created": self.created(), "model": self.model()}
        self.loop = asyncio.get_running_loop()
        self.writes: list[list[float]] = []
        self.truth: Truth = {"received": request.received, "writes": self.writes, "ended": None}
        pattern = self.encode("\0", [0], None).decode().partition("\r\n")[2].removesuffix("\r\n")
        before, _, after = pattern.partition("\\u0000")
        self.before, (self.between, _, self.after) = before, after.partition("[0]")

    def model(self) -> str:
        return str(self.request.fields["model"])

    def created(self) -> int:
        return int(time.time())

    def begin(self) -> None:
        self.stub.truth[self.request.name] = self.truth
        self.stub.running += 1
        self.write(HEAD)
        if self.request.chat:
            role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
            self.write(event(self.head | {"object": "chat.completion.chunk", "choices": [role]}))
        self.later()

    def later(self) -> None:
        wait = self.request.received + self.steps[self.place][0] - time.monotonic()
        self.loop.call_later(max(0.0, wait), self.go)

    def go(self) -> None:
        """Writes the chunks that are due."""
        due = time.monotonic() - self.request.received
        while self.place < len(self.steps) and self.steps[self.place][0] <= due:
            if self.wire.closed:
                self.over()
                return
            self.chunk()
            if 0 <= self.shape.error_after <= self.sent:
                self.fail()
                return
        if self.place < len(self.steps):
            self.later()
        else:
            self.end()

    def chunk(self) -> None:
        size = self.steps[self.place][1]
        ids = self.ids[self.sent : self.sent + size]
        self.place += 1
        self.sent += size
        data = self.text(ids) if self.place < len(self.steps) else self.encode(self.words(ids), ids, self.finish())
        self.writes.append([time.monotonic(), size])
        self.write(data)

    def write(self, data: bytes) -> None:
        self.wire.write(data)

    def words(self, ids: Sequence[int]) -> str:
        return "".join(word(each) for each in ids)

    def finish(self) -> str:
        return "length"

    def text(self, ids: Sequence[int]) -> bytes:
        """A chunk in the middle, by a pattern, as encoding each anew would be most of the work."""
        numbers = ", ".join(map(str, ids))
        return framed(f"{self.before}{self.words(ids)}{self.between}[{numbers}]{self.after}".encode())

    def encode(self, text: str, ids: Sequence[int], finish: str | None) -> bytes:
        kind = "chat.completion.chunk" if self.request.chat else "text_completion"
        said = {"delta": {"content": text}} if self.request.chat else {"text": text}
        choice = {"index": 0, **said, "finish_reason": finish, "token_ids": list(ids)}
        return event(self.head | {"object": kind, "choices": [choice]})

    def usage(self) -> dict[str, int]:
        prompt = len(self.request.prompt)
        return {"prompt_tokens": prompt, "completion_tokens": self.sent, "total_tokens": prompt + self.sent}

    def end(self) -> None:
        kind = "chat.completion.chunk" if self.request.chat else "text_completion"
        last = event(self.head | {"object": kind, "choices": [], "usage": self.usage()})
        self.write(last + framed(DONE) + LAST)
        self.stub.finished.append(self)
        self.over()

    def fail(self, message: str = "CUDA out of memory") -> None:
        error = {"message": message, "type": "InternalServerError", "code": 500}
        self.write(event({"error": error}) + framed(DONE) + LAST)
        self.over()

    def over(self) -> None:
        """The answer has ended, or its client has gone."""
        self.truth["ended"] = time.monotonic()
        self.stub.running -= 1
        self.wire.free()


if __name__ == "__main__":
    honest = Stub(float(sys.argv[1]), float(sys.argv[2]))
    start({"honest": honest}, lambda ports: str(ports["honest"]))
