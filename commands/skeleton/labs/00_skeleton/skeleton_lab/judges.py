"""Which function judges the facts of which check.

Place: `graders.judging` loads it, to grade and to re-score; what each part means is said there. Limits: a new shape or
meaning of facts takes a new format.
"""

from graders.judging import Judge, Judges
from skeleton_lab import facts

JUDGES: Judges = {
    "resources_within_budget": Judge("00_skeleton/budget/v1", facts.Budget, facts.judge_budget),
    "replicas_are_ready": Judge("00_skeleton/ready/v1", facts.Ready, facts.judge_ready),
}
