"""What is measured of one replica's answers and of its throughput, and how that is judged. Pure.

Place: `performance` measures these facts, judges.py names the judges. Limits: tokens per second are compared within a
pair, whose two sides ran one after the other.
"""

import statistics

from graders import stats
from graders.judging import Facts, Thresholds
from graders.rubric import Finding
from graders.stats import Outcome
from vllm_lab.gpu import GpuSeen
from vllm_lab.loads import Load, complaint, excuse

HELD = 0.1
"""Share of answers that may come in bursts, which a machine with more work than cores does to honest servers too."""
SAME = 0.5
"""Share of answers that begin as the starter's: rounding changes some, another model or tokenizer nearly all."""


class Streams(Facts, frozen=True, kw_only=True):
    """A load; of `both` prompts that the starter's server answered too, `same` begin with the same token and text."""

    load: Load
    same: int
    both: int


def judge_streams(facts: Streams, _: Thresholds) -> Finding:
    """Whether answers are complete, and begin as those of the starter's server to the same prompts."""
    load, n = facts.load, len(facts.load.answers)
    good, held, limits = n - load.incomplete, load.failed - load.incomplete, load.limits()
    complete = n > 0 and good == n and held <= HELD * n
    right = complete and facts.same >= SAME * facts.both > 0
    verdict: Outcome = "passed" if right else "inconclusive" if limits else "failed"
    return Finding.of_estimate(
        stats.share(good, n),
        unit="share of answers",
        expected=(
            f"every answer is a complete OpenAI stream of the length asked for, at most {HELD:.0%} in bursts, and at "
            f"least {SAME:.0%} begin with the starter's token"
        ),
        observed=(
            f"{good} of {n} are complete, {held} came in bursts, {facts.same} of {facts.both} begin with the starter's "
            f"token{complaint([load])}{excuse(limits)}"
        ),
        verdict=verdict,
        hint=None if right else "other_words" if complete else "broken",
    )


class Throughput(Facts, frozen=True, kw_only=True):
    """Loads of so many streams in pairs, each by its side in the order in which they ran, and what was seen of a GPU.

    `gpu` is None where GPUs are simulated.
    """

    streams: int
    pairs: tuple[dict[str, Load], ...]
    gpu: GpuSeen | None


def judge_throughput(facts: Throughput, threshold: Thresholds) -> Finding:
    """Tokens per second in times the starter's: the median of the pairs, and the interval that the sign test leaves."""
    goal, submissions = threshold("throughput_ratio"), [pair["submission"] for pair in facts.pairs]
    ours, theirs = ([pair[side].tokens_per_second for pair in facts.pairs] for side in ("submission", "baseline"))
    estimate = stats.median_of_pairs([one / other for one, other in zip(ours, theirs, strict=True)])
    limits = [limit for pair in facts.pairs for load in pair.values() for limit in load.limits()]
    verdict = stats.decide(estimate, goal)
    used = facts.gpu.use(threshold) if facts.gpu else None
    short = used.shortfalls(threshold) if used else []
    told = "; ".join(["", used.words(), *short]) if used else ""
    failed, asked = sum(load.failed for load in submissions), sum(len(load.answers) for load in submissions)
    return Finding.of_estimate(
        estimate,
        unit="times the starter",
        expected=f"at least {goal:g} times the starter's tokens/s with {facts.streams} streams",
        observed=(
            f"{estimate.value:.2f} times: {statistics.median(ours):.0f} tokens/s against "
            f"{statistics.median(theirs):.0f}{told}{complaint(submissions)}{excuse(limits)}"
        ),
        verdict="inconclusive" if limits else "failed" if short else verdict,
        hint=None if verdict == "passed" and not short else "broken" if failed * 2 > asked else "slow",
    )
