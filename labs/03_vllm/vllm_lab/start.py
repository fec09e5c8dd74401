"""Before anything is measured: what a submission may set and use, and whether its server comes up.

Place: test_vllm.py measures with these, one function a check. Limits: the first judges values, and needs no cluster but
for its level.
"""

from typing import Any

from clusters.api import Progress
from graders.allowance import overdrawn, strangers
from graders.check import Check
from graders.errors import SubmissionError
from graders.rubric import Finding
from vllm_lab.bench import Bench, within
from vllm_lab.sides import FIXED, FREE, uses


def budget(check: Check, own: dict[str, Any], joined: dict[str, Any]) -> Finding:
    """Judges a submission's `own` values, and what they come to once `joined` with the lab's."""
    foreign = strangers(own, FREE, FIXED)
    used = uses(joined, check.threshold)
    over = overdrawn(used)
    told = [f"{name} is not yours to set" for name in foreign]
    told += [f"{use.used:g} {use.what}, where {use.given:g} are given" for use in over]
    return Finding(
        expected="values of the learner's only, and at most " + ", ".join(f"{use.given:g} {use.what}" for use in used),
        observed="; ".join(told) or ", ".join(f"{use.used:g} {use.what}" for use in used),
        verdict="failed" if told else "passed",
        unit="rules kept",
        value=1.0 - len(over) / len(used),
        n=len(used),
        hint="not_yours" if foreign else "too_much" if over else None,
    )


def comes_up(bench: Bench, progress: Progress) -> Finding:
    """Installs both sides and waits until they serve."""
    expected = "the server is ready and answers at /health"
    try:
        bench.start(within(progress, "start"))
    except SubmissionError as error:
        return Finding(expected=expected, observed=str(error), verdict="failed", hint=bench.trouble())
    return Finding(
        expected=expected,
        observed=f"both sides served after {bench.start_seconds:.0f} s",
        verdict="passed",
        unit="s",
        value=bench.start_seconds,
        n=1,
    )
