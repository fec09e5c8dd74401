"""Small facts of lab 02 for each check, as a submission leaves them that does what is asked.

Place: tests of the lab's judges. Limits: made by hand; those of real runs are in their records.
"""

from pathlib import Path
from typing import Any

import msgspec

from ddp_lab.drills_facts import Diagnosis, Drilled, Drills
from ddp_lab.proof_facts import Completed, EpochRead, Mathematics, Member, OneRun, Replica, Replicas, SamplesRead, Step
from ddp_lab.recovery_facts import Loss, Recovery
from ddp_lab.scaling_facts import Turn, Turns
from graders.budget import Budget, Used
from graders.judging import Facts
from graders.lab import Lab

LAB = Lab.load(Path(__file__).resolve().parents[2] / "labs/02_ddp")
MEMBERS = tuple(
    Member(pod=f"proof-{rank}", known=True, node=f"gpu-{rank}", gpus=1, rank=rank, world=2, met=(0, 1), backend="gloo")
    for rank in range(2)
)
EPOCHS = (EpochRead(missing=0, twice=0, order="a"), EpochRead(missing=0, twice=0, order="b"))
STEPS = (Step(0, (1.5, 1.5), 1.5), Step(1, (0.75, 0.75), 0.75))
SEEN = (Replica(step=3, digests=("a", "a"), error=0.0), Replica(step=9, digests=("b", "b"), error=0.0))
TURN = {
    "single": Turn(seconds=0.5),
    "reference": Turn(seconds=0.6),
    "submission": Turn(seconds=0.6, sent=(6000, 6000), cpu=(0.55, 0.55)),
}
TURNS = Turns(steps=6, ranks=2, gradient_bytes=1000, turns=(TURN,) * 6, error=1e-6)
KILLED = Loss(what="process", rank=0, step=11, saving=True, noticed=3.0, joined=4.0, met=5.0, first=6.0, again=1)
DELETED = Loss(what="pod", rank=1, step=20, joined=9.0, met=10.0, first=11.0, again=2)
LOST = Loss(what="node", rank=0, step=30, joined=19.0, met=20.0, first=21.0, again=0)
NAMED = Drilled(fault="hang", rank=1, seconds=9.0, said=(Diagnosis("hang", 1, "it did not come"),))

FACTS: dict[str, Facts] = {
    "values_within_budget": Budget(foreign=(), uses=(Used("workers", 2, "world_size"),)),
    "run_completes": Completed(seconds=20.0, steps=2),
    "one_run": OneRun(members=MEMBERS),
    "every_sample_once": SamplesRead(samples=10, epochs=EPOCHS, shares=(0.5, 0.5), flood=0),
    "same_mathematics": Mathematics(steps=STEPS, planned=2, weights=(0.0, 1e-12)),
    "replicas_agree": Replicas(asked=(3, 9), ranks=2, seen=SEEN),
    "communication": TURNS,
    "scaling": TURNS,
    "recovers_process": Recovery(losses=(KILLED,), steps=STEPS, draws=(2, 2)),
    "recovers_pod": Recovery(
        losses=(DELETED, LOST), steps=STEPS, draws=(2, 2), planned=2, weights=1e-12, complete=True
    ),
    "diagnosis": Drills(drills=(NAMED,)),
}


def but(check: str, **changes: Any) -> Facts:
    """The facts of a check with something else in them."""
    return msgspec.structs.replace(FACTS[check], **changes)


def member(place: int, **changes: Any) -> Member:
    return msgspec.structs.replace(MEMBERS[place], **changes)


def turns(**changes: Any) -> tuple[dict[str, Turn], ...]:
    """Turns whose submission is another."""
    return ({**TURN, "submission": msgspec.structs.replace(TURN["submission"], **changes)},) * 6


def loss(known: Loss, **changes: Any) -> Loss:
    return msgspec.structs.replace(known, **changes)


def drilled(**changes: Any) -> Drills:
    return Drills(drills=(msgspec.structs.replace(NAMED, **changes),))
