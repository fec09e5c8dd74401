"""The training that is replayed: whether it completes, is one run, reads each sample once, and computes what it should.

Place: test_ddp.py measures with these, one function a check, all of one training; what they return is judged in
`proof_facts`. Limits: small and in float64, so that a replay in one process takes less than a second.
"""

import hashlib
import time
from collections.abc import Sequence
from typing import Literal

from clusters.api import Progress, within
from ddp_lab import replay
from ddp_lab.bench import SEEDS, Bench
from ddp_lab.events import Event, Story
from ddp_lab.proof_facts import (
    Completed,
    EpochRead,
    Mathematics,
    Member,
    OneRun,
    Replica,
    Replicas,
    SamplesRead,
    Step,
    unreported,
)
from ddp_lab.runs import JobSpec, RunSpec, proof
from ddp_lab.truth import Truth
from graders.check import Check

EXTRA_SECONDS = 5.0


class Proof:
    """One training of a submission and what was seen of it; made again when its first check is measured again."""

    def __init__(self, check: Check, bench: Bench, progress: Progress, number: int) -> None:
        self._bench, self.name = bench, f"proof-{number}"
        self.spec: RunSpec = proof(SEEDS)
        self.world = int(check.threshold("world_size"))
        say = within(progress, "proof")
        bench.begin(say)  # the data service, which is not the submission's
        begun = time.monotonic()
        bench.launch(self.name, self.spec, say)
        limit = check.threshold("run_seconds") + EXTRA_SECONDS
        self.story, self.job = bench.wait_for_end(self.name, say, seconds=limit)
        self.seconds = time.monotonic() - begun
        self.words = "" if self.job.ended == "Complete" else bench.trainers.last_words(self.name)
        if self.job.ended is None:
            bench.trainers.end(self.name)

    def completed(self) -> Completed:
        """How it ended."""
        steps = self.spec.job.steps
        if self.job.ended == "Complete":
            done = max((event.step for event in self.story.of("report")), default=-1) + 1
            if done >= steps:
                return Completed(seconds=self.seconds, steps=steps, evidence=self._evidence)
            return unreported(done, steps, self._evidence)
        what = self._bench.describe(self.name, self.story)
        ended = self.job.ended == "Failed"
        how = f"the Job failed: {self.job.why}" if ended else f"nothing came of it within {self.seconds:.0f} s"
        kind: Literal["ending", "stuck"] = "ending" if ended else "stuck"
        said = f"{how}; {what}{self._refused()}{self.words}"
        return Completed(seconds=None, steps=steps, problem=said, kind=kind, evidence=self._evidence)

    def one_run(self) -> OneRun:
        """Who took part."""
        last = {event.uid: event for event in self.story.of("join")}
        return OneRun(
            members=tuple(self._member(event, last) for event in last.values()),
            strange=tuple(self._bench.strange(self.name, self.story)),
            evidence=self._evidence,
        )

    def samples(self) -> SamplesRead:
        """Who read what."""
        return samples_read(self.story, self.spec.job, self.world, self._evidence)

    def mathematics(self) -> Mathematics:
        """Losses and final weights beside those of one process that trains on the same samples in the same steps."""
        true, losses, job = self._replayed(), self.story.losses(), self.spec.job
        steps = tuple(
            Step(step, tuple(said for _, said in sorted(losses[step].items())), loss)
            for step, loss in enumerate(true.losses)
            if len(losses.get(step, {})) == self.world
        )
        ended = {event.rank for event in self.story.of("finish")} if len(true.losses) == job.steps else set()
        weights = tuple(
            replay.error(self.spec, self._weights(rank, "finish"), true.weights[job.steps - 1])
            if rank in ended
            else None
            for rank in range(self.world)
        )
        return Mathematics(steps=steps, planned=job.steps, weights=weights, evidence=self._evidence)

    def replicas(self) -> Replicas:
        """Weights in passing."""
        true, seen, unread = self._replayed(), [], []
        for step in self.spec.weights_at:
            given = {event.rank: event.digest for event in self.story.of("weights") if event.step == step}
            if step not in true.weights:
                unread.append(step)
                continue
            if not given:
                continue
            error = max(replay.error(self.spec, self._weights(rank, step), true.weights[step]) for rank in given)
            seen.append(Replica(step=step, digests=tuple(each for _, each in sorted(given.items())), error=error))
        return Replicas(
            asked=self.spec.weights_at,
            ranks=self.world,
            seen=tuple(seen),
            unread=tuple(unread),
            evidence=self._evidence,
        )

    @property
    def _evidence(self) -> tuple[str, ...]:
        return (f"evidence/{self.name}-ledger.jsonl.gz",)

    def _replayed(self) -> Truth:
        """Of the steps from the first one on that all ranks did."""
        return replay.replayed(self.spec, self.story.order(self.world)[: self.spec.job.steps], self.spec.weights_at)

    def _weights(self, rank: int, step: int | str) -> bytes:
        return self._bench.control.weights(self.name, rank, step)

    def _member(self, event: Event, last: dict[str, Event]) -> Member:
        pod = self._bench.trainers.seen.get(event.uid)
        tickets = {each.ticket: each.rank for each in last.values()}
        met: set[int] = set()
        backend = None
        for introduced in self.story.of("introduce"):
            if introduced.uid == event.uid:
                backend = introduced.backend
                met |= {tickets[said] for each in introduced.members if (said := str(each.get("ticket"))) in tickets}
        return Member(
            pod=pod.name if pod else event.uid or event.ip,
            known=pod is not None and pod.ip == event.ip,
            node=pod.node if pod else "",
            gpus=pod.gpus if pod else 0,
            rank=event.rank,
            world=event.world,
            met=tuple(sorted(met)),
            backend=backend,
        )

    def _refused(self) -> str:
        refused = next(iter(self.story.of("refused")), None)
        return f"; the data service refused {refused.what}: {refused.why}" if refused else ""


def samples_read(story: Story, job: JobSpec, world: int, evidence: tuple[str, ...]) -> SamplesRead:
    """What the ledger tells of who read what: reads that no step counts are in `flood`, each of them once."""
    read = story.batches(world)
    counts = [0] * world
    for event in story.of("batch"):
        if 0 <= event.rank < world:
            counts[event.rank] += len(event.indices)
    whole = sum(counts)
    return SamplesRead(
        samples=job.samples,
        epochs=epochs_read(job, [read.get(step, ()) for step in range(job.steps)]),
        shares=tuple(count / max(whole, 1) for count in counts),
        flood=max(whole - sum(map(len, read.values())), 0),
        evidence=evidence,
    )


def epochs_read(job: JobSpec, steps: Sequence[Sequence[int]]) -> tuple[EpochRead, ...]:
    """What was read in each whole epoch, of the samples of each step from the first one on."""
    found = []
    for epoch in range(len(steps) // job.steps_per_epoch):
        inside = steps[epoch * job.steps_per_epoch : (epoch + 1) * job.steps_per_epoch]
        order = [index for step in inside for index in step]
        # Within a step no order counts: the same batches with their samples turned round are the same epoch.
        digest = hashlib.sha256(repr([sorted(step) for step in inside]).encode()).hexdigest()[:16]
        found.append(EpochRead(missing=job.samples - len(set(order)), twice=len(order) - len(set(order)), order=digest))
    return tuple(found)
