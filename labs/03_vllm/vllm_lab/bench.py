"""Both servers, what runs of them, and how load is put on one: what every check of 03_vllm works with.

Place: the fixture of test_vllm.py makes one `Bench` per run. Limits: the two sides share the machine, so only
one of them is under load at a time; performance is measured on one replica a side, availability on all replicas.
"""

import contextlib
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from clusters.api import Charts, Cluster, ClusterError, Progress, within
from graders import arrivals, crosscheck, gpu_scrape, load, scrape, workload
from graders.crosscheck import Crosscheck
from graders.during import run_during
from graders.errors import InfrastructureError, SubmissionError
from graders.ledger import ledger
from graders.metrics import VLLM
from graders.plan import Plan, Request, Target
from graders.pods import Pods, Release, Trouble
from graders.record import Record
from graders.sampler import Place, Scrape
from graders.samples import Answer, Run
from vllm_lab.loads import OUTPUT_TOKENS, Alone
from vllm_lab.sides import MODEL, PORT

CHART = "vllm"
# Ids of gpulab-tiny's tokenizer without its special tokens, which come first.
IDS = range(64, 4000)
PROMPT_TOKENS = 64
START_SECONDS = 240.0
IDLE_SECONDS = 20.0
ALONE_SECONDS = 3.0
"""Five answers and more of one user, where the machine is not much slower than the one this was written on."""
CLIENT_LAG = 0.002
"""Seconds by which the client's own times may be late whatever it says of itself."""
FEWEST = 3
"""A baseline that answers fewer requests in a window says nothing of the machine."""
AGAIN = ("", "b", "c")
"""Ends of the names of evidence: of a measurement, and of the same again and once more, where it said nothing."""
LOADS_AGAIN = (*AGAIN, "d", "e")
"""Of a load and of a pair of them, which a machine that changes its speed or is taken away for a while spoils oftener:
three in a row were, and no counter of stolen time need tell of it."""
SEEDS = random.SystemRandom()
"""Drawn anew in each run, so that no answer can be tuned to them; each is kept in the record."""


class Observed(msgspec.Struct, frozen=True):
    """A load with what the server itself counted meanwhile, and names of the evidence."""

    run: Run
    found: Crosscheck
    scrapes: scrape.Scrapes
    evidence: tuple[str, ...]


class Bench:
    """Both releases: installed when first needed, measured as often as wanted, upgraded once measured.

    Args:
        charts: Helm.
        pods: of the run's namespace.
        cluster: whose network the load generator enters.
        record: where evidence is kept.
        folder: for files in passing.
        values: of both sides, by "baseline" and "submission".
        stack: ends what lasts as long as the bench.
    """

    def __init__(
        self,
        charts: Charts,
        pods: Pods,
        cluster: Cluster,
        record: Record,
        folder: Path,
        values: Mapping[str, dict[str, Any]],
        stack: contextlib.ExitStack,
    ) -> None:
        self._charts, self.pods, self._cluster, self._record, self._folder = charts, pods, cluster, record, folder
        self.values, self._stack = values, stack
        self._releases = {
            "baseline": Release("baseline", charts.namespace, PORT, "/health", InfrastructureError),
            "submission": Release("submission", charts.namespace, PORT, "/health", SubmissionError),
        }
        self._targets: dict[str, Target] = {}
        self._kept: list[str] = []
        self._scraper: scrape.Scraper | None = None
        self._alone: Alone | None = None
        self._calibrations = 0
        self._revision = 0
        self.start_seconds = 0.0
        """From the installation until both sides served."""

    def start(self, progress: Progress) -> None:
        """Installs both sides with one replica each, and warms them up once they serve; once is enough.

        Raises:
            InfrastructureError: the lab's own baseline does not come up.
            SubmissionError: the submission does not come up.
            ClusterError: Helm refuses the submission's values, or failed.
        """
        if self._targets:
            return
        begun = time.monotonic()
        progress("installing the chart as baseline")
        try:
            self._install("baseline", replicas=1)
        except ClusterError as error:
            raise InfrastructureError(f"the lab's own baseline cannot be installed: {error}") from error
        progress("installing the chart as submission")
        self._install("submission", replicas=1)
        # The baseline last: what is wrong with the submission is to be told first.
        releases = [self._releases["submission"], self._releases["baseline"]]
        self.pods.wait_until_serving(releases, seconds=START_SECONDS, progress=progress)
        self.start_seconds = time.monotonic() - begun
        for side, release in self._releases.items():
            address = self.pods.address(release)
            self._targets[side] = Target(host=address.host, port=address.port)
        for side in self._targets:
            self.run(side, "warm-up", arrivals.closed(8), within(progress, "warming up"), window=1.5)

    def trouble(self) -> Trouble:
        """What keeps the submission from serving, in a word."""
        return self.pods.trouble(self._releases["submission"])

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
        seed: int | None = None,
        requests: tuple[Request, ...] = (),
        happen: Callable[[], None] | None = None,
    ) -> Run:
        """Puts load on one side for `window` seconds and keeps what was seen as evidence.

        Args:
            side: "baseline" or "submission".
            name: of the evidence.
            schedule: when to send.
            progress: told what is being waited for.
            window: seconds that are measured.
            ramp: seconds before that.
            drain: seconds after it in which answers may come.
            seed: of the prompts; drawn where there is none.
            requests: what is sent; by default prompts of 64 tokens that ask for 64.
            happen: what is done to the server meanwhile; then each request opens a connection of its own, as each user
                does, so that none hangs on to a replica.
        """
        self.start(progress)
        seed = SEEDS.getrandbits(32) if seed is None else seed
        target = self._targets[side]
        if happen:
            target = msgspec.structs.replace(target, headers={"Connection": "close"})
        plan = Plan(
            target=target,
            requests=requests or completions(seed, len(schedule.times) or 200 * (schedule.streams or 1)),
            schedule=schedule,
            seed=seed,
            window=window,
            ramp=ramp,
            drain=drain,
        )
        if happen:
            run = run_during(plan, happen, enter=self._cluster.enter, folder=self._folder)
        else:
            run = load.run(plan, enter=self._cluster.enter, folder=self._folder, progress=progress)
        self._keep(f"{name}-{side}.jsonl.gz", run.encode())
        self._record.write("load", name=f"evidence/{name}-{side}.jsonl.gz", seed=seed, digest=run.digest)
        return run

    def observe(self, name: str, progress: Progress, measure: Callable[[], Run], *, every: float = 0.5) -> Observed:
        """A load on the submission between two scrapes of it, with more of them about each `every` seconds."""
        self.start(progress)
        with self._scrape().around(VLLM, every=every, seconds=IDLE_SECONDS) as window:
            run = measure()
        self._keep(f"{name}-scrapes.jsonl", window.scrapes.encode())
        lag = max(CLIENT_LAG, run.figures.loop_lag)
        found = crosscheck.compare(VLLM, window.scrapes, ledger([run]), client_lag=lag)
        evidence = (f"evidence/{name}-submission.jsonl.gz", f"evidence/{name}-scrapes.jsonl")
        return Observed(run, found, window.scrapes, evidence)

    @contextlib.contextmanager
    def gpu_watched(self, name: str) -> Iterator[list[Scrape]]:
        """What the exporter on the submission's node tells of its GPU meanwhile; nothing but at L3."""
        self.start(lambda _: None)
        traits = self._cluster.traits
        if (traits.level, traits.gpus) != ("L3", "real"):  # L1 may have real ones, and has no numbers for them
            yield []
            return
        nodes = self.pods.hosts(self._releases["submission"])
        seed = SEEDS.getrandbits(32)
        with gpu_scrape.watched(nodes, enter=self._cluster.enter, folder=self._folder, seed=seed) as found:
            yield found
        if found:
            self._keep(f"{name}-scrapes.jsonl", gpu_scrape.encoded(found))

    @property
    def pod(self) -> str:
        """The name of the submission's one replica, as long as performance is measured."""
        (name,) = self.pods.replicas(self._releases["submission"])
        return name

    def alone(self, name: str, progress: Progress) -> Alone:
        """Measures the starter's configuration with one user; up to twice again, for longer, where it says little."""
        window = ALONE_SECONDS
        for again in AGAIN:
            run = self.run("baseline", name + again, arrivals.closed(1), progress, ramp=0.5, window=window)
            if run.incomplete or (len(paced(run)) >= FEWEST and not run.client_limits()):
                break
            window *= 2
        refuse_broken(run)
        self._alone = alone_of(run)
        return self._alone

    def alone_last(self, progress: Progress) -> Alone:
        """The same, as it was measured last, if it was."""
        if self._alone is not None:
            return self._alone
        self._calibrations += 1  # a name of its own for each try: what a broken one left behind stays
        return self.alone(f"alone-{self._calibrations}", progress)

    def upgrade(self, seconds: float, progress: Progress) -> float:
        """Replaces the submission's one pod, and waits; returns how long that took in seconds.

        Raises:
            SubmissionError: it was not done within `seconds`.
            ClusterError: Helm failed.
        """
        release = self._releases["submission"]
        before = self.pods.replicas(release)
        self._revision += 1
        self._record.write("event", what="the submission is upgraded")
        self._install("submission", replicas=1)
        return self.pods.wait_until_replaced(release, before, 1, seconds=seconds, progress=progress)

    def settle(self, progress: Progress) -> None:
        """Waits until the submission serves again after an upgrade that was not done in time."""
        self.pods.wait_until_serving([self._releases["submission"]], seconds=START_SECONDS, progress=progress)

    def all_replicas(self, progress: Progress) -> list[str]:
        """Gives the submission all its replicas, and waits; returns the names of its pods, which are ready.

        Raises:
            SubmissionError: they were not ready in time.
            ClusterError: Helm failed.
        """
        self.start(progress)
        self.stop_baseline(progress)
        release = self._releases["submission"]
        self._install("submission")
        count = int(self.values["submission"]["replicaCount"])
        self.pods.wait_until_replaced(release, (), count, seconds=START_SECONDS, progress=progress)
        self.settle(progress)
        return sorted(self.pods.replicas(release))

    def kill(self, pod: str) -> None:
        """Takes one of the submission's pods away."""
        self._record.write("event", what=f"the pod {pod} is deleted without grace", warning=True)
        self.pods.kill(self._releases["submission"], pod)

    def stop_baseline(self, progress: Progress) -> None:
        """Ends the baseline, whose place an upgrade needs; what it did alone is kept."""
        self.alone_last(progress)
        self._install("baseline", replicas=0)

    def kept(self, prefix: str) -> tuple[str, ...]:
        """Names of the evidence so far that begin like that."""
        return tuple(f"evidence/{name}" for name in self._kept if name.startswith(prefix))

    def _keep(self, name: str, content: bytes) -> None:
        self._kept.append(name)
        self._record.keep(name, content)

    def _install(self, side: str, *, replicas: int | None = None) -> None:
        changes: dict[str, Any] = {} if replicas is None else {"replicaCount": replicas}
        # A variable that nobody reads makes new pods of old ones.
        changes["env"] = {"REVISION": str(self._revision)} if side == "submission" else {}
        self._charts.install(side, CHART, {**self.values[side], **changes})

    def _scrape(self) -> scrape.Scraper:
        if self._scraper is None:
            replicas = self.pods.replicas(self._releases["submission"])
            places = {name: Place(host=each.host, port=each.port) for name, each in replicas.items()}
            self._scraper = self._stack.enter_context(
                scrape.Scraper(
                    places,
                    enter=self._cluster.enter,
                    folder=self._folder,
                    brief=VLLM.brief,
                    seed=SEEDS.getrandbits(32),
                )
            )
        return self._scraper


def completions(
    seed: int, count: int, *, prompt_tokens: int = PROMPT_TOKENS, output_tokens: int = OUTPUT_TOKENS
) -> tuple[Request, ...]:
    """Requests to the lab's model whose prompts all differ."""
    return workload.completions(
        seed=seed, count=count, ids=IDS, prompt_tokens=prompt_tokens, output_tokens=output_tokens, model=MODEL
    )


def paced(run: Run) -> list[Answer]:
    """The answers that came token by token: one that came in a burst has no pace of its own."""
    return [answer for answer in run.measured if answer.good]


def alone_of(run: Run) -> Alone:
    """What the starter did for one user; raises InfrastructureError when too little came token by token."""
    good = paced(run)
    if len(good) < FEWEST:
        raise InfrastructureError(
            f"the starter, which the lab compares with, gave one user {len(run.measured)} answers in "
            f"{run.plan.window:g} s, of which {len(good)} came token by token; measure again while the machine is quiet"
        )
    # By the time that one takes: how many end in so short a window depends on when the first begins.
    rate = 1 / statistics.fmean(answer.e2e for answer in good)
    tpot = statistics.median(answer.tpot for answer in good if answer.tpot is not None)
    return Alone(statistics.median(answer.ttft for answer in good), tpot, rate, tuple(run.client_limits()))


def are_few(run: Run) -> bool:
    """Whether the baseline does its part, and answered too few requests to compare with: a longer window may help."""
    return not run.incomplete and len(run.measured) < FEWEST


def refuse_broken(run: Run) -> None:
    """Raises InfrastructureError when the lab's own baseline failed while it was measured."""
    if run.incomplete or are_few(run):
        said = next(iter(run.wrong()), f"it answered {len(run.measured)} requests in {run.plan.window:g} s")
        raise InfrastructureError(f"the baseline, which the lab compares with, failed: {said}")
