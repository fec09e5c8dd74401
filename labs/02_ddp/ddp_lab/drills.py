"""Faults that the grader plants into the submission's training: how it ends, and what it says of them.

Place: test_ddp.py measures with it; what it returns is judged in `drills_facts`. Limits: three faults of eight, drawn
anew each time, side by side; pods are not started again, so that the first that ends tells.
"""

import time

import msgspec

from clusters.api import Progress, within
from ddp_lab.bench import SEEDS, Bench
from ddp_lab.drills_facts import Diagnosis, Drilled, Drills
from ddp_lab.runs import FAULTS, RunSpec, drill
from graders.check import Check

ONCE = {"torchrun": {"maxRestarts": 0}, "restart": {"policy": "Never", "backoffLimit": 0}}
"""Values of a release whose pods are not started again."""
START_SECONDS = 60.0


def drills(check: Check, bench: Bench, progress: Progress, number: int) -> Drills:
    """Plants faults into as many trainings and waits for their ends."""
    say = within(progress, "drills")
    ranks, count = int(check.threshold("world_size")), int(check.threshold("drills"))
    patience = check.threshold("drill_timeout_seconds")
    specs: dict[str, RunSpec] = {}
    for place, kind in enumerate(SEEDS.sample(sorted(FAULTS), count), start=1):
        specs[f"drill-{number}-{place}"] = drill(SEEDS, kind, ranks=ranks, timeout_seconds=patience)
    bench.clear(say)
    for name, spec in specs.items():
        bench.launch(name, spec, say, changes=ONCE)
    begun = time.monotonic()
    limit = begun + START_SECONDS + check.threshold("drill_seconds")
    ends: dict[str, float] = {}
    while len(ends) < len(specs) and time.monotonic() < limit:
        for name in specs.keys() - ends.keys():
            bench.refuse_stuck(name)
            if bench.trainers.job(name).ended:
                ends[name] = bench.control.now(name)
        say(f"{len(ends)} of {len(specs)} trainings have ended")
        time.sleep(0.3)
    found = tuple(_drilled(bench, name, spec, ends.get(name)) for name, spec in specs.items())
    evidence = tuple(bench.keep(name, bench.control.story(name)) for name in specs)
    for name in specs:
        bench.trainers.end(name)
    return Drills(drills=found, evidence=evidence)


def _drilled(bench: Bench, name: str, spec: RunSpec, ended: float | None) -> Drilled:
    planted = spec.drills[0]
    bench.trainers.of(name)
    pods = [each for each in bench.trainers.seen.values() if each.name.startswith(f"{name}-")]
    said, unread = [], []
    for pod in sorted(pods, key=lambda each: each.index):
        if not pod.said.strip():
            continue
        try:
            said.append(msgspec.json.decode(pod.said, type=Diagnosis))
        except msgspec.DecodeError:
            unread.append(pod.said[-200:])
    return Drilled(
        fault=FAULTS[planted.kind],
        rank=planted.rank,
        seconds=None if ended is None else ended - _begun(bench, name, spec),
        said=tuple(said),
        unread=tuple(unread),
    )


def _begun(bench: Bench, name: str, spec: RunSpec) -> float:
    """When the fault could first be seen: at its step, else once the last pod had joined."""
    story, planted = bench.control.story(name), spec.drills[0]
    reached = [event.t for event in story.of("batch") if event.step >= planted.step]
    joined = [event.t for event in story.of("join")]
    return min(reached, default=max(joined, default=bench.control.now(name)))
