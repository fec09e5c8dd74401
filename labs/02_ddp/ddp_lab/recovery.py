"""A training that loses a process while it saves, then a pod, then a node, and goes on.

Place: test_ddp.py measures with these, two checks of one training; what they return is judged in `recovery_facts`.
Limits: nodes are lost where the cluster can lose them; whoever has a file in the folder of checkpoints open is saving.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from clusters.api import ElasticNodes, Progress, within
from ddp_lab import replay
from ddp_lab.aftermath import loss_of
from ddp_lab.bench import SEEDS, Bench
from ddp_lab.events import Event, Story
from ddp_lab.proof import epochs_read
from ddp_lab.proof_facts import Step
from ddp_lab.recovery_facts import Loss, Recovery, What
from ddp_lab.runs import recovery
from ddp_lab.trainers import Trainer
from ddp_lab.truth import Truth
from graders.check import Check
from graders.errors import SubmissionError

EPOCHS, PACE_SECONDS, CHECKPOINT_EVERY = 11, 0.15, 5
START_SECONDS = 60.0
Part = Literal["process", "pods"]
SAVE_PATIENCE = 5.0
SHARED = {"checkpoints": {"shared": True}}
"""Values of a release whose pods have one volume for checkpoints; in all other runs ranks share only the network."""
BETWEEN = 7
"""Steps that are done between two losses, so that there is a checkpoint of its own for each."""


class Broken:
    """A training that is disturbed."""

    def __init__(self, check: Check, bench: Bench, progress: Progress, name: str) -> None:
        self._check, self._bench, self._say = check, bench, within(progress, "recovery")
        self.name, self._world = name, int(check.threshold("world_size"))
        self._complete: bool | None = None
        self._looks: list[tuple[float, Callable[[Story], Loss]]] = []
        """Of each loss when it was, and what a story tells of it."""
        self._spec = recovery(SEEDS, epochs=EPOCHS, pace_seconds=PACE_SECONDS, checkpoint_every=CHECKPOINT_EVERY)
        bench.clear(self._say)
        bench.launch(self.name, self._spec, self._say, changes=SHARED)

    def process(self) -> Recovery:
        """Kills the process that saves, whichever rank's it is; rank 0's where none has a checkpoint open in time."""
        found: list[Loss] = []
        try:
            self._until_step(CHECKPOINT_EVERY + SEEDS.randint(1, 3), START_SECONDS)
            story = self._story()
            joins = [self._of_rank(story, rank) for rank in range(self._world)]
            self._say("killing the process that saves")
            processes = [(trainer, join.pid) for join, trainer in joins]
            saving = self._bench.trainers.kill_in_a_save(processes, patience=SAVE_PATIENCE)
            rank = saving[0] if saving else 0
            join, trainer = joins[rank]
            if not saving:
                self._bench.trainers.kill(trainer, join.pid)
            # The kill takes place in the pod, some time after it is asked for: its time is that of the last event
            # of the process that was killed.
            found.append(self._after("process", rank, self._last_of(join), uid=join.uid, saving=bool(saving)))
            if found[-1].first is not None:  # who begins from the start after one new step is seen to
                self._until_step(found[-1].step + BETWEEN, START_SECONDS)
            self._bench.refuse_strange(self.name, self._story())
        except SubmissionError as problem:
            return self._ended(Recovery(losses=tuple(found), problem=str(problem)), "process")
        return self._finding(found, "process")

    def pods(self) -> Recovery:
        """Deletes a pod, loses a node, and waits for the end."""
        found: list[Loss] = []
        try:
            for what in self._kinds():
                self._until_step(self._story().done(self._world) + BETWEEN, START_SECONDS)
                found.append(self._lose(what, SEEDS.randrange(self._world)))
                if found[-1].first is None:
                    break
            else:
                _, job = self._bench.wait_for_end(self.name, self._say, seconds=self._rest())
                self._complete = job.ended == "Complete"
            self._bench.refuse_strange(self.name, self._story())
        except SubmissionError as problem:
            return self._ended(Recovery(losses=tuple(found), problem=str(problem)), "pods")
        return self._finding(found, "pods")

    def _kinds(self) -> list[What]:
        return ["pod", "node"] if isinstance(self._bench.cluster, ElasticNodes) else ["pod"]

    def _rest(self) -> float:
        return START_SECONDS + self._spec.job.steps * PACE_SECONDS * 2

    def _lose(self, what: What, rank: int) -> Loss:
        _, trainer = self._of_rank(self._story(), rank)
        at = self._bench.control.now(self.name)
        if what == "pod":
            self._say(f"deleting {trainer.name} without grace")
            self._bench.trainers.delete(trainer)
            return self._after(what, rank, at)
        nodes = self._bench.cluster
        assert isinstance(nodes, ElasticNodes)
        self._say(f"losing the node {trainer.node} with {trainer.name}")
        nodes.lose(trainer.node)
        try:
            return self._after(what, rank, at)
        finally:
            nodes.heal(trainer.node)

    def _after(self, what: What, rank: int, at: float, *, uid: str = "", saving: bool = False) -> Loss:
        """Waits for a new step after a loss at that time of the service, and says what came when."""
        limit = self._check.threshold(f"{what}_seconds") + START_SECONDS / 4

        def seen(story: Story) -> Loss:
            return loss_of(story, what, rank, at, world=self._world, uid=uid, saving=saving)

        self._looks.append((at, seen))
        story, _ = self._bench.follow(self.name, lambda story: seen(story).first is not None, self._say, seconds=limit)
        found = seen(story)
        if found.first is not None:
            return found
        problem = f"; {self._bench.describe(self.name, story)}{self._bench.trainers.last_words(self.name)}"
        return msgspec.structs.replace(found, problem=problem)

    def _last_of(self, join: Event) -> float:
        events = self._story().events
        following = next(
            (each.n for each in events if each.kind == "join" and each.n > join.n and each.uid == join.uid), None
        )
        own = [each.t for each in events if each.uid == join.uid and (following is None or each.n < following)]
        return max(own)

    def _until_step(self, step: int, seconds: float) -> None:
        story, ended = self._bench.follow(
            self.name, lambda story: story.done(self._world) >= step, self._say, seconds=seconds
        )
        if story.done(self._world) < step:
            when = "before the Job ended" if ended else f"within {seconds:.0f} s"
            what = self._bench.describe(self.name, story)
            words = self._bench.trainers.last_words(self.name)
            raise SubmissionError(f"step {step} was not done by {self._world} ranks {when}: {what}{words}")

    def _of_rank(self, story: Story, rank: int) -> tuple[Event, Trainer]:
        here = {each.uid: each for each in self._bench.trainers.of(self.name)}
        for event in reversed(tuple(story.of("join"))):
            if event.rank == rank and event.uid in here:
                return event, here[event.uid]
        raise SubmissionError(
            f"whoever joined {self.name} as rank {rank} is none of its pods; let each rank say its own pod's uid"
        )

    def _story(self) -> Story:
        return self._bench.control.story(self.name)

    def _seen_since(self, story: Story, losses: Sequence[Loss]) -> tuple[Loss, ...]:
        """The last of the losses, each with all that came until the next one: steps are also done again later."""
        looks = self._looks[-len(losses) :]
        ends = [at for at, _ in looks[1:]] + [math.inf]
        since = [seen(story.until(end)) for (_, seen), end in zip(looks, ends, strict=True)]
        return tuple(
            msgspec.structs.replace(loss, again=later.again) for loss, later in zip(losses, since, strict=True)
        )

    def _finding(self, losses: list[Loss], part: Part) -> Recovery:
        whole = part == "pods"
        story = self._story()
        said, order = story.losses(), story.order(self._world)[: self._spec.job.steps]
        true = replay.replayed(self._spec, order)
        steps = tuple(
            Step(step, tuple(each for _, each in sorted(said[step].items())), loss)
            for step, loss in enumerate(true.losses)
        )
        drawn, expected = story.draws(), replay.draws(self._spec, len(order))
        right = sum(set(drawn.get(step, {}).values()) == {number} for step, number in enumerate(expected))
        read = epochs_read(self._spec.job, order)
        found = Recovery(
            losses=self._seen_since(story, losses),
            steps=steps,
            draws=(right, len(expected)),
            planned=self._spec.job.steps if whole else 0,
            missing=sum(each.missing for each in read),
            twice=sum(each.twice for each in read),
            weights=self._final(true) if whole and len(order) == self._spec.job.steps else None,
            complete=self._complete,
        )
        over = whole or any(loss.first is None for loss in losses)
        return self._ended(found, part) if over else self._with_evidence(found, part)

    def _final(self, true: Truth) -> float:
        """The largest error of any rank's final weights; infinite where one handed in none."""
        end = true.weights[self._spec.job.steps - 1]
        given = (self._bench.control.weights(self.name, rank, "finish") for rank in range(self._world))
        return max(replay.error(self._spec, each, end) for each in given)

    def _ended(self, found: Recovery, part: Part) -> Recovery:
        """Ends the training; what was seen is kept."""
        found = self._with_evidence(found, part)
        self._bench.trainers.end(self.name)
        return found

    def _with_evidence(self, found: Recovery, part: Part) -> Recovery:
        name = self._bench.keep(self.name, self._story(), part)
        return msgspec.structs.replace(found, evidence=(name,))
