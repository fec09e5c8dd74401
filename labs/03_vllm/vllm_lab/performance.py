"""How well one replica of the submission serves: streams, throughput, the objective, and the load up to which it holds.

Place: test_vllm.py measures with these, one function a check; what they return is judged in `performance_facts` and
`objective_facts`. Limits: every figure is a ratio to the starter's configuration or calibrated on it, in the same run
on the same machine.
"""

import itertools
from collections.abc import Sequence

from clusters.api import Progress, within
from graders import arrivals
from graders.check import Check
from graders.errors import InfrastructureError
from graders.knee import next_rung
from graders.sampler import Scrape
from graders.samples import Answer, Run
from graders.sequential import until_decided
from graders.stats import Outcome
from vllm_lab.bench import LOADS_AGAIN, SEEDS, Bench, are_few, refuse_broken
from vllm_lab.gpu import GpuSeen, gpu_seen
from vllm_lab.loads import OUTPUT_TOKENS, Load
from vllm_lab.objective_facts import LADDER, HighestLoad, Objective, Paced, Probe, ServiceLevel, decided
from vllm_lab.performance_facts import Streams, Throughput


def streams(check: Check, bench: Bench, progress: Progress, number: int) -> Streams:
    """Answers to the same prompts, of the starter's server and of the submission's."""
    count, window = int(check.threshold("correctness_streams")), check.threshold("correctness_seconds")
    say, seed = within(progress, "streams"), SEEDS.getrandbits(32)
    sides = {
        side: bench.run(side, f"streams-{number}", arrivals.closed(count), say, window=window, drain=120.0, seed=seed)
        for side in ("baseline", "submission")
    }
    refuse_broken(sides["baseline"])
    same, both = agreement(sides["baseline"], sides["submission"])
    return Streams(load=Load.of(sides["submission"]), same=same, both=both, evidence=bench.kept(f"streams-{number}-"))


def agreement(one: Run, other: Run) -> tuple[int, int]:
    """How many answers to the same prompt begin with the same token and its text, and how many both sides gave."""
    begun = [{each.sample.index: first for each in run.answers if (first := _begin(each))} for run in (one, other)]
    both = begun[0].keys() & begun[1].keys()
    return sum(_alike(begun[0][index], begun[1][index]) for index in both), len(both)


def throughput(check: Check, bench: Bench, progress: Progress, number: int) -> Throughput:
    """Tokens per second of all streams together, in turns with the starter's."""
    pairs, count = int(check.threshold("throughput_pairs")), int(check.threshold("throughput_streams"))
    with bench.gpu_watched(f"throughput-{number}-gpu") as scrapes:
        measured = [_pair(check, bench, progress, number, pair, pairs) for pair in range(1, pairs + 1)]
    return Throughput(
        streams=count,
        pairs=tuple({side: Load.of(run) for side, run in pair.items()} for pair in measured),
        gpu=_gpu_seen(bench, scrapes, [pair["submission"] for pair in measured]),
        evidence=bench.kept(f"throughput-{number}-"),
    )


def _gpu_seen(bench: Bench, scrapes: Sequence[Scrape], runs: Sequence[Run]) -> GpuSeen | None:
    """What the submission's GPU did; None where GPUs are simulated. Raises InfrastructureError where nobody tells."""
    if not scrapes:
        return None
    seen = gpu_seen(scrapes, runs, bench.pod)
    if seen is None:
        raise InfrastructureError("the exporter on the submission's node told nothing of its GPU; is it running?")
    return seen


def _pair(check: Check, bench: Bench, progress: Progress, number: int, pair: int, pairs: int) -> dict[str, Run]:
    """Both sides once, one after the other; again when the client was the bottleneck of one of them.

    On a slow machine the starter may have answered too few requests to compare with: then again, for twice as long. The
    order turns with each pair, so that a drift of the machine's speed falls on both sides.
    """
    count, window = int(check.threshold("throughput_streams")), check.threshold("throughput_seconds")
    order = ("baseline", "submission") if pair % 2 else ("submission", "baseline")
    for again in LOADS_AGAIN:
        runs = {}
        for side in order:
            say = within(progress, "throughput", f"pair {pair} of {pairs}, {side}, ")
            name = f"throughput-{number}-{pair}{again}"
            runs[side] = bench.run(side, name, arrivals.closed(count), say, ramp=0.5, window=window)
        few = are_few(runs["baseline"])
        if not few and not any(run.client_limits() for run in runs.values()):
            break
        window *= 2 if few else 1
    refuse_broken(runs["baseline"])
    return runs


def _paced(bench: Bench, name: str, check: Check, factor: float, n: int, progress: Progress) -> Paced:
    """Poisson arrivals at `factor` times what the starter just served one user, about `n` of them in the window.

    Then the starter is asked again: by how much its speed changed tells what the load was worth.
    """
    before = bench.alone_last(within(progress, "calibrating on the starter, "))
    objective = Objective.of(check.threshold, before)
    rate = factor * objective.capacity
    # Before the window the queue finds its length, and arrivals go on while the window's last answers come.
    ramp, tail = 2.0, objective.ttft + OUTPUT_TOKENS * objective.tpot
    seed = SEEDS.getrandbits(32)
    schedule = arrivals.poisson(rate, ramp + n / rate + tail, seed=seed)
    load = Load.of(bench.run("submission", name, schedule, progress, ramp=ramp, window=n / rate, seed=seed))
    after = bench.alone(f"{name}-after", within(progress, "the starter again, "))
    return Paced(before=before, after=after, rate=rate, load=load)


def _sound(bench: Bench, name: str, check: Check, factor: float, n: int, progress: Progress) -> list[Paced]:
    """The load, and up to four times again where it says nothing of the server: of all, the last one counts."""
    loads: list[Paced] = []
    for again in LOADS_AGAIN:
        loads.append(_paced(bench, name + again, check, factor, n, progress))
        if not Probe.of(loads[-1], check.threshold).limits:
            break
    return loads


def service_level(check: Check, bench: Bench, progress: Progress, number: int) -> ServiceLevel:
    """Requests at a load of which the starter can serve a part only, part by part until it is decided or time is up."""
    share, n = check.threshold("slo_share"), int(check.threshold("slo_requests"))
    factor, parts = check.threshold("slo_load_factor"), itertools.count(1)
    bench.alone(f"objective-{number}-alone", within(progress, "objective", "calibrating on the starter, "))

    def take() -> list[Paced]:
        part = next(parts)
        say = within(progress, "objective", f"part {part}, ")
        return _sound(bench, f"objective-{number}-{part}", check, factor, n, say)

    def decide(loads: Sequence[list[Paced]]) -> Outcome:
        return decided(share, [Probe.of(load, check.threshold) for load in itertools.chain(*loads)])

    _, loads = until_decided(take, decide, seconds=check.threshold("slo_seconds"))
    return ServiceLevel(parts=tuple(itertools.chain(*loads)), evidence=bench.kept(f"objective-{number}-"))


def highest_load(check: Check, bench: Bench, progress: Progress, number: int) -> HighestLoad:
    """Loads of the ladder, where the outcomes so far say that the knee may be."""
    share, n = check.threshold("slo_share"), int(check.threshold("knee_requests"))
    if number > 1:  # else it was calibrated moments ago
        bench.alone(f"knee-{number}-alone", within(progress, "highest load", "calibrating on the starter, "))
    loads: list[tuple[float, Paced]] = []
    outcomes: dict[float, Outcome] = {}
    while (rung := next_rung(LADDER, outcomes)) is not None:
        say = within(progress, "highest load", f"{rung:g} times the starter's, ")
        found = _sound(bench, f"knee-{number}-{rung:g}", check, rung, n, say)
        loads += [(rung, load) for load in found]
        outcomes[rung] = Probe.of(found[-1], check.threshold).outcome(share)
    return HighestLoad(rungs=tuple(loads), evidence=bench.kept(f"knee-{number}-"))


def _begin(answer: Answer) -> tuple[tuple[int, ...], str] | None:
    """Token ids and text of an answer's first chunk."""
    chunks = answer.stream.token_chunks
    return (chunks[0].ids, chunks[0].text) if chunks and chunks[0].ids else None


def _alike(one: tuple[tuple[int, ...], str], other: tuple[tuple[int, ...], str]) -> bool:
    """Whether the first tokens are the same; the text can be compared where both chunks hold the same tokens."""
    return one[0][0] == other[0][0] and (one[0] != other[0] or one[1] == other[1])
