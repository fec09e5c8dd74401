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

from clusters.api import Charts, Cluster, ClusterError, Progress
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
FEWEST = 5
"""A baseline that answers fewer requests in a window says nothing of the machine."""
HELD = 0.1
"""Share of answers that may come in bursts, which a machine with more work than cores does to honest servers too."""
ONE_SIDED = 0.975
"""A share is proven by the lower bound of the interval that is printed, which allows for a second try at 95 %."""
SEEDS = random.SystemRandom()
"""Drawn anew in each run, so that no answer can be tuned to them; each is kept in the record."""

# What a submission may not change, whatever its values say: both sides serve the same model from the same image, on one
# GPU and as many threads, and nothing but the engine's own settings makes the difference.
FIXED: Mapping[str, Any] = {
    "replicaCount": 1,
    "image": {"repository": "vllm/vllm-openai", "tag": "v0.32.0", "pullPolicy": "IfNotPresent"},
    "model": {"name": f"/models/{MODEL}", "servedName": MODEL, "hostPath": ""},
    "env": {},
    "cpu": {"enabled": True, "threads": 1},
    "service": {"type": "ClusterIP", "port": PORT},
    "resources": {"limits": {"nvidia.com/gpu": 1}},
    "nodeSelector": {},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}
FIXED_ENGINE: Mapping[str, Any] = {"extraArgs": []}


class Bench:
    """Both servers, and how load is put on one of them."""

    def __init__(self, targets: Mapping[str, Target], cluster: Cluster, record: Record, folder: Path) -> None:
        self._targets, self._cluster, self._record, self._folder = targets, cluster, record, folder
        self._kept: list[str] = []

    def kept(self, prefix: str) -> list[str]:
        """Names of the evidence so far that begin like that."""
        return [name for name in self._kept if name.startswith(prefix)]

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
        count = len(schedule.times) or 200 * (streams or 1)
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
        self._kept.append(f"{name}-{side}.jsonl")
        self._record.keep(self._kept[-1], run.encode())
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
    # The engine computes on processors at L1, where GPUs are simulated.
    below = parse_values((lab.folder.parents[1] / "charts" / CHART / "values-cpu.yaml").read_text(), "values-cpu.yaml")
    progress("installing the chart as baseline")
    try:
        charts.install("baseline", CHART, fixed(below, starter))
    except ClusterError as error:
        raise InfrastructureError(f"the lab's own baseline cannot be installed: {error}") from error
    progress("installing the chart as submission")
    charts.install("submission", CHART, fixed(below, submission.values()))
    releases = [
        Release("baseline", charts.namespace, PORT, "/health", InfrastructureError),
        Release("submission", charts.namespace, PORT, "/health", SubmissionError),
    ]
    pods = Pods(kubernetes.client.CoreV1Api(kube))
    pods.wait_until_serving(releases, seconds=START_SECONDS, progress=progress)
    addresses = {release.name: pods.address(release) for release in releases}
    targets = {name: Target(host=address.host, port=address.port) for name, address in addresses.items()}
    bench = Bench(targets, cluster, record, tmp_path_factory.mktemp("load"))
    for side in targets:
        bench.run(side, "warm-up", arrivals.closed(8), within(progress, "warming up"), window=2.0)
    return bench


def test_streams_are_correct(check: Check, bench: Bench, progress: Progress) -> None:
    """A client counts on every stream: the tokens it asked for, why it ended, what it cost, and a proper end."""
    streams, window = int(check.threshold("correctness_streams")), check.threshold("correctness_seconds")

    def attempt(number: int) -> Finding:
        say = within(progress, "streams")
        run = bench.run("submission", f"streams-{number}", arrivals.closed(streams), say, window=window, drain=120.0)
        n, good = len(run.measured), len(run.measured) - len(run.incomplete)
        held = len(run.failures) - len(run.incomplete)
        right = n and good == n and held <= HELD * n
        verdict = "passed" if right else "inconclusive" if run.client_limits() else "failed"
        return Finding(
            expected=f"every answer is a complete OpenAI stream of the length asked for, at most {HELD:.0%} in bursts",
            observed=f"{good} of {n} are complete, {held} came in bursts{complaint(run)}{excuse(run.client_limits())}",
            verdict=verdict,  # type: ignore[arg-type]  # one of the three words
            unit="share of answers",
            value=good / n if n else None,
            n=n,
            interval=stats.share_interval(good, n) if n else None,
            confidence=0.95,
            hint=None if verdict == "passed" else "broken",
            evidence=(f"evidence/streams-{number}-submission.jsonl",),
        )

    check.measure(attempt)


def test_throughput(check: Check, bench: Bench, progress: Progress) -> None:
    """A GPU is paid by the hour: what counts is how many tokens of all users together come out of it."""
    goal, pairs = check.threshold("throughput_ratio"), int(check.threshold("throughput_pairs"))
    streams = int(check.threshold("throughput_streams"))

    def attempt(number: int) -> Finding:
        measured = [measure_pair(check, bench, progress, number, pair, pairs) for pair in range(1, pairs + 1)]
        submissions = [pair["submission"] for pair in measured]
        rates = {side: [pair[side].tokens_per_second() for pair in measured] for side in ("baseline", "submission")}
        ratios = [ours / theirs for ours, theirs in zip(rates["submission"], rates["baseline"], strict=True)]
        estimate = stats.median_of_pairs(ratios)
        low, high = estimate.interval or (0.0, float("inf"))
        limits = [limit for pair in measured for run in pair.values() for limit in run.client_limits()]
        verdict = "passed" if low >= goal else "failed" if high < goal else "inconclusive"
        failed = sum(len(run.failures) for run in submissions)
        asked = sum(len(run.measured) for run in submissions)
        return Finding(
            expected=f"at least {goal:g} times the starter's tokens/s with {streams} streams",
            observed=(
                f"{estimate.value:.2f} times: {statistics.median(rates['submission']):.0f} tokens/s against "
                f"{statistics.median(rates['baseline']):.0f}{complaint(*submissions)}{excuse(limits)}"
            ),
            verdict="inconclusive" if limits else verdict,  # type: ignore[arg-type]  # one of the three words
            unit="times the starter",
            value=estimate.value,
            n=estimate.n,
            interval=estimate.interval,
            confidence=estimate.confidence,
            hint=None if verdict == "passed" else "broken" if failed * 2 > asked else "slow",
            evidence=tuple(f"evidence/{name}" for name in bench.kept(f"throughput-{number}-")),
        )

    check.measure(attempt)


def measure_pair(check: Check, bench: Bench, progress: Progress, number: int, pair: int, pairs: int) -> dict[str, Run]:
    """Both sides once, one after the other; once more when the client was the bottleneck of one of them.

    The order turns with each pair, so that a drift of the machine's speed falls on both sides.
    """
    streams, window = int(check.threshold("throughput_streams")), check.threshold("throughput_seconds")
    order = ("baseline", "submission") if pair % 2 else ("submission", "baseline")
    for again in ("", "b", "c"):
        runs = {}
        for side in order:
            say = within(progress, "throughput", f"pair {pair} of {pairs}, {side}, ")
            name = f"throughput-{number}-{pair}{again}"
            runs[side] = bench.run(side, name, arrivals.closed(streams), say, ramp=0.5, window=window)
        refuse_broken(runs["baseline"])
        if not any(run.client_limits() for run in runs.values()):
            break
    return runs


def test_service_level_objective(check: Check, bench: Bench, progress: Progress) -> None:
    """Users do not see averages: each request should begin soon and flow, also while others are being served."""
    share, n = check.threshold("slo_share"), int(check.threshold("slo_requests"))

    def attempt(number: int) -> Finding:
        say = within(progress, "objective", "calibrating on the starter, ")
        alone = bench.run("baseline", f"alone-{number}", arrivals.closed(1), say, ramp=0.5, window=3.0)
        refuse_broken(alone)
        ttft = check.threshold("slo_ttft_factor") * statistics.median(alone.ttft())
        tpot = check.threshold("slo_tpot_factor") * statistics.median(alone.tpot())
        rate = check.threshold("slo_load_factor") * len(alone.measured) / alone.plan.window
        # Before the window the queue finds its length, and arrivals go on while the window's last answers come.
        ramp, tail = 3.0, ttft + OUTPUT_TOKENS * tpot
        schedule = arrivals.poisson(rate, ramp + n / rate + tail, seed=SEEDS.getrandbits(32))
        say = within(progress, "objective", f"{rate:.1f} requests/s, ")
        run = bench.run("submission", f"objective-{number}", schedule, say, ramp=ramp, window=n / rate)
        met, asked = run.met(ttft=ttft, tpot=tpot), len(run.measured)
        limits = [*alone.client_limits(), *run.client_limits(ttft=ttft, tpot=tpot)]
        verdict = stats.decide_share(met, asked, share, confidence=ONE_SIDED)
        late = sum(each.good and each.ttft > ttft for each in run.measured)
        failed, slow = len(run.failures), asked - met - late - len(run.failures)
        hints = {"broken": failed, "queueing": late, "slow_tokens": slow}
        return Finding(
            expected=(
                f"at least {share:.0%} of requests with TTFT <= {ttft * 1000:.0f} ms and TPOT <= {tpot * 1000:.1f} ms "
                f"at {rate:.1f} requests/s"
            ),
            observed=(
                f"{met} of {asked} requests ({met / max(asked, 1):.0%}); {late} began late, {slow} flowed slowly, "
                f"{failed} failed{complaint(run)}{excuse(limits)}"
            ),
            verdict="inconclusive" if limits else verdict,
            unit="share of requests",
            value=met / asked if asked else None,
            n=asked,
            interval=stats.share_interval(met, asked) if asked else None,
            confidence=0.95,
            hint=None if verdict == "passed" else max(hints, key=lambda key: hints[key]),
            evidence=(f"evidence/alone-{number}-baseline.jsonl", f"evidence/objective-{number}-submission.jsonl"),
        )

    check.measure(attempt)


def refuse_broken(run: Run) -> None:
    """Raises InfrastructureError when the lab's own baseline failed while it was measured."""
    if run.incomplete or len(run.measured) < FEWEST:
        said = next(iter(run.wrong()), f"it answered {len(run.measured)} requests in {run.plan.window:g} s")
        raise InfrastructureError(f"the baseline, which the lab compares with, failed: {said}")


def complaint(*runs: Run) -> str:
    """What was wrong with answers most often, to be put behind a figure; empty when nothing was."""
    for run in runs:
        for sentence in run.wrong():
            return f"; most often: {sentence}"
    return ""


def excuse(limits: list[str]) -> str:
    """That the client was the bottleneck, to be put behind a figure; empty when it was not."""
    return f"; the client was the bottleneck: {limits[0]}" if limits else ""


def fixed(below: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of one side: the level's, then its own, then those that nobody may change, each top key whole.

    Engine settings are joined one by one; anything but a mapping there is left for the chart's schema to refuse.
    """
    joined = {**below, **values, **FIXED}
    own = values.get("engine", {})
    if isinstance(own, dict):
        joined["engine"] = {**below["engine"], **own, **FIXED_ENGINE}
    return joined


def within(progress: Progress, phase: str, detail: str = "") -> Callable[[str], None]:
    """Progress that names the phase first."""
    return lambda text: progress(f"{phase}: {detail}{text}")
