"""What real GPUs make of a training that nobody holds back, and of an all-reduce alone.

Place: the check of scaling asks for it at L3. Limits: one GPU a rank, figures of the exporters on their nodes; one step
is computed again, so who works less once weights were asked for is not found out. Not yet run on a GPU.
"""

import itertools
import statistics
import time
from collections.abc import Callable

import msgspec

from clusters.api import Progress, within
from ddp_lab import replay
from ddp_lab.bench import SEEDS, Bench
from ddp_lab.events import Story
from ddp_lab.gpu_facts import GpuTraining, bus_bytes_per_second, flops_per_sample, link_share
from ddp_lab.runs import JobSpec, RunSpec, endurance
from ddp_lab.scaling_facts import LEAP
from graders import gpu_scrape
from graders.check import Check
from graders.errors import InfrastructureError, SubmissionError
from graders.gpu_scrape import Activity
from graders.judging import Thresholds

WARM_UP = 5
"""Steps before a training's speed counts."""
START_SECONDS = 120.0
LINK_SECONDS = 180.0
LOOK_SECONDS = 2.0
"""Between two looks at a training whose GPUs are watched."""


def on_gpus(check: Check, bench: Bench, progress: Progress, name: str) -> GpuTraining:
    """Measures an all-reduce alone, then lets the submission train for `gpu_seconds` while its GPUs are watched.

    Raises:
        SubmissionError: the submission did not do its steps.
        InfrastructureError: the lab's own program did not, the link is not what it is said to be, or nobody told of the
            GPUs.
    """
    say, ranks = within(progress, "GPUs"), int(check.threshold("world_size"))
    spec = endurance(SEEDS, ranks=ranks)
    size, seconds = link(bench, say, f"{name}-link", spec, check.threshold, ranks=ranks)
    story, activity = trained(bench, say, f"{name}-free", spec, ranks=ranks, seconds=check.threshold("gpu_seconds"))
    speed = rate(story, spec.job)
    say("computing a step again in one process")
    return GpuTraining(
        samples_per_second=speed,
        flops_per_sample=flops_per_sample(spec.job),
        ranks=ranks,
        activity=activity,
        all_reduce_bytes=size,
        all_reduce_seconds=seconds,
        error=strayed(bench, f"{name}-free", spec, story, ranks=ranks),
    )


def link(
    bench: Bench, say: Progress, name: str, spec: RunSpec, threshold: Thresholds, *, ranks: int
) -> tuple[int, float]:
    """Bytes of a buffer, and the median of the seconds in which the lab's own ranks add it up.

    Raises:
        InfrastructureError: they did not, or in other times than the link between two nodes takes.
    """
    bench.clear(say)
    bench.launch_own(name, msgspec.structs.replace(spec, weights_at=()), say, ranks=ranks, script="bandwidth.py")
    story, job = bench.wait_for_end(name, say, seconds=LINK_SECONDS)
    told = [max(seconds.values()) for seconds in story.losses().values() if len(seconds) == ranks]
    if job.ended != "Complete" or not told:
        raise InfrastructureError(
            f"the all-reduce of {ranks} ranks was not measured: {job.why or 'the Job did not end'}"
            f"{bench.trainers.last_words(name)}"
        )
    size, seconds = int(next(story.of("report")).draw or 0), statistics.median(told)
    speed, least = bus_bytes_per_second(size, seconds, ranks), threshold("gpu_link_share")
    share = link_share(speed, threshold)
    if not least <= share <= 1.0:
        why = "do two ranks share a node?" if share > 1.0 else "does something else use the network?"
        raise InfrastructureError(
            f"an all-reduce of {ranks} ranks alone got {speed / 1e9:.2f} GB/s, {share:.0%} of the link between two "
            f"nodes, where {least:.0%} to 100 % can be; {why}"
        )
    return size, seconds


def trained(
    bench: Bench,
    say: Progress,
    name: str,
    spec: RunSpec,
    *,
    ranks: int,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Story, Activity]:
    """What the submission did, and its GPUs, over so many seconds of its training.

    Raises:
        SubmissionError: it did not do its steps.
        InfrastructureError: nobody told of its GPUs.
    """
    step = spec.weights_at[-1]

    def handed_in(story: Story) -> bool:
        return len({event.rank for event in story.of("weights") if event.step == step}) >= ranks

    bench.clear(say)
    bench.launch(name, spec, say)
    try:
        story, _ = bench.follow(name, handed_in, say, seconds=START_SECONDS)
        if not handed_in(story):
            raise SubmissionError(
                f"a training of larger layers did not do its first {step + 1} steps, and hand in its weights, within "
                f"{START_SECONDS:g} s: {bench.describe(name, story)}{bench.trainers.last_words(name)}"
            )
        pods = bench.trainers.of(name)
        with bench.gpus_watched(name, [each.host for each in pods]) as scrapes:
            begun = clock()
            story, ended = bench.follow(name, lambda _: False, say, seconds=seconds, every=LOOK_SECONDS)
            over = clock()
        if ended:
            raise SubmissionError(
                f"a training of larger layers ended within {seconds:g} s, long before its last step: "
                f"{bench.describe(name, story)}{bench.trainers.last_words(name)}"
            )
    finally:
        bench.keep(name, bench.control.story(name))
        bench.trainers.end(name)
    # What is told sooner may be from before the training.
    window = (begun + gpu_scrape.AGE_SECONDS, over)
    activity = gpu_scrape.activity(scrapes, [window], [each.name for each in pods])
    if activity is None:
        raise InfrastructureError("the exporters on the trainers' nodes told nothing of their GPUs; are they running?")
    return story, activity


def finished(story: Story) -> int:
    """Steps from the first one on that are reported by as many ranks as joined."""
    ranks, said = {event.rank for event in story.of("join")}, story.losses()
    return sum(1 for _ in itertools.takewhile(lambda step: said.get(step, {}).keys() == ranks, itertools.count()))


def rate(story: Story, job: JobSpec, first: int = WARM_UP) -> float:
    """Samples per second of the steps after this one, by the service's clock.

    What a rank read for a piece counts as it was read last, and of a step at most its global batch: to ask twice is not
    to train twice.

    Raises:
        SubmissionError: no step was done after it.
    """
    ends: dict[int, float] = {}
    for event in story.of("report"):
        ends[event.step] = max(event.t, ends.get(event.step, event.t))
    last = finished(story) - 1
    if last <= first:
        raise SubmissionError(f"a training of larger layers did no step after the {first}.; look at its log")
    read: dict[int, dict[tuple[int, int], int]] = {step: {} for step in range(first + 1, last + 1)}
    for event in story.of("batch"):
        if event.step in read:
            read[event.step][event.rank, event.micro] = event.sent // job.sample_bytes
    samples = sum(min(sum(pieces.values()), job.batch) for pieces in read.values())
    return samples / (ends[last] - ends[first])


def strayed(bench: Bench, name: str, spec: RunSpec, story: Story, *, ranks: int) -> float | None:
    """How far the weights after the drawn step are from those of one process, in times of how far these moved.

    None where not each sample was read once for it, or ranks held different weights before or after it. Where those
    before it are none that so many steps lead to, it is how much too far away they are.
    """
    before, after = spec.weights_at
    read = story.batches(ranks).get(after, ())

    def alike(step: int) -> bool:
        held = {event.rank: event.digest for event in story.of("weights") if event.step == step}
        return len(held) == ranks and len(set(held.values())) == 1

    if not alike(before) or not alike(after) or not len(read) == len(set(read)) == spec.job.batch:
        return None
    first, last = (bench.control.weights(name, 0, step) for step in (before, after))
    error = replay.strayed(spec, first, [read], last)
    there, step = replay.ways(spec, [first, last])
    far = replay.leap([there / (before + 1)], step)
    return max(error, far) if step and far > LEAP else error
