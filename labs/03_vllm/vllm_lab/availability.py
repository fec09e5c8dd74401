"""What users see while the submission is upgraded, and when it loses a replica.

Place: test_vllm.py measures with these, one function a check, after the performance checks, as the upgrade ends the
baseline; what they return is judged in `availability_facts`. Limits: one upgrade and one loss; each request opens a
connection of its own and is never sent again.
"""

import time
from collections.abc import Callable

from clusters.api import Progress, within
from graders import arrivals
from graders.check import Check
from graders.errors import SubmissionError
from graders.samples import Run
from vllm_lab.availability_facts import Loss, Upgrade
from vllm_lab.bench import SEEDS, Bench, completions
from vllm_lab.loads import Load

GRACE_SECONDS = 12.0
"""What an upgrade takes besides the start of the new pods: Helm, and the end of the old one."""


def upgrade(check: Check, bench: Bench, progress: Progress, number: int) -> Upgrade:
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
    failed = [each for each in run.answers if not each.complete]
    return Upgrade(
        load=Load.of(run),
        requests=len(run.answers),
        failed=len(failed),
        unanswered=sum(each.sample.first_byte is None for each in failed),
        seconds=window,
        took=took[0] if took else None,
        unfinished="; ".join(unfinished) or None,
        ending=bool(unfinished) and bench.trouble() == "ending",
        evidence=bench.kept(f"upgrade-{number}-"),
    )


def loss(check: Check, bench: Bench, progress: Progress, number: int) -> Loss:
    """Requests at an even pace while one pod is deleted without grace."""
    say = within(progress, "loss of a replica")
    rate = check.threshold("loss_load_factor") * bench.alone_last(say).rate
    # As many as decide the share, also where the starter, which the load is counted by, is slow.
    window = max(check.threshold("loss_seconds"), check.threshold("loss_requests") / rate)
    try:
        pods = bench.all_replicas(say)
    except SubmissionError as error:
        return Loss(load=None, pods=0, seconds=window, unready=str(error))
    victim, ramp = SEEDS.choice(pods), 1.0

    def happen() -> None:
        time.sleep(ramp)
        say(f"deleting {victim} without grace")
        bench.kill(victim)

    run = _loaded(bench, f"loss-{number}", say, rate, window, int(check.threshold("loss_output_tokens")), happen, ramp)
    return Loss(load=Load.of(run), pods=len(pods), seconds=window, evidence=bench.kept(f"loss-{number}-"))


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
