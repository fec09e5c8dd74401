"""The data service and every training of one grading: what all checks of 02_ddp work with.

Place: the fixture of test_ddp.py makes one `Bench` per run. Limits: trainings share the machine's processors, so those
that are timed compute in turns; a training is a Helm release of the chart ddp, which is named as its run.
"""

import contextlib
import random
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import kubernetes

from clusters.api import Charts, Cluster, Progress
from ddp_lab.control import Control
from ddp_lab.events import Story
from ddp_lab.runs import RunSpec, placed
from ddp_lab.sides import IMAGE
from ddp_lab.trainers import Job, Trainers
from graders import gpu_scrape
from graders.allowance import layered
from graders.errors import InfrastructureError, SubmissionError
from graders.lines import encoded
from graders.record import Record
from graders.sampler import Scrape

SEEDS = random.SystemRandom()
"""Drawn anew in each run, so that no answer can be tuned to them; each is kept in the record."""
SERVICE_SECONDS = 60.0
PENDING_SECONDS = 30.0
BARE_SECONDS = 10.0
"""In which a node has made a pod's sandbox by far; images are fetched after it."""
LOOK_SECONDS = 1.0
"""Between two looks at the Job and the pods of a training that is followed: they take time of those that are timed."""
LIBRARY = "ddplab.py"
OWN = ("yardstick.py", "bandwidth.py")
"""The lab's own trainings."""


class Bench:
    """Starts trainings and follows them.

    Args:
        charts: Helm.
        client: the official Kubernetes client.
        cluster: which they run on.
        record: where evidence is kept.
        lab: the lab's folder.
        values: of releases of the "submission" and of the "lab", but for their files.
        script: the submission's train.py.
    """

    def __init__(
        self,
        charts: Charts,
        client: kubernetes.client.ApiClient,
        cluster: Cluster,
        record: Record,
        lab: Path,
        values: Mapping[str, Mapping[str, Any]],
        script: str,
    ) -> None:
        self._charts, self.cluster, self._record, self._lab = charts, cluster, record, lab
        self._values, self._script = values, script
        self._token = secrets.token_hex(16)
        self.control = Control(client, charts.namespace, self._token)
        self.trainers = Trainers(client, charts.namespace)
        self.specs: dict[str, RunSpec] = {}
        self._homeless: dict[str, float] = {}  # since when a pod was seen without a node, by its uid
        self._bare: dict[str, float] = {}  # as much without a sandbox
        self._kept: list[str] = []
        self._begun = False

    @property
    def on_gpus(self) -> bool:
        """Whether trainings compute on GPUs: at L3 only, as elsewhere some pods may have real ones and others none."""
        return (self.cluster.traits.level, self.cluster.traits.gpus) == ("L3", "real")

    def begin(self, progress: Progress) -> None:
        """Starts the data service; once is enough.

        Raises:
            InfrastructureError: it does not come up.
        """
        if self._begun:
            return
        progress("starting the data service")
        pods = self._lab / "pods"
        files = {path.name: path.read_text() for path in sorted(pods.glob("*.py")) if path.name not in (LIBRARY, *OWN)}
        self._charts.install("data", "ddp-data", {"image": IMAGE, "files": files, "controlToken": self._token})
        self.control.wait(SERVICE_SECONDS)
        self._begun = True

    def launch(self, run: str, spec: RunSpec, progress: Progress, *, changes: Mapping[str, Any] | None = None) -> None:
        """Starts a training of the submission.

        Args:
            run: its name, which no other one has had.
            spec: what its pods are told.
            progress: told what is being done.
            changes: values of this run that are not the submission's; mappings are joined.
        """
        self._install(run, spec, progress, self._script, layered(self._values["submission"], changes or {}))

    def launch_own(
        self, run: str, spec: RunSpec, progress: Progress, *, ranks: int, script: str = "yardstick.py"
    ) -> None:
        """Starts a training of the lab's own on so many ranks, by default that which submissions are timed against."""
        torchrun = {"nnodes": ranks, "rdzvBackend": "c10d", "rdzvEndpoint": True, "maxRestarts": 0}
        values = layered(self._values["lab"], {"workers": ranks, "threads": 1, "torchrun": torchrun})
        self._install(run, spec, progress, (self._lab / "pods" / script).read_text(), values)

    def clear(self, progress: Progress) -> None:
        """Ends every training that still has pods, whose devices and processors others need."""
        for run in self.specs:
            if self.trainers.of(run):
                progress(f"ending the training {run}")
                self.trainers.end(run)

    def _install(self, run: str, spec: RunSpec, progress: Progress, script: str, values: Mapping[str, Any]) -> None:
        self.begin(progress)
        self.specs[run] = spec = placed(spec, on_gpus=self.on_gpus)
        self._record.write("training", run=run, spec=spec)
        self.control.create(run, spec)
        files = {"train.py": script, LIBRARY: (self._lab / "pods" / LIBRARY).read_text()}
        progress(f"starting the training {run}")
        self._charts.install(run, "ddp", layered(values, {"files": files}))

    def wait_for_end(self, run: str, progress: Progress, *, seconds: float) -> tuple[Story, Job]:
        """Follows a training until its Job has ended or time is up; `Job.ended` is None then.

        Raises:
            InfrastructureError: no node takes its pods, or a node makes no sandbox for one.
        """
        story, _ = self.follow(run, lambda _: False, progress, seconds=seconds, every=0.2)
        self.keep(run, story)
        return story, self.trainers.job(run)

    def follow(
        self, run: str, done: Callable[[Story], bool], progress: Progress, *, seconds: float, every: float = 0.1
    ) -> tuple[Story, bool]:
        """Follows a training until its story is `done`, its Job has ended or time is up; the last says whether."""
        looked, ended = 0.0, False

        def look(story: Story) -> None:
            nonlocal looked, ended
            if time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                self.refuse_stuck(run)
                ended = self.trainers.job(run).ended is not None
                progress(self.describe(run, story))

        return self.control.follow(run, lambda story: ended or done(story), seconds=seconds, every=every, look=look)

    def refuse_stuck(self, run: str) -> None:
        """Raises InfrastructureError where a pod gets no node, or from its node no sandbox, for long."""
        now = time.monotonic()
        for each in self.trainers.of(run):
            waiting = not each.node and not each.leaving
            if waiting and now - self._homeless.setdefault(each.uid, now) > PENDING_SECONDS:
                raise InfrastructureError(f"no node takes {each.name} of {run} after {PENDING_SECONDS:.0f} s")
            if each.bare and now - self._bare.setdefault(each.uid, now) > BARE_SECONDS:
                raise InfrastructureError(
                    f"the node {each.node} has made no sandbox for {each.name} in {BARE_SECONDS:.0f} s; "
                    "evidence/cluster/events.jsonl of the run says why"
                )

    def strange(self, run: str, story: Story) -> list[str]:
        """Events of a training that nobody could send who is what he says, a phrase each."""
        self.trainers.of(run)
        pods = self.trainers.seen.values()
        names = {ip: each.name for each in pods for ip in self.trainers.addresses[each.uid]}
        homes = {each.uid: self.trainers.addresses[each.uid] for each in pods if each.run == run}
        return [
            f"a {each.kind} as rank {each.rank} of {run} came from {names.get(each.ip, each.ip)}"
            for each in story.strange(homes)
        ]

    def refuse_strange(self, run: str, story: Story) -> None:
        """Raises SubmissionError where a training's ledger has events that others sent."""
        if found := self.strange(run, story):
            raise SubmissionError(f"{found[0]} ({len(found)} such events); let each rank speak for itself only")

    def describe(self, run: str, story: Story) -> str:
        """Where a training is, in a few words."""
        done = max((event.step for event in story.of("report")), default=-1) + 1
        pods = [f"{each.phase}{', leaving' if each.leaving else ''}" for each in self.trainers.of(run)]
        return f"{run}: {done} of {self.specs[run].job.steps} steps, pods: {', '.join(pods) or 'none'}"

    @contextlib.contextmanager
    def gpus_watched(self, run: str, hosts: Sequence[str]) -> Iterator[list[Scrape]]:
        """What the exporters on the nodes of these addresses tell meanwhile; kept as evidence."""
        with tempfile.TemporaryDirectory(prefix="gpus-") as place:
            enter, seed = self.cluster.enter, SEEDS.getrandbits(32)
            with gpu_scrape.watched(hosts, enter=enter, folder=Path(place), seed=seed) as found:
                yield found
        if found:
            self._keep(f"{run}-scrapes.jsonl", gpu_scrape.encoded(found))

    def keep(self, run: str, story: Story, part: str = "") -> str:
        """Keeps the ledger of a training so far as evidence; returns its name, which has `part` in it."""
        name = f"{run}{part and '-'}{part}-ledger.jsonl.gz"
        return self._keep(name, b"".join(encoded(event) + b"\n" for event in story.events))

    def kept(self, prefix: str) -> tuple[str, ...]:
        """Names of the evidence so far of runs whose names begin like that."""
        return tuple(name for name in self._kept if name.startswith(f"evidence/{prefix}"))

    def _keep(self, name: str, content: bytes) -> str:
        self._record.keep(name, content)
        self._kept.append(f"evidence/{name}")
        return self._kept[-1]
