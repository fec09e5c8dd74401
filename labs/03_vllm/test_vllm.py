"""The checks of 03_vllm: two releases of the same chart side by side, the starter's values and the submission's.

Place: `pytest labs/03_vllm` and `gpulab grade 03_vllm`. Every figure is measured in this run on this machine, and what
is judged is a ratio or is calibrated on the starter's configuration. Limits: one replica each; on CPU the two servers
share the machine, so only one of them is under load at a time.
"""

import random
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from clusters.api import Charts, Cluster, Progress
from graders import arrivals, load, stats, workload
from graders.check import Check
from graders.errors import InfrastructureError, SubmissionError
from graders.lab import Lab
from graders.plan import Plan, Target
from graders.pods import Pods, Release
from graders.record import Record
from graders.rubric import Finding
from graders.samples import Run
from graders.submission import Submission, parse_values

CHART = "vllm"
MODEL = "gpulab-tiny"
PORT = 8000
# Ids of gpulab-tiny's tokenizer without its special tokens, which come first.
IDS = range(64, 4000)
PROMPT_TOKENS, OUTPUT_TOKENS = 64, 64
START_SECONDS = 300.0
SEEDS = random.SystemRandom()
"""Drawn anew in each run, so that no answer can be tuned to them; each is kept in the record."""

# What a submission may not change: both sides serve the same model from the same image on one GPU.
FIXED: Mapping[str, Any] = {
    "replicaCount": 1,
    "image": {"repository": "vllm/vllm-openai", "tag": "v0.32.0", "pullPolicy": "IfNotPresent"},
    "model": {"name": f"/models/{MODEL}", "servedName": MODEL, "hostPath": ""},
    "service": {"type": "ClusterIP", "port": PORT},
    "resources": {"limits": {"nvidia.com/gpu": 1}},
    "nodeSelector": {},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}


class Bench:
    """Both servers, and how load is put on one of them."""

    def __init__(self, targets: Mapping[str, Target], cluster: Cluster, record: Record, folder: Path) -> None:
        self._targets, self._cluster, self._record, self._folder = targets, cluster, record, folder

    def run(
        self,
        side: str,
        name: str,
        schedule: arrivals.Schedule,
        progress: Progress,
        *,
        window: float,
        ramp: float = 0.0,
        drain: float = 30.0,
    ) -> Run:
        """Puts load on "baseline" or "submission" for `window` seconds and keeps what was seen as evidence."""
        seed = SEEDS.getrandbits(32)
        streams = schedule.streams
        count = len(schedule.times) or 400 * (streams or 1)
        requests = workload.completions(
            seed=seed, count=count, ids=IDS, prompt_tokens=PROMPT_TOKENS, output_tokens=OUTPUT_TOKENS, model=MODEL
        )
        plan = Plan(
            target=self._targets[side],
            requests=requests,
            schedule=schedule,
            seed=seed,
            window=window,
            ramp=ramp,
            drain=drain,
        )
        run = load.run(plan, enter=self._cluster.enter, folder=self._folder, progress=progress)
        self._record.keep(f"{name}-{side}.jsonl", run.encode())
        return run


@pytest.fixture(scope="module")
def bench(
    charts: Charts,
    kube: kubernetes.client.ApiClient,
    cluster: Cluster,
    lab: Lab,
    submission: Submission,
    record: Record,
    progress: Progress,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bench:
    """Installs the chart with the starter's values and with the submission's, and waits until both serve."""
    starter = parse_values((lab.folder / "starter" / "values.yaml").read_text(), "values.yaml")
    # The engine computes on processors at L1, where GPUs are simulated; a submission may change how.
    below = parse_values((lab.folder.parents[1] / "charts" / CHART / "values-cpu.yaml").read_text(), "values-cpu.yaml")
    releases = []
    for name, values, fault in (
        ("submission", submission.values(), SubmissionError),
        ("baseline", starter, InfrastructureError),
    ):
        progress(f"installing the chart as {name}")
        charts.install(name, CHART, merged(merged(below, values), FIXED))
        releases.append(Release(name, charts.namespace, PORT, "/health", fault))
    pods = Pods(kube)
    pods.wait_until_serving(releases, seconds=START_SECONDS, progress=progress)
    targets = {}
    for release in releases:
        address = pods.address(release)
        targets[release.name] = Target(host=address.host, port=address.port)
    bench = Bench(targets, cluster, record, tmp_path_factory.mktemp("load"))
    for side in targets:
        say = within(progress, "warming up")
        bench.run(side, "warm-up", arrivals.closed(8), say, window=2.0, drain=20.0)
    return bench


def test_streams_are_correct(check: Check, bench: Bench, progress: Progress) -> None:
    """A client counts on every stream: the tokens it asked for, why it ended, what it cost, and a proper end."""

    def attempt(number: int) -> Finding:
        rate, seconds = check.threshold("correctness_rate"), check.threshold("correctness_seconds")
        run = bench.run(
            "submission",
            f"streams-{number}",
            arrivals.poisson(rate, seconds, seed=SEEDS.getrandbits(32)),
            within(progress, "streams"),
            window=seconds,
        )
        good, n = len(run.measured) - len(run.failures), len(run.measured)
        worst = next(iter(run.wrong()), None)
        return Finding(
            expected="every answer is a complete OpenAI stream of the length asked for",
            observed=f"{good} of {n} are" + (f"; most often: {worst}" if worst else ""),
            verdict="passed" if n and good == n else "failed",
            unit="share of answers",
            value=good / n if n else None,
            n=n,
            interval=stats.share_interval(good, n) if n else None,
            confidence=0.95,
            hint=None if good == n else "broken",
            evidence=(f"evidence/streams-{number}-submission.jsonl",),
        )

    check.measure(attempt, retries=0)


def test_throughput(check: Check, bench: Bench, progress: Progress) -> None:
    """A GPU is paid by the hour: what counts is how many tokens of all users together come out of it."""
    goal, pairs = check.threshold("throughput_ratio"), int(check.threshold("throughput_pairs"))
    streams, window = int(check.threshold("throughput_streams")), check.threshold("throughput_seconds")

    def attempt(number: int) -> Finding:
        ratios: list[float] = []
        rates: dict[str, list[float]] = {"baseline": [], "submission": []}
        limits: list[str] = []
        names: list[str] = []
        for pair in range(1, pairs + 1):
            # The order turns with each pair, so that a drift of the machine's speed falls on both sides.
            for side in ("baseline", "submission") if pair % 2 else ("submission", "baseline"):
                name = f"throughput-{number}-{pair}"
                say = within(progress, "throughput", f"pair {pair} of {pairs}, {side}, ")
                run = bench.run(side, name, arrivals.closed(streams), say, ramp=0.5, window=window)
                rates[side].append(run.tokens_per_second())
                limits += run.client_limits()
                names.append(f"evidence/{name}-{side}.jsonl")
            ratios.append(rates["submission"][-1] / max(rates["baseline"][-1], 1e-9))
        estimate = stats.median_of_pairs(ratios)
        low, high = estimate.interval or (0.0, float("inf"))
        medians = {side: statistics.median(each) for side, each in rates.items()}
        verdict = "passed" if low >= goal else "failed" if high < goal else "inconclusive"
        return Finding(
            expected=f"at least {goal:g} times the starter's tokens/s with {streams} streams",
            observed=(
                f"{estimate.value:.2f} times: {medians['submission']:.0f} tokens/s against {medians['baseline']:.0f}"
                + (f"; the client was the bottleneck: {limits[0]}" if limits else "")
            ),
            verdict="inconclusive" if limits else verdict,  # type: ignore[arg-type]  # one of the three words
            unit="times the starter",
            value=estimate.value,
            n=estimate.n,
            interval=estimate.interval,
            confidence=estimate.confidence,
            hint=None if verdict == "passed" else "slow",
            evidence=tuple(names),
        )

    check.measure(attempt)


def test_service_level_objective(check: Check, bench: Bench, progress: Progress) -> None:
    """Users do not see averages: each request should begin soon and flow, also while others are being served."""
    share, n = check.threshold("slo_share"), int(check.threshold("slo_requests"))

    def attempt(number: int) -> Finding:
        say = within(progress, "objective", "calibrating on the starter, ")
        alone = bench.run("baseline", f"alone-{number}", arrivals.closed(1), say, ramp=0.5, window=3.0)
        if alone.failures:
            raise InfrastructureError(f"the baseline failed while it was calibrated on: {next(iter(alone.wrong()))}")
        capacity = len(alone.measured) / alone.plan.window
        ttft = check.threshold("slo_ttft_factor") * statistics.median(alone.ttft())
        tpot = check.threshold("slo_tpot_factor") * statistics.median(alone.tpot())
        rate = check.threshold("slo_load_factor") * capacity
        say = within(progress, "objective", f"{rate:.1f} requests/s, ")
        schedule = arrivals.poisson(rate, n / rate, seed=SEEDS.getrandbits(32))
        run = bench.run("submission", f"objective-{number}", schedule, say, window=n / rate)
        met, asked = run.met(ttft=ttft, tpot=tpot), len(run.measured)
        limits = run.client_limits(ttft=ttft, tpot=tpot)
        verdict = stats.decide_share(met, asked, share)
        late = sum(each.ttft > ttft for each in run.measured)
        return Finding(
            expected=(
                f"at least {share:.0%} of requests with TTFT <= {ttft * 1000:.0f} ms and TPOT <= {tpot * 1000:.1f} ms "
                f"at {rate:.1f} requests/s"
            ),
            observed=f"{met} of {asked} requests ({met / max(asked, 1):.0%}); {late} began late"
            + (f"; the client was the bottleneck: {limits[0]}" if limits else ""),
            verdict="inconclusive" if limits else verdict,
            unit="share of requests",
            value=met / asked if asked else None,
            n=asked,
            interval=stats.share_interval(met, asked) if asked else None,
            confidence=0.95,
            hint=None if verdict == "passed" else "queueing" if late * 2 > asked - met else "slow_tokens",
            evidence=(f"evidence/alone-{number}-baseline.jsonl", f"evidence/objective-{number}-submission.jsonl"),
        )

    check.measure(attempt)


def merged(values: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Chart values with those that are fixed on top, mappings joined key by key, as Helm joins values files."""
    joined = dict(values)
    for key, value in fixed.items():
        below = joined.get(key)
        joined[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return joined


def within(progress: Progress, phase: str, detail: str = "") -> Callable[[str], None]:
    """Progress that names the phase first."""
    return lambda text: progress(f"{phase}: {detail}{text}")
