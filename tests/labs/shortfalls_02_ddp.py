"""Facts of lab 02 that fall short in one way each, with the verdict, the hint and the words that they come to.

Place: test_judges.py. Limits: as `facts_02_ddp`, of which each is a variation.
"""

import msgspec

from ddp_lab.drills_facts import Diagnosis
from ddp_lab.proof_facts import Completed, EpochRead, OneRun, Step
from graders.budget import Used
from tests.labs.facts_02_ddp import (
    DELETED,
    EPOCHS,
    KILLED,
    LOST,
    MEMBERS,
    SEEN,
    STEPS,
    but,
    drilled,
    loss,
    member,
)
from tests.labs.shortfalls import Failure
from tests.labs.shortfalls_02_ddp_turns import TURNED

FAILURES: dict[str, Failure] = {
    **TURNED,
    "another's value": (
        "values_within_budget",
        but("values_within_budget", foreign=("image.tag",)),
        "failed",
        "not_yours",
        "image.tag is not yours to set",
    ),
    "three workers": (
        "values_within_budget",
        but("values_within_budget", uses=(Used("workers", 3, "world_size"),)),
        "failed",
        "too_much",
        "3 workers, where 2 are given",
    ),
    "no workers": (
        "values_within_budget",
        but("values_within_budget", uses=(Used("workers", 0, "world_size", least=1),)),
        "failed",
        "too_little",
        "0 workers, where at least 1 is needed",
    ),
    "the Job failed": (
        "run_completes",
        Completed(seconds=None, steps=2, problem="the Job failed", kind="ending"),
        "failed",
        "ending",
        "the Job failed",
    ),
    "nothing ends": (
        "run_completes",
        Completed(seconds=61.0, steps=2),
        "failed",
        "stuck",
        "complete after 61 s",
    ),
    "nothing was reported": (
        "run_completes",
        Completed(seconds=None, steps=2, problem="no step was reported", kind="silent"),
        "failed",
        "silent",
        "no step was reported",
    ),
    "worlds of one": (
        "one_run",
        OneRun(members=tuple(member(rank, rank=0, world=1, met=(0,)) for rank in range(2))),
        "failed",
        "alone",
        "proof-0 is rank 0 in a world of 1; proof-1 is rank 0 in a world of 1; the ranks are 0, 0",
    ),
    "never met": (
        "one_run",
        OneRun(members=(member(0, met=(0,)), member(1, met=()))),
        "failed",
        "unmet",
        "rank 0 met rank 0; rank 1 met nobody",
    ),
    "from elsewhere": (
        "one_run",
        OneRun(members=(member(0), member(1, known=False, gpus=0))),
        "failed",
        "unmet",
        "proof-1 called from elsewhere than a pod of the Job; proof-1 holds no device",
    ),
    "one speaks for another": (
        "one_run",
        OneRun(members=MEMBERS, strange=("a report as rank 1 of proof-1 came from proof-1-0", "another")),
        "failed",
        "unmet",
        "a report as rank 1 of proof-1 came from proof-1-0 (2 such events)",
    ),
    "two ranks in a pod": (
        "one_run",
        OneRun(members=(member(0), member(1, pod="proof-0"))),
        "failed",
        "unmet",
        "several ranks share a pod",
    ),
    "dropped samples": (
        "every_sample_once",
        but("every_sample_once", epochs=(EpochRead(missing=3, twice=0, order="a"),)),
        "failed",
        "missing",
        "3 of 10 reads are missing",
    ),
    "padded samples": (
        "every_sample_once",
        but("every_sample_once", epochs=(EpochRead(missing=0, twice=1, order="a"),), flood=2),
        "failed",
        "twice",
        "samples were read 3 times more than a step needs",
    ),
    "the same order": (
        "every_sample_once",
        but("every_sample_once", epochs=(EPOCHS[0], EPOCHS[0])),
        "failed",
        "order",
        "1 of 2 epochs have the order of an earlier one",
    ),
    "one rank reads": (
        "every_sample_once",
        but("every_sample_once", shares=(0.9, 0.1)),
        "failed",
        "uneven",
        "one rank read 10% of all samples",
    ),
    "a wrong scale": (
        "same_mathematics",
        but("same_mathematics", steps=(STEPS[0], Step(1, (0.75, 0.8), 0.75)), weights=(0.1, 0.1)),
        "failed",
        "gradients",
        "at step 1 the loss is 0.8, where one process has 0.75: off by 0.07 of it; final weights are off by 0.1 of "
        "their size",
    ),
    "a rank's own loss": (
        "same_mathematics",
        but("same_mathematics", steps=(Step(0, (1.25, 1.75), 1.5), STEPS[1])),
        "failed",
        "reporting",
        "at step 0 the loss is 1.25, where one process has 1.5: off by 0.2 of it",
    ),
    "a rank that stops": (
        "same_mathematics",
        but("same_mathematics", steps=STEPS[:1], weights=(0.0, None)),
        "failed",
        "absent",
        "1 of 2 steps were reported by all ranks; 1 ranks handed in no final weights",
    ),
    "apart": (
        "replicas_agree",
        but("replicas_agree", seen=(SEEN[0], msgspec.structs.replace(SEEN[1], digests=("b", "c")))),
        "failed",
        "apart",
        "after step 9 ranks hold 2 different models",
    ),
    "together and wrong": (
        "replicas_agree",
        but("replicas_agree", seen=(SEEN[0], msgspec.structs.replace(SEEN[1], error=0.5))),
        "failed",
        "wrong",
        "after step 9 the weights are off by 0.5 of their size",
    ),
    "frozen": (
        "replicas_agree",
        but("replicas_agree", seen=(SEEN[0], msgspec.structs.replace(SEEN[0], step=9, error=0.5))),
        "failed",
        "frozen",
        "weights do not change from one step to another; after step 9 the weights are off by 0.5 of their size",
    ),
    "no weights": (
        "replicas_agree",
        but("replicas_agree", seen=SEEN[:1]),
        "failed",
        "absent",
        "not all ranks handed in weights after step 9",
    ),
    "weights that follow from nothing": (
        "replicas_agree",
        but("replicas_agree", seen=SEEN[:1], unread=(9,)),
        "failed",
        "unread",
        "weights after step 9 follow from samples that nobody read",
    ),
    "the same half read by both": (
        "every_sample_once",
        but("every_sample_once", epochs=(EpochRead(missing=5, twice=5, order="a"),)),
        "failed",
        "twice",
        "5 of 10 reads are missing; samples were read 5 times more than a step needs",
    ),
    "not killed in a save": (
        "recovers_process",
        but("recovers_process", losses=(msgspec.structs.replace(KILLED, saving=False),)),
        "failed",
        "unsaved",
        f"{KILLED.words()}; no rank opened a file in the folder of checkpoints, so none was killed while it saved",
    ),
    "another order after a restart": (
        "recovers_process",
        but("recovers_process", missing=3, twice=2),
        "failed",
        "state",
        f"{KILLED.words()}; in whole epochs 3 samples were never read, 2 more than once",
    ),
    "other weights in the end": (
        "recovers_pod",
        but("recovers_pod", weights=0.5),
        "failed",
        "state",
        f"{DELETED.words()}; {LOST.words()}; final weights are off by 0.5 of their size",
    ),
    "no weights in the end": (
        "recovers_pod",
        but("recovers_pod", weights=None),
        "failed",
        "state",
        f"{DELETED.words()}; {LOST.words()}; not all ranks handed in final weights that can be compared",
    ),
    "a Job that did not complete": (
        "recovers_pod",
        but("recovers_pod", complete=False),
        "failed",
        "gone",
        f"{DELETED.words()}; {LOST.words()}; the Job did not complete",
    ),
    "weights that are no numbers": (
        "replicas_agree",
        but("replicas_agree", seen=(SEEN[0], msgspec.structs.replace(SEEN[1], error=None))),
        "failed",
        "wrong",
        "after step 9 the weights are no numbers",
    ),
    "nothing read": (
        "every_sample_once",
        but("every_sample_once", epochs=(), shares=()),
        "failed",
        "missing",
        "no epoch was read",
    ),
    "an order that comes back": (
        "every_sample_once",
        but("every_sample_once", epochs=(*EPOCHS, *EPOCHS)),
        "failed",
        "order",
        "2 of 4 epochs have the order of an earlier one",
    ),
    "no steps at all": (
        "same_mathematics",
        but("same_mathematics", steps=(), weights=()),
        "failed",
        "absent",
        "0 of 2 steps were reported by all ranks; 2 ranks handed in no final weights",
    ),
}
for name, kind, known in (("process", "recovers_process", KILLED), ("pod", "recovers_pod", DELETED)):
    words = known.words()
    FAILURES |= {
        f"{name} gone": (
            kind,
            but(kind, losses=(loss(known, first=None, problem="; a log"),), planned=0),
            "failed",
            "gone",
            f"{words.split(':')[0]}: no new step; a log",
        ),
        f"{name} never lost": (
            kind,
            but(kind, losses=(), problem="step 7 was not done"),
            "failed",
            "stuck",
            "step 7 was not done",
        ),
        f"{name} gone for another reason": (
            kind,
            but(kind, losses=(known,), problem="step 19 was not done"),
            "failed",
            "gone",
            "step 19 was not done",
        ),
        f"{name} late": (
            kind,
            but(kind, losses=(loss(known, first=99.0),)),
            "failed",
            "slow",
            loss(known, first=99.0).words(),
        ),
        f"{name} again": (
            kind,
            but(kind, losses=(loss(known, again=11),)),
            "failed",
            "from_the_start",
            loss(known, again=11).words(),
        ),
        f"{name} state": (
            kind,
            but(kind, losses=(known,), steps=(STEPS[0], Step(1, (0.5, 0.5), 0.75))),
            "failed",
            "state",
            f"{words}; from step 1 on losses are others than in one unbroken run",
        ),
        f"{name} random": (
            kind,
            but(kind, losses=(known,), draws=(1, 2)),
            "failed",
            "random",
            f"{words}; 1 of 2 steps drew other random numbers",
        ),
    }
FAILURES |= {
    "a drill without end": (
        "diagnosis",
        drilled(seconds=None),
        "failed",
        "endless",
        "hang of rank 1: the run did not end within 30 s",
    ),
    "a silent drill": (
        "diagnosis",
        drilled(said=()),
        "failed",
        "silent",
        "hang of rank 1: no diagnosis.json that can be read",
    ),
    "a drill that says something else": (
        "diagnosis",
        drilled(said=(), unread=("rank 1 hangs",)),
        "failed",
        "silent",
        "hang of rank 1: no diagnosis.json that can be read, but 'rank 1 hangs'",
    ),
    "another fault": (
        "diagnosis",
        drilled(said=(Diagnosis("slow", 1), Diagnosis("hang", 1))),
        "failed",
        "wrong",
        "hang of rank 1 was called slow of rank 1, hang of rank 1",
    ),
}
