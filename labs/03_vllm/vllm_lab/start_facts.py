"""Whether a submission's server came up, and how that is judged. Pure.

Place: `start` measures these facts, judges.py names the judges. Limits: what its values use is judged in
`graders.budget`.
"""

from graders.judging import Facts, Thresholds
from graders.rubric import Finding


class Start(Facts, frozen=True, kw_only=True):
    """How long both sides took to serve; or what the submission's problem was, and of what kind."""

    seconds: float | None
    problem: str | None = None
    kind: str | None = None


def judge_start(facts: Start, _: Thresholds) -> Finding:
    """Whether both sides served."""
    expected = "the server is ready and answers at /health"
    if facts.seconds is None:
        return Finding(expected=expected, observed=facts.problem or "", verdict="failed", n=1, hint=facts.kind)
    return Finding(
        expected=expected,
        observed=f"both sides served after {facts.seconds:.0f} s",
        verdict="passed",
        unit="s",
        value=facts.seconds,
        n=1,
    )
