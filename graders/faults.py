"""What is wrong with one streamed answer: faults with a name each. Pure.

Place: `samples` judges every answer with it, `honesty` counts the names over runs, lab checks quote the sentences.
Limits: one answer at a time; what only shows in many answers, or in the server's own counters, is found elsewhere.
"""

import itertools
from collections.abc import Iterator
from typing import Literal

import msgspec

from graders.streaming import Asked, Stream

BURST_TOKENS = 16
"""Answers with fewer tokens are not judged for bursts."""
BURST_TAIL = 0.01
"""A burst: half of the tokens or more in this last part of the time between first and last token, after a silence."""
BURST_SECONDS = 0.1
"""A silence shorter than this before it can be a pause of the machine."""
CLIENT_PAUSE = 0.005
"""Where the client itself paused this long (seconds), tokens that came together prove nothing."""

FaultName = Literal[
    "no_answer",
    "status",
    "protocol",
    "error_inside",
    "no_finish_reason",
    "finish_reason",
    "no_usage",
    "no_done",
    "model",
    "no_token_ids",
    "length",
    "usage",
    "prompt_tokens",
    "early_chunk",
    "held_back",
    "broken_off",
]


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong with an answer: its name, and a sentence with what was asked and what came.

    The names: `no_answer`, `status` (not HTTP 200), `protocol` (breaks HTTP, SSE or the OpenAI protocol),
    `error_inside` (an error in an answer with status 200), `no_finish_reason`, `finish_reason` (ended for another
    reason than its length), `no_usage`, `no_done`, `model` (another one answered), `no_token_ids`, `length` (another
    number of tokens than asked for), `usage` (states another number of tokens than came), `prompt_tokens` (states
    another number than was sent), `early_chunk` (a chunk without a token before the first token), `held_back` (tokens
    that came together at the end), `broken_off` (the connection or the client's patience ended before the answer did).
    """

    name: FaultName
    sentence: str


def judge(stream: Stream, asked: Asked, *, client_pause: float = 0.0) -> list[Fault]:
    """What is wrong with one answer; empty for a success.

    Success is HTTP 200, no error, the requested number of tokens with the finish_reason for it, usage that agrees with
    the token ids, `[DONE]`, and tokens that came one after the other.

    Args:
        stream: the answer.
        asked: what was asked for.
        client_pause: the longest pause in seconds of the client itself while it came; it excuses a burst.
    """
    protocol = [Fault("protocol", said) for said in stream.faults]
    if stream.status is None:
        return protocol or [Fault("no_answer", "no answer came")]
    if stream.status != 200:
        why = f": {stream.error}" if stream.error else ""
        return [Fault("status", f"the answer is HTTP {stream.status}, not 200{why}"), *protocol]
    error = [Fault("error_inside", f"the stream carries an error: {stream.error}")] if stream.error else []
    if error and not stream.chunks:
        return [*protocol, *error]
    parts = (_ending(stream, asked), _counts(stream, asked), _beginning(stream), held_back(stream, client_pause))
    return [*protocol, *error, *itertools.chain(*parts)]


def _ending(stream: Stream, asked: Asked) -> Iterator[Fault]:
    reason = stream.finish_reason
    if reason is None:
        yield Fault("no_finish_reason", "no finish_reason came, so the answer was cut off")
    elif reason != "length":
        yield Fault("finish_reason", f"it finished for {reason!r}; with ignore_eos only 'length' ends an answer")
    if stream.usage is None:
        yield Fault("no_usage", "no usage came, though stream_options.include_usage asked for it")
    if not stream.done:
        yield Fault("no_done", "the stream ended without data: [DONE]")
    if asked.model is not None and stream.model != asked.model:
        yield Fault("model", f"the model {stream.model!r} answered, {asked.model!r} was asked")


def _counts(stream: Stream, asked: Asked) -> Iterator[Fault]:
    if asked.ids and not stream.has_ids:
        yield Fault("no_token_ids", "no chunk carries token ids, though return_token_ids asked for them")
    n, usage = stream.tokens, stream.usage
    if n is not None and n != asked.tokens:
        yield Fault("length", f"{asked.tokens} tokens were asked for, {n} came")
    if usage and n is not None and usage.completion_tokens != n:
        yield Fault("usage", f"usage says {usage.completion_tokens} tokens, the stream carried {n}")
    if usage and asked.prompt_tokens is not None and usage.prompt_tokens != asked.prompt_tokens:
        said = f"usage says {usage.prompt_tokens} prompt tokens, {asked.prompt_tokens} were sent"
        yield Fault("prompt_tokens", said)


def _beginning(stream: Stream) -> Iterator[Fault]:
    """Chunks before the first token, which would make it look early to other clients."""
    if not stream.has_ids or stream.first_token is None:
        return
    if lead := list(itertools.takewhile(lambda chunk: not chunk.ids, stream.chunks)):
        ahead = 1000 * (stream.first_token - lead[0].time)
        what = "text" if any(chunk.text for chunk in lead) else "an empty chunk"
        yield Fault("early_chunk", f"{what} without a token id came {ahead:.0f} ms before the first token")


def held_back(stream: Stream, client_pause: float) -> Iterator[Fault]:
    """What is wrong with the pace of its tokens alone; a busy machine can do that to a stream that is complete."""
    n, first, last = stream.tokens, stream.first_token, stream.last_token
    if n is None or n < BURST_TOKENS or first is None or last is None:
        return
    chunks = stream.token_chunks
    if first == last:
        paused = len(chunks) > 1 and client_pause >= CLIENT_PAUSE
        if not paused:
            yield Fault("held_back", f"all {n} tokens came at once, so something held them back")
        return
    start = next(place for place, chunk in enumerate(chunks) if chunk.time >= last - BURST_TAIL * (last - first))
    burst = sum(len(chunk.ids or (0,)) for chunk in chunks[start:])
    silence = chunks[start].time - chunks[start - 1].time
    if burst * 2 >= n and silence >= BURST_SECONDS + 2 * client_pause:
        said = f"{burst} of {n} tokens came in a burst at the end, after {1000 * silence:.0f} ms of silence"
        yield Fault("held_back", said)
