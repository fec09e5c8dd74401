"""What users see while the submission is upgraded, and when it loses a replica.

Place: test_vllm.py measures with these, one function a check, after the performance checks, as the upgrade ends the
baseline. Limits: one upgrade and one loss; each request opens a connection of its own and is never sent again.
"""

import time
from collections.abc import Callable

from clusters.api import Progress
from graders import arrivals, stats
from graders.check import Check
from graders.errors import SubmissionError
from graders.rubric import Finding
from graders.samples import Run
from graders.stats import Outcome
from vllm_lab.bench import SEEDS, Bench, complaint, completions, within

ONE_SIDED = 0.975
UNIT = "share of requests"
GRACE_SECONDS = 12.0
"""What an upgrade takes besides the start of the new pods: Helm, and the end of the old one."""


def upgrade(check: Check, bench: Bench, progress: Progress, number: int) -> Finding:
    """Requests at an even pace while the one pod that served so far is replaced."""
    say = within(progress, "upgrade")
    bench.stop_baseline(say)
    if number > 1:
        bench.settle(say)
    rate = check.threshold("upgrade_load_factor") * bench.alone_last(say).rate
    # A server starts while another serves, where two started at rest; then the old one takes its grace.
    window = number * (check.threshold("upgrade_patience") * bench.start_seconds + GRACE_SECONDS)
    took: list[float] = []
    unfinished: list[str] = []

    def happen() -> None:
        try:
            took.append(bench.upgrade(window, say))
        except SubmissionError as error:
            unfinished.append(str(error))

    tokens = int(check.threshold("upgrade_output_tokens"))
    run = _loaded(bench, f"upgrade-{number}", say, rate, window, tokens, happen)
    n, good = len(run.answers), sum(each.complete for each in run.answers)
    ending = bool(unfinished) and bench.trouble() == "ending"
    verdict: Outcome = "failed" if ending or good < n else "passed" if took and n else "inconclusive"
    told = f"the pod was replaced within {took[0]:.0f} s" if took else "; ".join(unfinished)
    return Finding.of_estimate(
        stats.share(good, n),
        unit=UNIT,
        expected="no failed request while the pod that serves is replaced",
        observed=f"{n - good} of {n} requests failed in {window:.0f} s; {told}{complaint(run)}",
        verdict=verdict,
        hint=None if verdict != "failed" else "stuck" if ending else _upgrade_hint(run),
        evidence=bench.kept(f"upgrade-{number}-"),
    )


def loss(check: Check, bench: Bench, progress: Progress, number: int) -> Finding:
    """Requests at an even pace while one pod is deleted without grace."""
    say, share = within(progress, "loss of a replica"), check.threshold("loss_share")
    pods = bench.all_replicas(say)
    rate = check.threshold("loss_load_factor") * bench.alone_last(say).rate
    victim, ramp = SEEDS.choice(pods), 1.0

    def happen() -> None:
        time.sleep(ramp)
        say(f"deleting {victim} without grace")
        bench.kill(victim)

    window = check.threshold("loss_seconds")
    run = _loaded(bench, f"loss-{number}", say, rate, window, int(check.threshold("loss_output_tokens")), happen, ramp)
    n, good = len(run.measured), len(run.measured) - len(run.incomplete)
    verdict = stats.decide_share(good, n, share, confidence=ONE_SIDED)
    return Finding.of_estimate(
        stats.share(good, n),
        unit=UNIT,
        expected=f"at least {share:.0%} of the requests in the {window:g} s after a pod was lost are answered",
        observed=f"{n - good} of {n} requests failed after one of {len(pods)} pods was lost{complaint(run)}",
        verdict=verdict,
        hint=None if verdict == "passed" else "alone" if len(pods) == 1 else "slow",
        evidence=bench.kept(f"loss-{number}-"),
    )


def _loaded(
    bench: Bench,
    name: str,
    progress: Progress,
    rate: float,
    window: float,
    tokens: int,
    happen: Callable[[], None],
    ramp: float = 1.0,
) -> Run:
    schedule = arrivals.constant(rate, ramp + window)
    seed = SEEDS.getrandbits(32)
    requests = completions(seed, len(schedule.times), output_tokens=tokens)
    return bench.run(
        "submission",
        name,
        schedule,
        progress,
        window=window,
        ramp=ramp,
        drain=60.0,
        seed=seed,
        requests=requests,
        happen=happen,
    )


def _upgrade_hint(run: Run) -> str:
    """Whether requests met no server, or lost the one they had."""
    failed = [each for each in run.answers if not each.complete]
    unanswered = sum(each.sample.first_byte is None for each in failed)
    return "early" if unanswered * 2 > len(failed) else "cut_off"
