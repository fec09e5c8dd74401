"""What lab 02 does where GPUs compute, without any: where trainings run, and what is made of them.

Limits: a bench of this file follows no training, it has the story that tests give it.
"""

import contextlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import kubernetes
import msgspec
import pytest

import ddp_spec
from ddp_lab import replay
from ddp_lab.bench import Bench
from ddp_lab.events import Event, Kind, Story
from ddp_lab.gpus import finished, link, rate, strayed, trained
from ddp_lab.runs import RunSpec, endurance, proof
from ddp_lab.trainers import Job, Trainers
from graders import gpu_scrape
from graders.errors import InfrastructureError, SubmissionError
from graders.gpu_scrape import Activity
from graders.sampler import Scrape
from graders.scrape import Scrapes
from tests.labs.facts_02_ddp import LAB
from tests.labs.test_02_ddp import SMALL

THRESHOLD = LAB.thresholds["L3"].__getitem__
DONE, LOST = Job("Complete", ""), Job(None, "")


class Kept:
    """A record that holds what it is given."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.facts: list[dict[str, Any]] = []

    def write(self, kind: str, **more: Any) -> None:
        self.facts.append({"kind": kind, **more})

    def keep(self, name: str, content: bytes) -> None:
        self.files[name] = content


def bench_at(level: str, gpus: str) -> tuple[Bench, list[dict[str, Any]], Kept]:
    """A bench of a cluster of that level with such GPUs, the runs that it makes, and its record."""
    runs: list[dict[str, Any]] = []
    nothing: Any = SimpleNamespace(namespace="none", install=lambda *_: None)
    cluster: Any = SimpleNamespace(traits=SimpleNamespace(level=level, gpus=gpus), enter=list)
    record: Any = Kept()
    values: dict[str, dict[str, Any]] = {"submission": {}, "lab": {}}
    bench = Bench(nothing, nothing, cluster, record, LAB.folder, values, "")
    control: Any = SimpleNamespace(
        wait=lambda _: None, create=lambda _, spec: runs.append(json.loads(json.dumps(spec.encoded())))
    )
    bench.control = control
    return bench, runs, record


def spec() -> RunSpec:
    return proof(random.Random(1))


@pytest.mark.parametrize(
    ("level", "gpus", "told"),
    [
        ("L3", "real", ("cuda", "nccl")),
        ("L3", "simulated", ("cpu", "gloo")),
        ("L1", "real", ("cpu", "gloo")),
        ("L1", "simulated", ("cpu", "gloo")),
        ("L2", "none", ("cpu", "gloo")),
    ],
)
def test_all_trainings_compute_on_gpus_at_l3_and_nowhere_else(level: str, gpus: str, told: tuple[str, str]) -> None:
    bench, runs, _ = bench_at(level, gpus)

    bench.launch("theirs", spec(), print)
    bench.launch_own("ours", spec(), print, ranks=2)

    jobs = [ddp_spec.RunSpec.read(each).job for each in runs]
    assert [(job.device, job.backend) for job in jobs] == [told, told]
    assert [(each.job.device, each.job.backend) for each in bench.specs.values()] == [told, told]
    assert bench.on_gpus == (told[0] == "cuda")


def test_exporters_are_found_by_the_address_of_a_pods_node() -> None:
    core = SimpleNamespace(
        list_namespaced_pod=lambda *_, **__: SimpleNamespace(
            items=[
                kubernetes.client.V1Pod(
                    metadata=kubernetes.client.V1ObjectMeta(name="race-0", uid="uid-0"),
                    spec=kubernetes.client.V1PodSpec(
                        node_name="gpu-1",
                        containers=[
                            kubernetes.client.V1Container(
                                name="trainer", resources=kubernetes.client.V1ResourceRequirements()
                            )
                        ],
                    ),
                    status=kubernetes.client.V1PodStatus(host_ip=address, pod_ip="10.2.0.9"),
                )
                for address in ("10.1.0.7", None)
            ]
        )
    )
    trainers = Trainers(kubernetes.client.ApiClient(), "none")
    trainers._core = core

    assert [(each.node, each.ip, each.host) for each in trainers.of("race")] == [
        ("gpu-1", "10.2.0.9", "10.1.0.7"),
        ("gpu-1", "10.2.0.9", ""),
    ]


SCRAPES = [Scrape(replica="10.1.0.7", round=number, asked=number, answered=number + 0.5) for number in range(3)]


def test_what_exporters_told_is_kept_as_scrapes_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    @contextlib.contextmanager
    def watched(hosts: Sequence[str], **_: Any) -> Iterator[list[Scrape]]:
        asked.append(tuple(hosts))
        yield SCRAPES

    monkeypatch.setattr(gpu_scrape, "watched", watched)
    bench, _, record = bench_at("L3", "real")

    with bench.gpus_watched("gpus-1-free", ["10.1.0.7"]) as found:
        assert found == SCRAPES
    bench.keep("gpus-1-free", Story([]))
    bench.keep("again-2-single", Story([]))

    assert asked == [("10.1.0.7",)]
    scrapes = Scrapes.decode(record.files["gpus-1-free-scrapes.jsonl"])
    assert [each.round for each in (*scrapes.before, *scrapes.during[0], *scrapes.after)] == [0, 1, 2]
    assert bench.kept("gpus-1-") == (
        "evidence/gpus-1-free-scrapes.jsonl",
        "evidence/gpus-1-free-ledger.jsonl.gz",
    )


def event(kind: Kind, t: float, rank: int, step: int = -1, **more: Any) -> Event:
    return Event(n=0, t=t, kind=kind, ip="", rank=rank, step=step, **more)


def two_ranks(steps: int, *, rows: int, pieces: Sequence[int] = (0,)) -> Story:
    """A second a step, of which each rank reports the end at half of it; a row of SMALL has 40 bytes."""
    events = [event("join", 0.0, rank) for rank in range(2)]
    for step in range(steps):
        for rank in range(2):
            events += [event("batch", float(step), rank, step, micro=piece, sent=rows * 40) for piece in pieces]
            events.append(event("report", step + 0.5 + rank / 4, rank, step, loss=0.5))
    return Story(events)


def test_the_speed_of_a_training_is_that_between_its_reports() -> None:
    story = two_ranks(4, rows=1)
    more = Story([*story.events, event("report", 4.0, 0, 4, loss=0.5)])

    assert finished(more) == 4
    assert rate(more, SMALL.job, 1) == 2.0
    with pytest.raises(SubmissionError) as error:
        rate(more, SMALL.job, 3)
    assert str(error.value) == "a training of larger layers did no step after the 3.; look at its log"


@pytest.mark.parametrize("pieces", [(0, 0), (0, 1), (0, 0, 1, 1)])
def test_who_asks_twice_is_not_twice_as_fast(pieces: tuple[int, ...]) -> None:
    job = msgspec.structs.replace(SMALL.job, batch=4)

    assert rate(two_ranks(4, rows=2, pieces=pieces), job, 0) == rate(two_ranks(4, rows=2), job, 0) == 4.0


def fake(story: Story, **more: Any) -> Any:
    """A bench whose one training has this story; it notes what is asked of it."""
    asked: list[Any] = []
    trainer = SimpleNamespace(name="race-0", host="10.1.0.7", node="gpu-1")

    @contextlib.contextmanager
    def watched(_: str, hosts: Sequence[str]) -> Iterator[list[Scrape]]:
        asked.append(("watched", tuple(hosts)))
        yield more.get("scrapes", [])

    def follow(_: str, done: Callable[[Story], bool], *__: Any, **___: Any) -> tuple[Story, bool]:
        return story, more.get("ended", False) or done(story)

    return SimpleNamespace(
        asked=asked,
        clear=lambda _: asked.append("clear"),
        launch=lambda name, spec, _: asked.append((name, spec.weights_at)),
        launch_own=lambda name, spec, _, *, ranks, script: asked.append((name, spec.weights_at, ranks, script)),
        wait_for_end=lambda *_, **__: (story, more.get("job", DONE)),
        follow=follow,
        gpus_watched=watched,
        describe=lambda *_: "where it is",
        keep=lambda name, story: asked.append(("keep", name, len(story.events))),
        control=SimpleNamespace(story=lambda _: story, weights=lambda _, rank, step: more["weights"][rank, step]),
        trainers=SimpleNamespace(
            of=lambda _: [trainer],
            end=lambda name: asked.append(("end", name)),
            last_words=lambda _: "; its log",
        ),
    )


def reduced(*seconds: float) -> Story:
    """An all-reduce of 64 MiB on two ranks, of which the second takes so long."""
    times = [(rank, each - 0.001 * (1 - rank)) for each in seconds for rank in range(2)]
    steps = [(number // 2, *each) for number, each in enumerate(times)]
    return Story([event("report", 0.0, rank, step, loss=took, draw=2.0**26) for step, rank, took in steps])


SPEC = endurance(random.Random(1), ranks=2)


def test_the_link_is_measured_by_the_labs_own_ranks() -> None:
    bench = fake(reduced(0.02, 0.03, 0.04))

    assert link(bench, print, "gpus-1-link", SPEC, THRESHOLD, ranks=2) == (2**26, 0.03)
    assert bench.asked == ["clear", ("gpus-1-link", (), 2, "bandwidth.py")]


@pytest.mark.parametrize(
    ("story", "job", "said"),
    [
        (
            reduced(0.1),
            DONE,
            "an all-reduce of 2 ranks alone got 0.67 GB/s, 22% of the link between two nodes, where 50% to 100 % can "
            "be; does something else use the network?",
        ),
        (
            reduced(0.01),
            DONE,
            "an all-reduce of 2 ranks alone got 6.71 GB/s, 216% of the link between two nodes, where 50% to 100 % can "
            "be; do two ranks share a node?",
        ),
        (reduced(0.03), LOST, "the all-reduce of 2 ranks was not measured: the Job did not end; its log"),
        (reduced(0.03), Job("Failed", "it failed"), "the all-reduce of 2 ranks was not measured: it failed; its log"),
        (Story([]), DONE, "the all-reduce of 2 ranks was not measured: the Job did not end; its log"),
    ],
    ids=["slow", "too fast", "endless", "failed", "silent"],
)
def test_a_link_that_is_not_as_it_should_be_is_the_labs_failure(story: Story, job: Job, said: str) -> None:
    with pytest.raises(InfrastructureError) as error:
        link(fake(story, job=job), print, "gpus-1-link", SPEC, THRESHOLD, ranks=2)
    assert str(error.value) == said


PROVED = SPEC.weights_at[-1]
HANDED_IN = Story([event("weights", 1.0, rank, PROVED) for rank in range(2)])
PAGE = """\
DCGM_FI_DEV_GPU_UTIL{{pod="race-0"}} {busy}
DCGM_FI_DEV_FB_USED{{pod="race-0"}} 1024
"""


def told(asked: float, busy: float) -> Scrape:
    return Scrape(replica="10.1.0.7", round=0, asked=asked, answered=asked, status=200, text=PAGE.format(busy=busy))


def at(*moments: float) -> Callable[[], float]:
    return iter(moments).__next__


def test_gpus_are_looked_at_by_address_once_their_figures_are_of_the_training() -> None:
    bench = fake(HANDED_IN, scrapes=[told(100.0, 0), told(129.9, 0), told(130.0, 90), told(174.9, 80), told(175.0, 0)])

    found = trained(bench, print, "free", SPEC, ranks=2, seconds=75, clock=at(100.0, 175.0))

    assert found == (HANDED_IN, Activity(utilisation=85.0, used_gib=1.0, tensor=None, sm=None))
    assert bench.asked == [
        "clear",
        ("free", SPEC.weights_at),
        ("watched", ("10.1.0.7",)),
        ("keep", "free", 2),
        ("end", "free"),
    ]


def test_exporters_that_told_nothing_of_the_training_are_not_its_fault() -> None:
    bench = fake(HANDED_IN, scrapes=[told(110.0, 0)])

    with pytest.raises(InfrastructureError) as error:
        trained(bench, print, "free", SPEC, ranks=2, seconds=75, clock=at(100.0, 175.0))

    said = "the exporters on the trainers' nodes told nothing of their GPUs; are they running?"
    assert str(error.value) == said
    assert bench.asked[-1] == ("end", "free")


@pytest.mark.parametrize(
    ("story", "ended", "said"),
    [
        (
            Story(HANDED_IN.events[:1]),
            False,
            f"a training of larger layers did not do its first {PROVED + 1} steps, and hand in its weights, within 120 "
            "s: where it is; its log",
        ),
        (
            HANDED_IN,
            True,
            "a training of larger layers ended within 75 s, long before its last step: where it is; its log",
        ),
    ],
    ids=["one rank only", "ended"],
)
def test_a_training_that_does_not_go_on_is_told_and_kept(story: Story, ended: bool, said: str) -> None:
    bench = fake(story, ended=ended)

    with pytest.raises(SubmissionError) as error:
        trained(bench, print, "free", SPEC, ranks=2, seconds=75)

    assert str(error.value) == said
    assert bench.asked[-2:] == [("keep", "free", len(story.events)), ("end", "free")]


TINY = msgspec.structs.replace(SMALL, weights_at=(0, 1))


def step_of(read: tuple[int, ...], digests: Sequence[str] = "aabb") -> Story:
    """Step 1 of two ranks, whose samples these are, one each; digests of both steps' weights by rank."""
    events = [event("join", 0.0, rank, uid=f"{rank}") for rank in range(2)]
    events += [event("batch", 1.0, rank, 1, indices=(each,), uid=f"{rank}") for rank, each in enumerate(read)]
    events += [event("report", 2.0, rank, 1, loss=0.5, uid=f"{rank}") for rank in range(2)]
    places = [(step, rank) for step in (0, 1) for rank in range(2)]
    events += [
        event("weights", 2.0, rank, step, digest=digest, uid=f"{rank}")
        for (step, rank), digest in zip(places, digests, strict=False)
    ]
    return Story(events)


def weights() -> dict[tuple[int, int], bytes]:
    """Before and after a step on the samples 2 and 3."""
    end = replay.replayed(TINY, [(2, 3)]).weights[0]
    parts = (replay.problem(TINY).weights, end)
    return {(0, step): b"".join(each.tobytes() for each in arrays) for step, arrays in enumerate(parts)}


def test_a_step_that_is_drawn_is_computed_again() -> None:
    both = weights()
    idle = {**both, (0, 1): both[0, 0]}

    found, lazy = (
        strayed(fake(Story([]), weights=each), "free", TINY, step_of((2, 3)), ranks=2) for each in (both, idle)
    )

    assert found == 0.0
    assert lazy == pytest.approx(1.0)


@pytest.mark.parametrize(
    "story",
    [
        step_of((2, 2)),
        step_of((2,)),
        step_of((2, 3), "abcc"),
        step_of((2, 3), "aabc"),
        step_of((2, 3), "aab"),
        step_of((2, 3), ""),
    ],
    ids=["a sample twice", "half", "apart before", "apart after", "one rank's", "nobody's"],
)
def test_a_step_that_was_not_done_alike_cannot_be_computed_again(story: Story) -> None:
    assert strayed(fake(story, weights={}), "free", TINY, story, ranks=2) is None
