"""What is measured of an upgrade and of the loss of a replica, and how that is judged. Pure.

Place: `availability` measures these facts, judges.py names the judges. Limits: one upgrade and one loss. What came
whole although the client was late did come whole, so only what falls short is undecided then.
"""

from graders import stats
from graders.judging import Facts, Thresholds
from graders.rubric import Finding
from graders.stats import Outcome
from vllm_lab.loads import Load, complaint, excuse

ONE_SIDED = 0.975
UNIT = "share of requests"


class Upgrade(Facts, frozen=True, kw_only=True):
    """Requests while the pod that served was replaced.

    Attributes:
        load: those of the window.
        requests: all of them.
        failed: those whose answer did not come whole.
        unanswered: those of which nothing came.
        seconds: for how long it was watched.
        took: seconds until the pod was replaced, None where that did not come to its end.
        unfinished: why not; None where it did.
        ending: whether new pods ended again and again.
    """

    load: Load
    requests: int
    failed: int
    unanswered: int
    seconds: float
    took: float | None
    unfinished: str | None
    ending: bool


def judge_upgrade(facts: Upgrade, _: Thresholds) -> Finding:
    """Whether it came to its end, and no request failed meanwhile."""
    n, failed, limits = facts.requests, facts.failed, facts.load.limits() if facts.failed else []
    broke = facts.ending or (failed and not limits)
    done = facts.took is not None and n and not failed
    verdict: Outcome = "failed" if broke else "passed" if done else "inconclusive"
    told = facts.unfinished if facts.took is None else f"the pod was replaced within {facts.took:.0f} s"
    met = "early" if facts.unanswered * 2 > failed else "cut_off"
    return Finding.of_estimate(
        stats.share(n - failed, n),
        unit=UNIT,
        expected="no failed request while the pod that serves is replaced",
        observed=(
            f"{failed} of {n} requests failed in {facts.seconds:.0f} s; {told or ''}{complaint([facts.load])}"
            f"{excuse(limits)}"
        ),
        verdict=verdict,
        hint=None if verdict != "failed" else "stuck" if facts.ending else met,
    )


class Loss(Facts, frozen=True, kw_only=True):
    """Requests in the `seconds` after one of so many pods was lost; no load, and `unready` why, where none could be."""

    load: Load | None
    pods: int
    seconds: float
    unready: str | None = None


def judge_loss(facts: Loss, threshold: Thresholds) -> Finding:
    """Whether so large a share of the requests was answered."""
    share = threshold("loss_share")
    expected = f"at least {share:.0%} of the requests in the {facts.seconds:.0f} s after a pod was lost are answered"
    if facts.load is None:
        return Finding(expected=expected, observed=facts.unready or "", verdict="failed", unit=UNIT, n=0)
    n = len(facts.load.answers)
    good = n - facts.load.incomplete
    verdict = stats.decide_share(good, n, share, confidence=ONE_SIDED)
    limits = facts.load.limits() if verdict != "passed" else []
    return Finding.of_estimate(
        stats.share(good, n),
        unit=UNIT,
        expected=expected,
        observed=(
            f"{n - good} of {n} requests failed after one of {facts.pods} pods was lost{complaint([facts.load])}"
            f"{excuse(limits)}"
        ),
        verdict="inconclusive" if limits else verdict,
        hint=None if verdict == "passed" else "alone" if facts.pods == 1 else "slow",
    )
