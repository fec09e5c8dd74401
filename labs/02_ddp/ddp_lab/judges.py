"""Which function judges the facts of which check.

Place: `graders.judging` loads it, to grade and to re-score; what each part means is said there. Limits: a threshold
that measuring asks for, and that is neither judged by nor named as effort here, is a condition of what was claimed.
"""

from ddp_lab import drills_facts as drills
from ddp_lab import proof_facts as proof
from ddp_lab import recovery_facts as recovery
from ddp_lab import scaling_facts as scaling
from graders import budget
from graders.judging import Judge, Judges

TURNS = ("scaling_pairs", "scaling_steps", "scaling_turn_seconds")

JUDGES: Judges = {
    "values_within_budget": Judge("02_ddp/budget/v1", budget.Budget, budget.judge_budget),
    "run_completes": Judge("02_ddp/completed/v1", proof.Completed, proof.judge_completed),
    "one_run": Judge("02_ddp/one_run/v1", proof.OneRun, proof.judge_one_run),
    "every_sample_once": Judge("02_ddp/samples/v1", proof.SamplesRead, proof.judge_samples),
    "same_mathematics": Judge("02_ddp/mathematics/v1", proof.Mathematics, proof.judge_mathematics),
    "replicas_agree": Judge("02_ddp/replicas/v1", proof.Replicas, proof.judge_replicas),
    "communication": Judge("02_ddp/communication/v1", scaling.Turns, scaling.judge_communication, effort=TURNS),
    "scaling": Judge("02_ddp/scaling/v1", scaling.Turns, scaling.judge_scaling, effort=TURNS),
    "recovers_process": Judge("02_ddp/process/v1", recovery.Recovery, recovery.judge_process),
    "recovers_pod": Judge("02_ddp/pod/v1", recovery.Recovery, recovery.judge_pod),
    "diagnosis": Judge("02_ddp/drills/v1", drills.Drills, drills.judge_drills, effort=("drill_timeout_seconds",)),
}
