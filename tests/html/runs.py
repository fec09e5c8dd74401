"""Stored runs made up for tests of the report: load runs, scrapes, facts and a verdict, as a lab leaves them.

Place: tests/html. Limits: servers that answer like clockwork; what they do to a plot is in the numbers given here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from graders.arrivals import Kind, Schedule
from graders.metrics import VLLM
from graders.plan import Plan, Request, Target
from graders.record import Record
from graders.rubric import CheckResult, Finding, RunHeader, Verdict, write_verdict
from graders.sampler import Scrape
from graders.samples import Run, Sample
from graders.scrape import Scrapes
from graders.streaming import Asked
from graders.submission import digest
from tests.graders.verdicts import NOON, verdict_on

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
TOKENS = 8
MONOTONIC = 500.0
"""When load runs begin, on the machine's monotonic clock."""


@dataclass(frozen=True)
class Told:
    """One request and how it went, in seconds; one without a TTFT is refused."""

    planned: float
    ttft: float | None = 0.02
    tpot: float = 0.004
    workload: str | None = None


def sample_of(index: int, told: Told) -> Sample:
    """The sample that a client keeps of it."""
    if told.ttft is None:
        end = told.planned + 0.001
        return Sample(index=index, planned=told.planned, started=told.planned, end=end, failure="connection refused")
    pieces, times = [], []
    for place in range(TOKENS):
        finish = "length" if place == TOKENS - 1 else None
        choice = {"text": "x", "token_ids": [place + 1], "finish_reason": finish}
        pieces.append(b"data: " + msgspec.json.encode({"model": "tiny", "choices": [choice]}) + b"\n\n")
        times.append(told.planned + told.ttft + place * told.tpot)
    usage = {"prompt_tokens": 4, "completion_tokens": TOKENS}
    pieces[0] = HEAD + pieces[0]
    pieces[-1] += b"data: " + msgspec.json.encode({"choices": [], "usage": usage}) + b"\n\ndata: [DONE]\n\n"
    return Sample(
        index=index,
        planned=told.planned,
        started=told.planned,
        sent=told.planned,
        times=tuple(times),
        sizes=tuple(map(len, pieces)),
        data=b"".join(pieces),
        end=times[-1],
        closed=True,
    )


def load_run(
    told: Sequence[Told],
    *,
    streams: int | None = None,
    rate: float | None = None,
    window: float = 4.0,
    started_at: float = 0.0,
    monotonic: float = MONOTONIC,
) -> Run:
    """A load run: of so many streams, or else of so many requests a second, or at recorded times."""
    times = () if streams else tuple(each.planned for each in told)
    kind: Kind = "closed" if streams else "poisson" if rate else "trace"
    requests = tuple(Request(body=b"{}", asked=Asked(tokens=TOKENS), workload=each.workload) for each in told)
    plan = Plan(
        target=Target(host="::1", port=1),
        requests=requests,
        schedule=Schedule(kind=kind, streams=streams, rate=rate, times=times),
        seed=7,
        window=window,
        ramp=0.5,
    )
    samples = tuple(sample_of(index, each) for index, each in enumerate(told))
    return Run(plan, monotonic, started_at, (), samples)


def even(count: int, pause: float, ttft: float = 0.02) -> list[Told]:
    """Requests at an even pace."""
    return [Told(index * pause, ttft) for index in range(count)]


def scrapes(values: Sequence[tuple[float, float, float]], *, begin: float = MONOTONIC) -> Scrapes:
    """Rounds one second apart: running, waiting and the share of the KV cache in use."""
    rounds = [
        (
            Scrape(
                replica="submission-0",
                round=number,
                asked=begin + number,
                answered=begin + number,
                status=200,
                text=f"{VLLM.running} {running}\n{VLLM.waiting} {waiting}\n{VLLM.kv_usage} {used}\n",
            ),
        )
        for number, (running, waiting, used) in enumerate(values)
    ]
    return Scrapes(before=rounds[0], during=tuple(rounds[1:-1]), after=rounds[-1])


def store(
    folder: Path,
    checks: Sequence[CheckResult],
    evidence: dict[str, bytes] | None = None,
    *,
    events: Sequence[tuple[float, str]] = (),
    seconds: float = 120.0,
    seal: bool = True,
    **changes: object,
) -> Verdict:
    """Writes a run's folder: checks end one after the other, each as many seconds after the one before as it took."""
    clock = [NOON]

    def now() -> datetime:
        return clock[0]

    files = {"values.yaml": b"replicaCount: 2\n"}
    told = {"ended": NOON + timedelta(seconds=seconds), "submission": digest(files), **changes}
    verdict = verdict_on(checks, **told)
    record = Record(folder, now=now)
    record.write("start", header={name: getattr(verdict, name) for name in RunHeader.__struct_fields__})
    record.put("submission/values.yaml", files["values.yaml"])
    for at, what in events:
        clock[0] = NOON + timedelta(seconds=at)
        record.write("event", what=what)
    clock[0] = NOON
    for check in checks:
        clock[0] += timedelta(seconds=check.seconds or 0.0)
        if check.status == "passed":
            finding = Finding(expected=check.expected or "", observed=check.observed or "", verdict="passed")
            record.write("attempt", check=check.id, finding=finding)
        record.write("check", result=check)
    for name, content in (evidence or {}).items():
        record.keep(name, content)
    record.write("end", status=verdict.status, ended=verdict.ended)
    write_verdict(verdict, folder / "verdict.json")
    manifest = record.seal()
    if not seal:
        manifest.unlink()
    return verdict
