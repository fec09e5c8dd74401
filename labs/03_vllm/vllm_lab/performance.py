"""How well one replica of the submission serves: streams, throughput, the objective, and the load up to which it holds.

Place: test_vllm.py measures with these, one function a check. Limits: every figure is a ratio to the starter's
configuration or calibrated on it, in the same run on the same machine.
"""

import itertools
import statistics
from collections.abc import Sequence
from functools import partial
from typing import Self

import msgspec

from clusters.api import Progress
from graders import arrivals, stats
from graders.check import Check
from graders.errors import InfrastructureError
from graders.knee import decide_knee, knee, next_rung
from graders.rubric import Finding
from graders.sampler import Scrape
from graders.samples import Answer, Run
from graders.sequential import decide_outcomes, share_over_time, until_decided
from graders.stats import Outcome
from vllm_lab.bench import OUTPUT_TOKENS, SEEDS, Alone, Bench, complaint, excuse, refuse_broken, within
from vllm_lab.gpu import GpuUse, gpu_use

HELD = 0.1
"""Share of answers that may come in bursts, which a machine with more work than cores does to honest servers too."""
SAME = 0.5
"""Share of answers that begin as the starter's do: rounding changes some of them, another model nearly all."""
ONE_SIDED = 0.975
"""A share is proven by the lower bound of the interval that is printed, which allows for a second try at 95 %."""
LADDER = (1.0, 1.5, 2.0, 3.0, 4.5, 6.0, 9.0)
"""Loads at which the knee is looked for, in times what the starter's values can serve; the goal is in the middle."""
SHARE = "share of requests"


def streams(check: Check, bench: Bench, progress: Progress, number: int) -> Finding:
    """Whether answers are complete, and begin as those of the starter's server to the same prompts."""
    count, window = int(check.threshold("correctness_streams")), check.threshold("correctness_seconds")
    say, seed = within(progress, "streams"), SEEDS.getrandbits(32)
    sides = {
        side: bench.run(side, f"streams-{number}", arrivals.closed(count), say, window=window, drain=120.0, seed=seed)
        for side in ("baseline", "submission")
    }
    refuse_broken(sides["baseline"])
    run = sides["submission"]
    n, good = len(run.measured), len(run.measured) - len(run.incomplete)
    held = len(run.failures) - len(run.incomplete)
    same, both = agreement(sides["baseline"], run)
    complete = n and good == n and held <= HELD * n
    right = complete and same >= SAME * both > 0
    verdict: Outcome = "passed" if right else "inconclusive" if run.client_limits() else "failed"
    return Finding.of_estimate(
        stats.share(good, n),
        unit="share of answers",
        expected=(
            f"every answer is a complete OpenAI stream of the length asked for, at most {HELD:.0%} in bursts, and at "
            f"least {SAME:.0%} begin with the starter's token"
        ),
        observed=(
            f"{good} of {n} are complete, {held} came in bursts, {same} of {both} begin with the starter's token"
            f"{complaint(run)}{excuse(run.client_limits())}"
        ),
        verdict=verdict,
        hint=None if right else "other_words" if complete else "broken",
        evidence=bench.kept(f"streams-{number}-"),
    )


def agreement(one: Run, other: Run) -> tuple[int, int]:
    """How many answers to the same prompt begin with the same token, and how many both sides gave."""
    begun = [
        {each.sample.index: first for each in run.answers if (first := _first_token(each))} for run in (one, other)
    ]
    both = begun[0].keys() & begun[1].keys()
    return sum(begun[0][index] == begun[1][index] for index in both), len(both)


def throughput(check: Check, bench: Bench, progress: Progress, number: int) -> Finding:
    """Tokens per second of all streams together, in turns with the starter's."""
    goal, pairs = check.threshold("throughput_ratio"), int(check.threshold("throughput_pairs"))
    count = int(check.threshold("throughput_streams"))
    with bench.gpu_watched() as scrapes:
        measured = [_pair(check, bench, progress, number, pair, pairs) for pair in range(1, pairs + 1)]
    submissions = [pair["submission"] for pair in measured]
    rates = {side: [pair[side].tokens_per_second() for pair in measured] for side in ("baseline", "submission")}
    ratios = [ours / theirs for ours, theirs in zip(rates["submission"], rates["baseline"], strict=True)]
    estimate = stats.median_of_pairs(ratios)
    limits = [limit for pair in measured for run in pair.values() for limit in run.client_limits()]
    verdict = stats.decide(estimate, goal)
    used = _gpu_use(check, bench, scrapes, submissions)
    short = used.shortfalls(check.threshold) if used else []
    told = "; ".join(["", used.words(), *short]) if used else ""
    failed = sum(len(run.failures) for run in submissions)
    asked = sum(len(run.measured) for run in submissions)
    return Finding.of_estimate(
        estimate,
        unit="times the starter",
        expected=f"at least {goal:g} times the starter's tokens/s with {count} streams",
        observed=(
            f"{estimate.value:.2f} times: {statistics.median(rates['submission']):.0f} tokens/s against "
            f"{statistics.median(rates['baseline']):.0f}{told}"
            f"{complaint(*submissions)}{excuse(limits)}"
        ),
        verdict="inconclusive" if limits else "failed" if short else verdict,
        hint=None if verdict == "passed" and not short else "broken" if failed * 2 > asked else "slow",
        evidence=bench.kept(f"throughput-{number}-"),
    )


def _gpu_use(check: Check, bench: Bench, scrapes: Sequence[Scrape], runs: Sequence[Run]) -> GpuUse | None:
    """What the submission's GPU did; None where GPUs are simulated. Raises InfrastructureError where nobody tells."""
    if not scrapes:
        return None
    weights, bandwidth = check.threshold("gpu_weights_gb") * 1e9, check.threshold("gpu_bandwidth_gbs") * 1e9
    used = gpu_use(scrapes, runs, bench.pod, weights_bytes=weights, bandwidth=bandwidth)
    if used is None:
        raise InfrastructureError("the exporter on the submission's node told nothing of its GPU; is it running?")
    return used


def _pair(check: Check, bench: Bench, progress: Progress, number: int, pair: int, pairs: int) -> dict[str, Run]:
    """Both sides once, one after the other; again when the client was the bottleneck of one of them.

    The order turns with each pair, so that a drift of the machine's speed falls on both sides.
    """
    count, window = int(check.threshold("throughput_streams")), check.threshold("throughput_seconds")
    order = ("baseline", "submission") if pair % 2 else ("submission", "baseline")
    for again in ("", "b", "c"):
        runs = {}
        for side in order:
            say = within(progress, "throughput", f"pair {pair} of {pairs}, {side}, ")
            name = f"throughput-{number}-{pair}{again}"
            runs[side] = bench.run(side, name, arrivals.closed(count), say, ramp=0.5, window=window)
        refuse_broken(runs["baseline"])
        if not any(run.client_limits() for run in runs.values()):
            break
    return runs


class Objective(msgspec.Struct, frozen=True):
    """Bounds of TTFT and TPOT in seconds, and the requests per second that the starter's configuration can serve."""

    ttft: float
    tpot: float
    capacity: float

    def words(self) -> str:
        """The bounds, for a sentence."""
        return f"TTFT <= {self.ttft * 1000:.0f} ms and TPOT <= {self.tpot * 1000:.1f} ms"


class Tally(msgspec.Struct, frozen=True):
    """Requests under the objective: which of them met it, in order of time, and of the others how many failed how."""

    outcomes: tuple[bool, ...]
    late: int
    failed: int

    @classmethod
    def of(cls, probes: Sequence["Probe"]) -> Self:
        """All requests of some loads, one load after the other."""
        return cls(
            tuple(outcome for probe in probes for outcome in probe.tally.outcomes),
            sum(probe.tally.late for probe in probes),
            sum(probe.tally.failed for probe in probes),
        )

    @property
    def met(self) -> int:
        """Requests that met it."""
        return sum(self.outcomes)

    @property
    def slow(self) -> int:
        """Requests that began in time and flowed too slowly."""
        return len(self.outcomes) - self.met - self.late - self.failed

    @property
    def hint(self) -> str:
        """What most of the requests that did not meet it suffered from."""
        hints = {"broken": self.failed, "queueing": self.late, "slow_tokens": self.slow}
        return max(hints, key=lambda key: hints[key])


class Probe(msgspec.Struct, frozen=True):
    """One load under the objective: the run, its requests per second, what came of it, and what limited the client."""

    run: Run
    rate: float
    tally: Tally
    limits: list[str]


def objective_of(check: Check, alone: Alone) -> Objective:
    """The objective, calibrated on what the starter's configuration does for one user."""
    return Objective(
        check.threshold("slo_ttft_factor") * alone.ttft,
        check.threshold("slo_tpot_factor") * alone.tpot,
        alone.rate,
    )


def _probe(bench: Bench, name: str, objective: Objective, factor: float, n: int, progress: Progress) -> Probe:
    """Poisson arrivals at `factor` times the starter's capacity, about `n` of them in the window."""
    rate = factor * objective.capacity
    # Before the window the queue finds its length, and arrivals go on while the window's last answers come.
    ramp, tail = 2.0, objective.ttft + OUTPUT_TOKENS * objective.tpot
    schedule = arrivals.poisson(rate, ramp + n / rate + tail, seed=SEEDS.getrandbits(32))
    run = bench.run("submission", name, schedule, progress, ramp=ramp, window=n / rate)
    ttft, tpot = objective.ttft, objective.tpot
    return Probe(
        run=run,
        rate=rate,
        tally=Tally(
            tuple(each.met(ttft=ttft, tpot=tpot) for each in run.measured),
            late=sum(each.good and each.ttft > ttft for each in run.measured),
            failed=len(run.failures),
        ),
        limits=run.client_limits(ttft=ttft, tpot=tpot),
    )


def service_level(check: Check, bench: Bench, progress: Progress, number: int) -> Finding:
    """The share of requests within the objective, at a load of which the starter can serve a part only.

    Measured part by part until it is decided or the time is spent. A part in which the client was the bottleneck says
    nothing of the server and counts for nothing.
    """
    share, n = check.threshold("slo_share"), int(check.threshold("slo_requests"))
    say = within(progress, "objective", "calibrating on the starter, ")
    objective = objective_of(check, bench.alone(f"objective-{number}-alone", say))
    parts = itertools.count(1)

    def take() -> Probe:
        part = next(parts)
        say = within(progress, "objective", f"part {part}, ")
        return _probe(bench, f"objective-{number}-{part}", objective, check.threshold("slo_load_factor"), n, say)

    verdict, probes = until_decided(take, partial(decided, share), seconds=check.threshold("slo_seconds"))
    tally = Tally.of(sound(probes))
    limits = [limit for probe in probes for limit in probe.limits]
    return Finding.of_estimate(
        share_over_time(tally.outcomes),
        unit=SHARE,
        expected=f"at least {share:.0%} of requests with {objective.words()} at {probes[0].rate:.1f} requests/s",
        observed=(
            f"{tally.met} of {len(tally.outcomes)} requests ({tally.met / max(len(tally.outcomes), 1):.0%}); "
            f"{tally.late} began late, {tally.slow} flowed slowly, {tally.failed} failed"
            f"{complaint(*(probe.run for probe in probes))}{excuse(limits if verdict == 'inconclusive' else [])}"
        ),
        verdict=verdict,
        hint=None if verdict == "passed" else tally.hint,
        evidence=bench.kept(f"objective-{number}-"),
    )


def sound(probes: Sequence[Probe]) -> list[Probe]:
    """Those in which the client kept up."""
    return [probe for probe in probes if not probe.limits]


def decided(share: float, probes: Sequence[Probe]) -> Outcome:
    """Whether these parts together prove or refute it."""
    return decide_outcomes(Tally.of(sound(probes)).outcomes, share, confidence=ONE_SIDED)


def highest_load(check: Check, bench: Bench, progress: Progress, number: int) -> Finding:
    """The highest load of the ladder at which the objective is proven to hold."""
    share, n, goal = check.threshold("slo_share"), int(check.threshold("knee_requests")), check.threshold("knee_factor")
    say = within(progress, "highest load", "calibrating on the starter, ")
    # The objective was calibrated moments ago; a second try calibrates anew.
    objective = objective_of(check, bench.alone_last(say) if number == 1 else bench.alone(f"knee-{number}-alone", say))
    probes: dict[float, Probe] = {}
    outcomes: dict[float, Outcome] = {}
    while (rung := next_rung(LADDER, outcomes)) is not None:
        say = within(progress, "highest load", f"{rung:g} times the starter's, ")
        probe = probes[rung] = _probe(bench, f"knee-{number}-{rung:g}", objective, rung, n, say)
        held = stats.decide(stats.share_over_time(probe.tally.outcomes), share)
        outcomes[rung] = "inconclusive" if probe.limits else held
    found, verdict = knee(outcomes), decide_knee(outcomes, goal)
    told = ", ".join(
        f"{each.tally.met} of {len(each.tally.outcomes)} at {rung:g}" for rung, each in sorted(probes.items())
    )
    missed = [probe for rung, probe in sorted(probes.items()) if outcomes[rung] != "passed"]
    limits = [limit for probe in missed for limit in probe.limits]
    return Finding(
        expected=f"{share:.0%} of requests with {objective.words()} at {goal:g} times the starter's load or more",
        observed=f"it holds at {found.held or 0:g} times; in time were {told}{excuse(limits)}",
        verdict=verdict,
        unit="times the starter's load",
        value=found.held or 0.0,
        n=sum(len(probe.tally.outcomes) for probe in probes.values()),
        interval=(found.held or 0.0, LADDER[-1] if found.not_held is None else found.not_held),
        confidence=ONE_SIDED,
        hint=None if verdict == "passed" or not missed else missed[0].tally.hint,
        evidence=bench.kept(f"knee-{number}-"),
    )


def _first_token(answer: Answer) -> int | None:
    chunks = answer.stream.token_chunks
    return chunks[0].ids[0] if chunks and chunks[0].ids else None
