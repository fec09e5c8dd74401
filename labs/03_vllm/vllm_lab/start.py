"""Before anything is measured: what a submission may set and use, and whether its server comes up.

Place: test_vllm.py measures with these, one function a check; what they return is judged in `graders.budget` and
`start_facts`. Limits: the first reads values, and needs no cluster but for its level.
"""

from typing import Any

from clusters.api import Progress, within
from graders.allowance import strangers
from graders.budget import Budget
from graders.errors import SubmissionError
from vllm_lab.bench import Bench
from vllm_lab.sides import FIXED, FREE, uses
from vllm_lab.start_facts import Start


def budget(own: dict[str, Any], joined: dict[str, Any]) -> Budget:
    """Reads a submission's `own` values, and what they come to once `joined` with the lab's."""
    return Budget(foreign=tuple(strangers(own, FREE, FIXED)), uses=uses(own, joined))


def comes_up(bench: Bench, progress: Progress) -> Start:
    """Installs both sides and waits until they serve."""
    try:
        bench.start(within(progress, "start"))
    except SubmissionError as error:
        return Start(seconds=None, problem=str(error), kind=bench.trouble())
    return Start(seconds=bench.start_seconds)
