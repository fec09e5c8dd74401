"""What real GPUs make of a training that nobody holds back, and of an all-reduce alone.

Place: the check of scaling asks for it where GPUs are real. Limits: one GPU a rank, figures of the exporters on their
nodes. Not yet run on a GPU.
"""

import itertools
import statistics
import time

from clusters.api import Progress, within
from ddp_lab.bench import SEEDS, Bench
from ddp_lab.events import Story
from ddp_lab.gpu_facts import GpuTraining, flops_per_sample
from ddp_lab.runs import RunSpec, endurance
from graders import gpu_scrape
from graders.check import Check
from graders.errors import InfrastructureError, SubmissionError
from graders.gpu_scrape import Activity

WARM_UP = 5
"""Steps before a training's speed counts."""
START_SECONDS = 120.0
LINK_SECONDS = 180.0


def on_gpus(check: Check, bench: Bench, progress: Progress, name: str) -> GpuTraining:
    """Measures an all-reduce alone, then lets the submission train for `gpu_seconds` while its GPUs are watched.

    Raises:
        SubmissionError: the submission did not do its steps.
        InfrastructureError: the lab's own program did not, or nobody told of the GPUs.
    """
    say, ranks = within(progress, "GPUs"), int(check.threshold("world_size"))
    spec = endurance(SEEDS, ranks=ranks)
    size, seconds = link(bench, say, f"{name}-link", spec, ranks=ranks)
    speed, activity = trained(bench, say, f"{name}-free", spec, seconds=check.threshold("gpu_seconds"))
    return GpuTraining(
        samples_per_second=speed,
        flops_per_sample=flops_per_sample(spec.job),
        ranks=ranks,
        activity=activity,
        all_reduce_bytes=size,
        all_reduce_seconds=seconds,
    )


def link(bench: Bench, say: Progress, name: str, spec: RunSpec, *, ranks: int) -> tuple[int, float]:
    """Bytes of a buffer, and the median of the seconds in which the lab's own ranks add it up.

    Raises:
        InfrastructureError: they did not.
    """
    bench.clear(say)
    bench.launch_own(name, spec, say, ranks=ranks, script="bandwidth.py")
    story, job = bench.wait_for_end(name, say, seconds=LINK_SECONDS)
    told = [max(seconds.values()) for seconds in story.losses().values() if len(seconds) == ranks]
    if job.ended != "Complete" or not told:
        raise InfrastructureError(
            f"the all-reduce of {ranks} ranks was not measured: {job.why or 'the Job did not end'}"
            f"{bench.trainers.last_words(name)}"
        )
    return int(next(story.of("report")).draw or 0), statistics.median(told)


def trained(bench: Bench, say: Progress, name: str, spec: RunSpec, *, seconds: float) -> tuple[float, Activity]:
    """Samples per second of the submission, and what its GPUs did, over so many seconds of its training.

    Raises:
        SubmissionError: it did not do its steps.
        InfrastructureError: nobody told of its GPUs.
    """
    bench.clear(say)
    bench.launch(name, spec, say)
    try:
        story, begun = bench.follow(name, lambda story: finished(story) >= WARM_UP, say, seconds=START_SECONDS)
        first = finished(story)
        if not begun or first < WARM_UP:
            raise SubmissionError(
                f"a training of larger layers did not do its first {WARM_UP} steps within {START_SECONDS:g} s: "
                f"{bench.describe(name, story)}{bench.trainers.last_words(name)}"
            )
        pods = bench.trainers.of(name)
        with bench.gpus_watched(name, [each.node for each in pods]) as scrapes:
            window = time.monotonic()
            story, _ = bench.follow(name, lambda _: False, say, seconds=seconds, every=0.5)
            end = time.monotonic()
        bench.keep(name, story)
    finally:
        bench.trainers.end(name)
    activity = gpu_scrape.activity(scrapes, [(window, end)], [each.name for each in pods])
    if activity is None:
        raise InfrastructureError("the exporters on the trainers' nodes told nothing of their GPUs; are they running?")
    return rate(story, first), activity


def finished(story: Story) -> int:
    """Steps from the first one on that are reported by as many ranks as joined."""
    ranks, said = {event.rank for event in story.of("join")}, story.losses()
    return sum(1 for _ in itertools.takewhile(lambda step: said.get(step, {}).keys() == ranks, itertools.count()))


def rate(story: Story, first: int) -> float:
    """Samples per second of the steps from this one on, by the service's clock.

    Raises:
        SubmissionError: no step was done after it.
    """
    ends: dict[int, float] = {}
    for event in story.of("report"):
        ends[event.step] = max(event.t, ends.get(event.step, event.t))
    last = finished(story) - 1
    if last <= first:
        raise SubmissionError(f"a training of larger layers did no step after the {first}.; look at its log")
    read = sum(len(event.indices) for event in story.of("batch") if first < event.step <= last)
    return read / (ends[last] - ends[first])
