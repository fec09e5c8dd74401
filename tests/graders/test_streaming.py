"""One answer from its socket reads: the same whatever the splits, timed by token ids, and each fault by its name."""

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graders import faults
from graders.streaming import Asked, Chunk, Stream, Usage, parse

quick = settings(derandomize=True, max_examples=30, deadline=None)

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
ASKED = Asked(tokens=3, prompt_tokens=5, model="m")


def choice(text: str, ids: list[int] | None, finish: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {"index": 0, "text": text, "finish_reason": finish, "token_ids": ids}
    return {"object": "text_completion", "model": "m", "choices": [body]}


def usage(n: int, prompt: int = 5) -> dict[str, Any]:
    return {"model": "m", "choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": n}}


HONEST: list[Any] = [choice("größe", [11]), choice(" 模型", [12]), choice("", [13], "length"), usage(3), "[DONE]"]


def sse(*events: object, end: str = "\n") -> list[bytes]:
    texts = [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in events]
    return [f"data: {text}{end}{end}".encode() for text in texts]


def chunked(pieces: list[bytes]) -> list[bytes]:
    return [*(b"%x\r\n%s\r\n" % (len(each), each) for each in pieces), b"0\r\n\r\n"]


def answer(*events: object) -> list[tuple[float, bytes]]:
    """An answer whose head comes at 0 and whose events come a second apart."""
    pieces = [CHUNKED, *chunked(sse(*events))]
    return [(float(time), piece) for time, piece in enumerate(pieces)]


def judge(stream: Stream, asked: Asked, *, client_pause: float = 0.0) -> list[str]:
    return [fault.sentence for fault in faults.judge(stream, asked, client_pause=client_pause)]


def judged(*events: object, asked: Asked = ASKED) -> list[str]:
    return judge(parse(answer(*events)), asked)


def test_an_honest_answer_has_its_tokens_times_and_nothing_wrong() -> None:
    stream = parse(answer(*HONEST))
    assert stream == Stream(
        status=200,
        headers={"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"},
        chunks=(Chunk(1, (11,), "größe"), Chunk(2, (12,), " 模型"), Chunk(3, (13,), "")),
        finish_reason="length",
        usage=Usage(5, 3),
        model="m",
        done=True,
    )
    assert (stream.first_token, stream.last_token, stream.tokens, stream.tpot) == (1, 3, 3, 1)
    assert judge(stream, ASKED) == []


@quick
@given(
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(0, 2000), max_size=12),
    st.lists(st.integers(0, 2000), max_size=12),
    st.booleans(),
)
def test_it_reads_the_same_however_it_is_split(end: str, cuts: list[int], frames: list[int], counted: bool) -> None:
    body = b"\xef\xbb\xbf: hello" + end.encode() + b"".join(sse(*HONEST, end=end))
    if counted:
        whole = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    else:
        whole = CHUNKED + b"".join(chunked([each for each in split(body, frames) if each]))
    stream = parse([(0.5, each) for each in split(whole, cuts)])
    assert stream.faults == ()
    assert [(chunk.ids, chunk.text) for chunk in stream.chunks] == [((11,), "größe"), ((12,), " 模型"), ((13,), "")]
    assert (stream.usage, stream.done, stream.finish_reason) == (Usage(5, 3), True, "length")


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def test_every_byte_may_come_alone() -> None:
    whole = b"".join(piece for _, piece in answer(*HONEST))
    stream = parse([(float(time), whole[time : time + 1]) for time in range(len(whole))])
    assert judge(stream, ASKED) == []
    assert stream.first_token == whole.index(b"\n\n") + 1


def test_a_token_came_with_the_read_that_completed_its_event() -> None:
    first, *rest = chunked(sse(*HONEST))
    reads = [(0.0, CHUNKED), (1.0, first[:-10]), (2.0, first[-10:]), (3.0, b"".join(rest))]
    stream = parse(reads)
    assert [chunk.time for chunk in stream.chunks] == [2.0, 3.0, 3.0]


def test_data_over_several_lines_and_unknown_fields_are_one_event() -> None:
    body = b': note\nid: 7\nretry: 9\ndata: {"choices":[{"text":"a",\ndata:"token_ids":[1]}]}\n\ndata: [DONE]\n\n'
    stream = parse([(0.0, CHUNKED), *((1.0, each) for each in chunked([body]))])
    assert (stream.chunks, stream.done, stream.faults) == ((Chunk(1.0, (1,), "a"),), True, ())


def test_interim_answers_extensions_and_trailers_are_skipped() -> None:
    body = b"".join(sse(*HONEST))
    whole = b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + b"%x;note=1\r\n%s\r\n0\r\nx-sum: 1\r\n\r\n" % (len(body), body)
    assert judge(parse([(0.0, whole)]), ASKED) == []


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    whole = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + b"".join(sse(*HONEST))
    assert judge(parse([(0.0, whole)], closed=True), ASKED) == []
    assert parse([(0.0, whole)]).faults == ("the answer is not complete",)


def test_a_chat_opens_with_a_role_that_is_no_token() -> None:
    def delta(finish: str | None = None, ids: list[int] | None = None, **fields: str) -> dict[str, Any]:
        return {"model": "m", "choices": [{"index": 0, "delta": fields, "finish_reason": finish, "token_ids": ids}]}

    stream = parse(
        answer(
            delta(role="assistant", content=""),
            delta(ids=[1], reasoning="hm"),
            delta(ids=[2, 3], content="yes"),
            delta(finish="length"),
            usage(3),
            "[DONE]",
        )
    )
    assert stream.chunks == (Chunk(2, (1,), "hm"), Chunk(3, (2, 3), "yes"))
    assert judge(stream, ASKED) == []


def test_several_tokens_in_a_chunk_share_its_gap() -> None:
    stream = parse(answer(choice("a", [1, 2]), choice("b", [3]), choice("c", [4, 5], "length"), usage(5), "[DONE]"))
    assert (stream.tokens, stream.chunk_gaps) == (5, (1, 1))
    assert stream.tpot == pytest.approx(2 / 3)
    assert judge(stream, Asked(tokens=5)) == []


def test_without_ids_text_and_usage_count() -> None:
    stream = parse(answer(choice("", None), choice("a", None), choice("b c", None, "length"), usage(3), "[DONE]"))
    assert (stream.first_token, stream.tokens, stream.tpot) == (2, 3, 0.5)
    assert judge(stream, Asked(tokens=3, ids=False)) == []
    assert judge(stream, Asked(tokens=3)) == [
        "no chunk carries token ids, though return_token_ids asked for them",
    ]


def test_what_is_not_known_is_none() -> None:
    stream = parse(answer(choice("a", None)))
    assert (stream.tokens, stream.tpot, stream.usage, stream.finish_reason) == (None, None, None, None)
    nothing = parse([])
    assert (nothing.status, nothing.first_token, nothing.last_token, nothing.chunk_gaps) == (None, None, None, ())
    assert judge(nothing, ASKED) == ["the answer is not complete"]


TOKENS = HONEST[:3]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([*TOKENS, usage(10000), "[DONE]"], ["usage says 10000 tokens, the stream carried 3"]),
        (
            [*TOKENS[:1], choice("b", [2], "length"), usage(2), "[DONE]"],
            ["3 tokens were asked for, 2 came"],
        ),
        (
            [choice("a", [1], "stop"), usage(1), "[DONE]"],
            ["it finished for 'stop'; with ignore_eos only 'length' ends an answer", "3 tokens were asked for, 1 came"],
        ),
        ([*TOKENS, usage(3)], ["the stream ended without data: [DONE]"]),
        ([*TOKENS, "[DONE]"], ["no usage came, though stream_options.include_usage asked for it"]),
        (
            [choice("a", [1]), choice("b", [2, 3]), usage(3), "[DONE]"],
            ["no finish_reason came, so the answer was cut off"],
        ),
        (
            [choice("a", [1]), {"error": {"message": "out of memory", "code": 500}}, "[DONE]"],
            [
                "the stream carries an error: out of memory",
                "no finish_reason came, so the answer was cut off",
                "no usage came, though stream_options.include_usage asked for it",
                "3 tokens were asked for, 1 came",
            ],
        ),
        ([choice("", []), *HONEST], ["an empty chunk without a token id came 1000 ms before the first token"]),
        ([choice(" ", None), *HONEST], ["text without a token id came 1000 ms before the first token"]),
        ([*TOKENS, usage(3, prompt=4), "[DONE]"], ["usage says 4 prompt tokens, 5 were sent"]),
        ([{**each, "model": "x"} for each in HONEST[:4]] + ["[DONE]"], ["the model 'x' answered, 'm' was asked"]),
        ([*HONEST, usage(3)], ["events came after data: [DONE]"]),
        (
            [*TOKENS, choice("d", [14]), usage(4), "[DONE]"],
            ["event 4 goes on after the finish_reason", "3 tokens were asked for, 4 came"],
        ),
        (["oops", *HONEST], ["event 1 is no chunk of an answer: JSON is malformed: invalid character (byte 0)"]),
        (
            [{"choices": [{"index": 1, "text": "b", "token_ids": [9]}]}, *HONEST],
            ["event 1 is of choice 1, where one choice was asked for"],
        ),
    ],
)
def test_what_is_wrong_is_named(events: list[object], said: list[str]) -> None:
    assert judged(*events) == said


@pytest.mark.parametrize(
    ("whole", "closed", "said"),
    [
        (b"", True, "the connection closed inside the head"),
        (b"SSH-2.0-x\r\n\r\n", False, "the answer starts with 'SSH-2.0-x', which is no HTTP/1.1 status line"),
        (b"HTTP/1.1 200 OK\r\nbad\r\n\r\n", False, "the head of the answer holds 'bad', which is no header"),
    ],
)
def test_an_answer_without_a_head_is_named(whole: bytes, closed: bool, said: str) -> None:
    assert said in judge(parse([(0.0, whole)], closed=closed), ASKED)


@pytest.mark.parametrize(
    ("after_head", "closed", "said"),
    [
        (b"5\r\nhello", True, "the connection closed before the last chunk of the body"),
        (b"5\r\nhelloworld\r\n", False, "a chunk is longer than its size line says"),
        (b"xyz\r\n", False, "a chunk starts with b'xyz\\r' instead of its size"),
        (b"0\r\n\r\nHTTP/1.1", False, "bytes came after the end of the answer"),
        (b"6\r\ndata: \r\n0\r\n\r\n", False, "the stream breaks off inside event 1"),
    ],
)
def test_broken_framing_is_named(after_head: bytes, closed: bool, said: str) -> None:
    assert said in parse([(0.0, CHUNKED), (1.0, after_head)], closed=closed).faults


def test_a_refusal_carries_the_servers_words() -> None:
    body = b'{"error":{"message":"max_tokens is too large","type":"BadRequestError","code":400}}'
    head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert judge(parse([(0.0, head + body)]), ASKED) == ["the answer is HTTP 400, not 200: max_tokens is too large"]
    bare = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
    assert judge(parse([(0.0, bare)]), ASKED) == ["the answer is HTTP 503, not 200"]


def test_an_error_under_status_200_and_compression_are_named() -> None:
    body = b'{"error":{"message":"no such model"}}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert judge(parse([(0.0, head + body)]), ASKED)[:2] == [
        "the content type is application/json, not text/event-stream",
        "the stream carries an error: no such model",
    ]
    zipped = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc"
    assert "the answer is compressed with gzip, which was not asked for" in parse([(0.0, zipped)]).faults


def paced(times: list[float]) -> Stream:
    chunks = tuple(Chunk(time, (index,), "x") for index, time in enumerate(times))
    n = len(times)
    return Stream(
        status=200, headers={}, chunks=chunks, finish_reason="length", usage=Usage(5, n), model="m", done=True
    )


def test_bursts_are_named_unless_the_client_itself_paused() -> None:
    asked = Asked(tokens=32)
    assert judge(paced([0.1 * index for index in range(32)]), asked) == []
    burst = paced([0.1] + [1.0] * 31)
    assert judge(burst, asked) == ["31 of 32 tokens came in a burst at the end, after 900 ms of silence"]
    assert judge(burst, asked, client_pause=0.5) == []
    held = paced([1.0] * 32)
    assert judge(held, asked) == ["all 32 tokens came at once, so something held them back"]
    assert judge(held, asked, client_pause=0.2) == []


@quick
@given(st.lists(st.floats(0.001, 5), min_size=2, max_size=40))
def test_the_gaps_add_up_to_the_time_between_first_and_last(gaps: list[float]) -> None:
    times = [math.fsum(gaps[:index]) for index in range(len(gaps) + 1)]
    stream = paced(times)
    assert stream.tpot is not None
    assert math.fsum(stream.chunk_gaps) == pytest.approx(times[-1])
    assert stream.tpot * len(gaps) == pytest.approx(times[-1])
