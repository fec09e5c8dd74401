"""Reads what each load generator says about each request, from its own result file.

Place: `clients` names the reader of each client. Limits: the fields of the versions that are locked here; times in
seconds. A request that a client calls failed, or gives no TTFT, is left out: `figures` counts what is missing.

All TTFT here count from sending, and all TPOT are (last token - first token) / (n - 1); where a client has other names
for these, the docstrings say which.
"""

from typing import TypeVar

import msgspec

Kind = TypeVar("Kind")


class Report(msgspec.Struct, frozen=True):
    """One request as a client reports it; `name` is what the stub knows it by, `tpot` None where none is given."""

    name: str
    ttft: float
    tpot: float | None
    tokens: int


class UnreadableReport(Exception):
    """A result file is not as its client's version writes it; the message says where."""


class _Vllm(msgspec.Struct):
    ttfts: list[float]
    itls: list[list[float]]
    output_lens: list[int]
    errors: list[str]


class _Value(msgspec.Struct):
    value: float


class _AiperfMetrics(msgspec.Struct):
    time_to_first_token: _Value | None = None
    inter_token_latency: _Value | None = None
    usage_completion_tokens: _Value | None = None


class _AiperfMetadata(msgspec.Struct):
    x_request_id: str
    benchmark_phase: str


class _Aiperf(msgspec.Struct):
    metadata: _AiperfMetadata
    metrics: _AiperfMetrics
    error: object = None


class _Counts(msgspec.Struct):
    total_tokens: int | None = None


class _GuidellmRequest(msgspec.Struct):
    response_id: str
    output_metrics: _Counts
    time_to_first_token_ms: float | None = None
    inter_token_latency_ms: float | None = None


class _GuidellmRequests(msgspec.Struct):
    successful: list[_GuidellmRequest]


class _GuidellmBenchmark(msgspec.Struct):
    requests: _GuidellmRequests


class _Guidellm(msgspec.Struct):
    benchmarks: list[_GuidellmBenchmark]


def vllm(data: bytes, prefix: str) -> list[Report]:
    """Of `vllm bench serve --save-detailed --request-id-prefix`; requests are listed in the order of their numbers.

    It gives the gaps between chunks, of which its own TPOT, (latency - TTFT) / (n - 1), is the sum over n - 1.
    """
    said = _decode(data, _Vllm)
    found = []
    for number, (ttft, gaps, tokens, error) in enumerate(
        zip(said.ttfts, said.itls, said.output_lens, said.errors, strict=True)
    ):
        if not error and ttft:
            found.append(Report(f"{prefix}{number}", ttft, sum(gaps) / (tokens - 1) if tokens > 1 else None, tokens))
    return found


def guidellm(data: bytes) -> list[Report]:
    """Of GuideLLM's JSON; the stub names a request in the id of its answer.

    Its "inter token latency" is TPOT; what it calls time per output token is E2E / n, with TTFT in it.
    """
    return [
        Report(
            each.response_id.removeprefix("cmpl-"),
            each.time_to_first_token_ms / 1000,
            None if each.inter_token_latency_ms is None else each.inter_token_latency_ms / 1000,
            each.output_metrics.total_tokens or 0,
        )
        for benchmark in _decode(data, _Guidellm).benchmarks
        for each in benchmark.requests.successful
        if each.time_to_first_token_ms is not None
    ]


def aiperf(data: bytes) -> list[Report]:
    """Of AIPerf's profile_export.jsonl; its "inter token latency" is TPOT."""
    try:
        lines = msgspec.json.Decoder(_Aiperf).decode_lines(data)
    except msgspec.DecodeError as error:
        raise UnreadableReport(str(error)) from error
    return [
        Report(
            each.metadata.x_request_id,
            each.metrics.time_to_first_token.value / 1000,
            each.metrics.inter_token_latency.value / 1000 if each.metrics.inter_token_latency else None,
            int(each.metrics.usage_completion_tokens.value) if each.metrics.usage_completion_tokens else 0,
        )
        for each in lines
        if each.metadata.benchmark_phase == "profiling" and not each.error and each.metrics.time_to_first_token
    ]


def ours(data: bytes) -> list[Report]:
    """Of `benchmarks.peers.ours`."""
    return _decode(data, list[Report])


def _decode(data: bytes, kind: type[Kind]) -> Kind:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise UnreadableReport(str(error)) from error
