"""Reads one streamed answer of an OpenAI server after the fact: socket reads in, tokens with their times out. Pure.

Place: `samples` parses what the load client kept, `faults` says what is wrong with it, lab checks read `Stream`.
Limits: one choice per request, completions and chat, text only. The definitions, the same in every report:

- first token: the first chunk that carries a token id; or non-empty text, where the server offers no ids.
- TPOT: (last - first) / (n - tokens in the first chunk), in seconds per token.
- chunk gap: time between two chunks with tokens. Token gap: the same divided among the tokens of the later chunk.
- n: number of token ids, else what usage says; both must agree.
"""

import bisect
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec

from graders import sse
from graders.http1 import Framer


class Usage(msgspec.Struct, frozen=True):
    """Token counts as the server states them; `cached_tokens` None where it does not say."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """A chunk of the answer: time in seconds of the read that completed it, its token ids (None: not offered), text."""

    time: float
    ids: tuple[int, ...] | None
    text: str


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One answer.

    Attributes:
        status: HTTP status, None when no head came.
        headers: by name in small letters.
        chunks: those with a choice, in order; a chat's opening with only a role is not one, nor is a bare finish.
        finish_reason: as given, None when none came.
        usage: as given last, None when none came.
        model: the model that says it answered.
        created: when the answer began by the server's clock, in seconds since the epoch, as given first.
        done: whether `data: [DONE]` came.
        error: the message of an error that the server sent, as the answer or inside the stream.
        faults: where the answer breaks HTTP, SSE or the OpenAI protocol.
    """

    status: int | None
    headers: dict[str, str]
    chunks: tuple[Chunk, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    created: float | None = None
    done: bool = False
    error: str | None = None
    faults: tuple[str, ...] = ()

    @property
    def has_ids(self) -> bool:
        """Whether the server offers token ids."""
        return any(chunk.ids for chunk in self.chunks)

    @property
    def token_chunks(self) -> tuple[Chunk, ...]:
        """Chunks that carry a token: an id, or text where no ids are offered."""
        ids = self.has_ids
        return tuple(chunk for chunk in self.chunks if (chunk.ids if ids else chunk.text))

    @property
    def tokens(self) -> int | None:
        """Output tokens: counted by their ids, else as usage says, else unknown."""
        if self.has_ids:
            return sum(len(chunk.ids or ()) for chunk in self.chunks)
        return self.usage.completion_tokens if self.usage else None

    @property
    def first_token(self) -> float | None:
        """Time of the first token, in seconds on the clock of the reads."""
        carrying = self.token_chunks
        return carrying[0].time if carrying else None

    @property
    def last_token(self) -> float | None:
        """Time of the last token, which is when the answer ends for a reader."""
        carrying = self.token_chunks
        return carrying[-1].time if carrying else None

    @property
    def tpot(self) -> float | None:
        """Seconds per output token after the first chunk; None where there is none after it, or n is unknown."""
        carrying, n = self.token_chunks, self.tokens
        if not carrying or n is None:
            return None
        rest = n - len(carrying[0].ids or (0,))  # without ids the first chunk counts as one token
        return (carrying[-1].time - carrying[0].time) / rest if rest > 0 else None

    @property
    def chunk_gaps(self) -> tuple[float, ...]:
        """Seconds between chunks with tokens, as they came."""
        times = [chunk.time for chunk in self.token_chunks]
        return tuple(later - sooner for sooner, later in itertools.pairwise(times))


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asked for, as far as its answer can be held to it.

    `tokens`: output tokens under ignore_eos. `ids`: whether token ids were asked for. `prompt_tokens` and `model` are
    None where they are not to be compared.
    """

    tokens: int
    ids: bool = True
    chat: bool = False
    prompt_tokens: int | None = None
    model: str | None = None


def parse(reads: Sequence[tuple[float, bytes]], *, closed: bool = False) -> Stream:
    """Reads one HTTP/1.1 answer from its socket reads, each with the time in seconds at which it came.

    Args:
        reads: all bytes of the answer, split anywhere.
        closed: whether the server closed the connection after them.
    """
    framer = Framer()
    ends: list[int] = []
    body = bytearray()
    for _, data in reads:
        body += framer.feed(data)
        ends.append(len(body))
    if closed:
        framer.close()
    elif not framer.ended and framer.fault is None:
        framer.fault = "the answer is not complete"
    faults = [framer.fault] if framer.fault else []
    encoding = framer.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        faults.append(f"the answer is compressed with {encoding}, which was not asked for")
    elif framer.status is not None and framer.status != 200:
        error = _refusal(bytes(body))
        return Stream(status=framer.status, headers=framer.headers, error=error, faults=tuple(faults))
    elif framer.status == 200:
        kind = framer.headers.get("content-type", "none")
        if not kind.lower().startswith("text/event-stream"):
            faults.append(f"the content type is {kind}, not text/event-stream")
            error = _refusal(bytes(body)) if b'"error"' in body else None
            return Stream(status=200, headers=framer.headers, error=error, faults=tuple(faults))
        times = [time for time, _ in reads]
        return _Reader(framer.headers, faults).read(bytes(body), times, ends)
    return Stream(status=framer.status, headers=framer.headers, faults=tuple(faults))


class _Delta(msgspec.Struct, gc=False):
    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None
    token_ids: tuple[int, ...] | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Event(msgspec.Struct, gc=False):
    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    model: str | None = None
    created: float | None = None
    error: Any = None


_DECODER = msgspec.json.Decoder(_Event)


class _Reader:
    """Collects a `Stream` from the events of a body."""

    def __init__(self, headers: dict[str, str], faults: list[str]) -> None:
        self.headers, self.faults = headers, faults
        self.chunks: list[Chunk] = []
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.model: str | None = None
        self.created: float | None = None
        self.error: str | None = None
        self.done = False

    def read(self, body: bytes, times: Sequence[float], ends: Sequence[int]) -> Stream:
        """Reads the whole body; `ends` are the offsets in it at which the read of each time ended."""
        for number, (offset, kind, data) in enumerate(sse.events(body), 1):
            if offset < 0:
                self.faults.append(f"the stream breaks off inside event {number}")
            elif self.done:
                self.faults.append("events came after data: [DONE]")
                break
            elif data == b"[DONE]":
                self.done = True
            else:
                self._event(number, kind, data, times[bisect.bisect_right(ends, offset)])
        return Stream(
            status=200,
            headers=self.headers,
            chunks=tuple(self.chunks),
            finish_reason=self.finish_reason,
            usage=self.usage,
            model=self.model,
            created=self.created,
            done=self.done,
            error=self.error,
            faults=tuple(self.faults),
        )

    def _event(self, number: int, kind: str, data: bytes, time: float) -> None:
        if kind == "error":
            self.error = self.error or _message(data)
            return
        try:
            event = _DECODER.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.faults.append(f"event {number} is no chunk of an answer: {error}")
            return
        if event.error is not None:
            self.error = self.error or _words(event.error)
        self.model = self.model or event.model
        self.created = event.created if self.created is None else self.created
        if event.usage:
            details = event.usage.prompt_tokens_details
            self.usage = Usage(
                event.usage.prompt_tokens, event.usage.completion_tokens, details.cached_tokens if details else None
            )
        for choice in event.choices:
            self._choice(number, choice, time)

    def _choice(self, number: int, choice: _Choice, time: float) -> None:
        if choice.index:
            self.faults.append(f"event {number} is of choice {choice.index}, where one choice was asked for")
            return
        delta = choice.delta or _Delta()
        text = choice.text or "".join(
            part for part in (delta.reasoning or delta.reasoning_content, delta.content) if part
        )
        bare = not text and not choice.token_ids and (choice.finish_reason or delta.role)
        if not bare:
            if self.finish_reason:
                self.faults.append(f"event {number} goes on after the finish_reason")
            self.chunks.append(Chunk(time, choice.token_ids, text))
        self.finish_reason = self.finish_reason or choice.finish_reason


def _refusal(body: bytes) -> str | None:
    """The message in the body of an error answer: an OpenAI error object, or the body's beginning."""
    return _message(body) if body.strip() else None


def _message(raw: bytes) -> str:
    """The message of an error object; else the beginning of the text."""
    try:
        return _words(msgspec.json.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return raw.decode(errors="replace").strip()[:200]


def _words(value: object) -> str:
    """The words of an error as OpenAI servers or FastAPI give it: an object with a message, wrapped or not, or text."""
    while isinstance(value, dict):
        value = next((value[name] for name in ("error", "message", "detail") if value.get(name)), str(value))
    return str(value)[:200]
