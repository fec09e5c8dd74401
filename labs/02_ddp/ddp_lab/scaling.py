"""The submission's training beside the lab's own on two ranks and on one, in turns: bytes and time of a step.

Place: test_ddp.py measures with these, two checks of the same turns; what they return is judged in `scaling_facts`.
Limits: a side that has no turn waits for its samples, and computes nothing; all sides hold their memory.
"""

from collections.abc import Mapping, Sequence

import msgspec

from clusters.api import Progress, within
from ddp_lab import replay
from ddp_lab.bench import SEEDS, Bench
from ddp_lab.counted import Counted, Meanwhile
from ddp_lab.events import Story
from ddp_lab.proof import epochs_read
from ddp_lab.runs import RunSpec, scaling
from ddp_lab.scaling_facts import Turn, Turns
from ddp_lab.trainers import Counting, Trainer
from graders.check import Check
from graders.errors import InfrastructureError, SubmissionError

WARM_UP = 3
"""Steps before anything is measured: memory is touched, connections are made."""
MICRO_BATCHES = 2
LOOK_SECONDS = 0.3
"""Between two looks at a turn: each takes a little of the processors that are being timed."""
ORDERS = (("single", "reference", "submission"), ("submission", "reference", "single"))


class Race:
    """Three trainings that compute in turns."""

    def __init__(self, check: Check, bench: Bench, progress: Progress, name: str) -> None:
        self._bench, self._say = bench, within(progress, "scaling")
        self.ranks = int(check.threshold("world_size"))
        self._steps, self._pairs = int(check.threshold("scaling_steps")), int(check.threshold("scaling_pairs"))
        self._turn_seconds = check.threshold("scaling_turn_seconds")
        planned = WARM_UP + self._steps * self._pairs
        self._specs: dict[str, RunSpec] = {}
        self._names: dict[str, str] = {}
        self._opened: dict[str, float] = {}
        """When each side was given its turn, in the service's seconds."""
        self._counting: dict[str, Counting] = {}
        """What is counted in the submission's pods since the end of its last turn, or of the first steps."""
        for side in ORDERS[0]:
            spec = scaling(SEEDS, ranks=self._ranks(side), micro_batches=MICRO_BATCHES, steps=planned)
            # Weights are asked for before the first turn and after each: which of them is replayed is drawn later.
            asked = tuple(range(WARM_UP - 1, planned, self._steps))
            self._specs[side] = msgspec.structs.replace(spec, weights_at=asked)
            self._names[side] = f"{name}-{side}"
        used = check.run.beside.begin()
        self.turns = self._run()
        self.others = used()
        """Cores that other programs used meanwhile; None where that is not known."""

    def _run(self) -> Turns:
        job = self._specs["submission"].job
        begin = Turns(
            steps=self._steps,
            ranks=self.ranks,
            gradient_bytes=job.gradient_bytes,
            batch=job.batch,
            samples=job.samples,
            turns=(),
        )
        try:
            found = self._measured(begin)
        except SubmissionError as problem:
            found = msgspec.structs.replace(begin, problem=str(problem))
        finally:
            evidence = tuple(self._bench.keep(name, self._bench.control.story(name)) for name in self._launched())
            for each in self._counting.values():
                each.close()
            for name in self._launched():
                self._bench.trainers.end(name)
        return msgspec.structs.replace(found, evidence=evidence)

    def _measured(self, begin: Turns) -> Turns:
        """All turns, and what the submission did in them."""
        self._start()
        turns = tuple(self._pair(number) for number in range(self._pairs))
        read = self._bench.control.story(self._names["submission"]).batches(self.ranks)
        drawn = SEEDS.randrange(self._pairs)
        error, leap = self._replayed(read, drawn), self._leap(drawn)
        measured = range(WARM_UP, WARM_UP + self._steps * self._pairs)
        fewest = min(len(set(read.get(step, ()))) for step in measured)
        epochs = epochs_read(self._specs["submission"].job, [read.get(step, ()) for step in range(measured.stop)])
        unread = max((each.missing for each in epochs), default=0)
        return msgspec.structs.replace(begin, turns=turns, error=error, leap=leap, fewest=fewest, unread=unread)

    def _ranks(self, side: str) -> int:
        return 1 if side == "single" else self.ranks

    def _launched(self) -> list[str]:
        return [name for name in self._names.values() if name in self._bench.specs]

    def _start(self) -> None:
        self._bench.clear(self._say)
        for side, name in self._names.items():
            if side == "submission":
                self._bench.launch(name, self._specs[side], self._say)
            else:
                self._bench.launch_own(name, self._specs[side], self._say, ranks=self._ranks(side))
        for side in self._names:
            self._steps_done(side, 0, WARM_UP, seconds=self._turn_seconds * 4)
        self._begin_count()

    def _pair(self, number: int) -> dict[str, Turn]:
        first = WARM_UP + number * self._steps
        found = {}
        for side in ORDERS[number % 2]:
            self._say(f"pair {number + 1} of {self._pairs}, {side}")
            found[side] = self._turn(side, first)
        return found

    def _turn(self, side: str, first: int) -> Turn:
        count, last = side == "submission", first + self._steps - 1
        waits, before = self._end_count() if count else ([], {})
        self._steps_done(side, first, first + self._steps, seconds=self._turn_seconds)
        story = self._bench.control.story(self._names[side])
        self._bench.refuse_strange(self._names[side], story)
        after = self._begin_count() if count else {}
        # From when the turn was given, not from what a rank asks for first, which is its to choose; and not with the
        # reports, which cost nothing: whoever has the weights has computed them.
        ended = max(each.t for each in story.of("weights") if each.step == last)
        asked = self._uploaded(story, first)
        return Turn(
            seconds=ended - self._opened[side],
            sent=tuple(after[uid].sent - before[uid].sent - asked.get(uid, 0) for uid in after if uid in before),
            cpu=tuple(after[uid].cpu - before[uid].cpu for uid in after if uid in before),
            idle=max((each.cores for each in waits), default=None),
            idle_sent=max((each.sent for each in waits), default=None),
            idle_ended=max((each.ended for each in waits), default=None),
        )

    def _uploaded(self, story: Story, first: int) -> Mapping[str, int]:
        """Bytes of the weights that came from each pod in a turn."""
        last = first + self._steps - 1
        return {each.uid: each.bytes for each in story.of("weights") if each.step == last}

    def _steps_done(self, side: str, first: int, end: int, *, seconds: float) -> None:
        """Lets a side do its steps, and waits until all its ranks have handed in their weights after the last.

        Raises:
            SubmissionError: the submission did not do them in time.
            InfrastructureError: the lab's own training did not.
        """
        name = self._names[side]
        ranks = self._ranks(side)

        def done(story: Story) -> bool:
            handed = {each.rank for each in story.of("weights") if each.step == end - 1}
            return len(handed) >= ranks

        self._opened[side] = self._bench.control.turn(name, end)
        story, ended = self._bench.follow(name, done, self._say, seconds=seconds, every=LOOK_SECONDS)
        if not ended or not done(story):
            when = "before the Job ended" if ended else f"within {seconds:.0f} s"
            what = self._bench.describe(name, story)
            said = f"steps {first} to {end - 1} were not done {when}: {what}"
            kind = SubmissionError if side == "submission" else InfrastructureError
            raise kind(f"{side}: {said}{self._bench.trainers.last_words(name)}")

    def _begin_count(self) -> dict[str, Counted]:
        """Counts in the submission's pods, in the order of ranks, and stays there until its next turn."""
        name = self._names["submission"]
        pods: dict[str, Trainer] = {each.uid: each for each in self._bench.trainers.of(name)}
        ranks = {each.uid: each.rank for each in self._bench.control.story(name).of("join")}
        for uid in sorted((uid for uid in pods if uid in ranks), key=lambda uid: ranks[uid]):
            self._counting[uid] = self._bench.trainers.begin_count(pods[uid])
        return {uid: each.begun for uid, each in self._counting.items()}

    def _end_count(self) -> tuple[list[Meanwhile], dict[str, Counted]]:
        """What went on in them since, where that was long enough to tell, and the count itself."""
        begun = {uid: each.begun for uid, each in self._counting.items()}
        counted = {uid: self._bench.trainers.end_count(self._counting.pop(uid)) for uid in begun}
        meanwhile = (counted[uid].since(begun[uid]) for uid in begun)
        return [each for each in meanwhile if each is not None], counted

    def _leap(self, pair: int) -> float:
        """The longest way of the weights between two turns, in times of that in this turn."""
        name, spec = self._names["submission"], self._specs["submission"]
        ways = replay.ways(spec, [self._bench.control.weights(name, 0, step) for step in spec.weights_at])
        return replay.leap(ways, ways[pair + 1])

    def _replayed(self, read: Mapping[int, Sequence[int]], pair: int) -> float | None:
        """How far a turn's weights went astray, of the rank that did worst, where these samples were read by step."""
        name, spec = self._names["submission"], self._specs["submission"]
        first = WARM_UP + pair * self._steps
        steps = [read.get(step, ()) for step in range(first, first + self._steps)]
        if not all(steps):
            return None
        self._say("computing a turn again in one process")
        before = self._bench.control.weights(name, 0, first - 1)
        return max(
            replay.strayed(spec, before, steps, self._bench.control.weights(name, rank, first + self._steps - 1))
            for rank in range(self.ranks)
        )
