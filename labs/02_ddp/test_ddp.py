"""The checks of 02_ddp: trainings of one submission that are replayed, timed, disturbed and misled.

Place: `pytest labs/02_ddp` and `gpulab grade 02_ddp`; what each check does is in the package ddp_lab. Limits: several
checks look at one training, which runs again when the first of them is measured again.
"""

from typing import Any

import kubernetes
import msgspec
import pytest

from clusters.api import Charts, Cluster, Progress
from ddp_lab import drills, gpus, start
from ddp_lab.bench import Bench
from ddp_lab.proof import Proof
from ddp_lab.proof_facts import Completed
from ddp_lab.recovery import Broken
from ddp_lab.recovery_facts import Recovery
from ddp_lab.scaling import Race
from ddp_lab.scaling_facts import Turns
from ddp_lab.sides import chart_values
from graders.check import Check
from graders.lab import Lab
from graders.record import Record
from graders.submission import Submission, parse_values


@pytest.fixture(scope="module")
def values(lab: Lab, submission: Submission, cluster: Cluster) -> dict[str, dict[str, Any]]:
    """The chart's values of the submission and of the lab's own trainings, but for their files."""
    file = lab.folder.parents[1] / "charts" / "ddp" / "values.yaml"
    defaults = parse_values(file.read_text(), file.name)
    own = {"submission": submission.values(), "lab": {}}
    return {
        side: chart_values(defaults, mine, lambda name: lab.threshold(cluster.traits.level, name))
        for side, mine in own.items()
    }


@pytest.fixture(scope="module")
def bench(
    charts: Charts,
    kube: kubernetes.client.ApiClient,
    cluster: Cluster,
    values: dict[str, dict[str, Any]],
    record: Record,
    lab: Lab,
    submission: Submission,
) -> Bench:
    """The data service and the trainings, which start when they are first needed."""
    return Bench(charts, kube, cluster, record, lab.folder, values, submission.text("train.py"))


class Trainings:
    """The trainings that several checks look at, as they ran last."""

    proof: Proof
    race: Race
    broken: Broken


@pytest.fixture(scope="module")
def ran() -> Trainings:
    """What ran; a check that looks at a training needs the one that ran it, so it is there."""
    return Trainings()


def test_values_within_budget(check: Check, submission: Submission, values: dict[str, dict[str, Any]]) -> None:
    """Anyone can be fast with more workers: the program has to do it with what is given."""
    check.measure(lambda _: start.budget(submission.values(), values["submission"], submission.text("train.py")))


def test_run_completes(check: Check, bench: Bench, progress: Progress, ran: Trainings) -> None:
    """A training that does not end has trained nothing."""

    def measure(number: int) -> Completed:
        ran.proof = Proof(check, bench, progress, number)
        return ran.proof.completed()

    check.measure(measure)


def test_one_run(check: Check, ran: Trainings) -> None:
    """Pods that each train alone also succeed, and cost as much as one run that is many times faster."""
    check.measure(lambda _: ran.proof.one_run())


def test_every_sample_once(check: Check, ran: Trainings) -> None:
    """Samples that are read twice or never bend what is learnt, and no loss curve tells."""
    check.measure(lambda _: ran.proof.samples())


def test_same_mathematics(check: Check, ran: Trainings) -> None:
    """Many workers have to learn what one would: a wrong scale of gradients still trains, to something else."""
    check.measure(lambda _: ran.proof.mathematics())


def test_replicas_agree(check: Check, ran: Trainings) -> None:
    """Replicas that drift apart average gradients of different models."""
    check.measure(lambda _: ran.proof.replicas())


def test_communication(check: Check, bench: Bench, progress: Progress, ran: Trainings) -> None:
    """What is sent more often than once a step is paid for with time on every step."""

    def measure(number: int) -> Turns:
        ran.race = Race(check, bench, progress, f"race-{number}")
        return ran.race.turns

    check.measure(measure)


def test_scaling(check: Check, bench: Bench, progress: Progress, ran: Trainings) -> None:
    """A second worker is worth what it adds to the speed of the first."""

    def measure(number: int) -> Turns:
        if number > 1:
            ran.race = Race(check, bench, progress, f"again-{number}")
        check.looks_back(ran.race.others)
        turns = ran.race.turns
        if turns.problem or not bench.on_gpus:
            return turns
        found, kept = gpus.on_gpus(check, bench, progress, f"gpus-{number}"), bench.kept(f"gpus-{number}-")
        return msgspec.structs.replace(turns, gpu=found, evidence=(*turns.evidence, *kept))

    check.measure(measure)


def test_recovers_process(check: Check, bench: Bench, progress: Progress, ran: Trainings) -> None:
    """Long trainings meet a crash; what counts is how much of the work it takes with it."""

    def measure(number: int) -> Recovery:
        ran.broken = Broken(check, bench, progress, f"recovery-{number}")
        return ran.broken.process()

    check.measure(measure)


def test_recovers_pod(check: Check, bench: Bench, progress: Progress, ran: Trainings) -> None:
    """Machines fail without notice, and a training of many machines meets that every day."""

    def measure(number: int) -> Recovery:
        if number > 1:
            ran.broken = Broken(check, bench, progress, f"again-{number}")
        return ran.broken.pods()

    check.measure(measure)


def test_diagnosis(check: Check, bench: Bench, progress: Progress) -> None:
    """A training that hangs costs as much as one that runs: it should end, and say what is wrong where."""
    check.measure(lambda number: drills.drills(check, bench, progress, number))
