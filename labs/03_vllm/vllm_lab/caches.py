"""What the caches do for one replica: prompts that begin alike, and long answers that must all fit.

Place: test_vllm.py measures with these, one function a check. Limits: the server's own counters are read between two
moments at which it is idle; a gain that they do not explain is no gain.
"""

import statistics

from clusters.api import Progress
from graders import arrivals, stats, workload
from graders.check import Check
from graders.lengths import Fixed
from graders.metrics import VLLM
from graders.plan import Request
from graders.prompts import Prefixes, Workload
from graders.rubric import Finding
from graders.samples import Answer, Run
from graders.stats import Outcome
from graders.workload import Completions
from vllm_lab.bench import IDS, SEEDS, Bench, Observed, complaint, completions, excuse, within
from vllm_lab.sides import MODEL

HITS = 0.9
"""Share of the tokens that prompts have in common and that must come from the cache: the rest is for its block size."""
OWN_TOKENS = 64
ANSWER_TOKENS = 8
ONE_SIDED = 0.975


def prefix(check: Check, bench: Bench, progress: Progress, number: int) -> Finding:
    """How much sooner answers begin whose prompt begins like the ones before, and whether the cache is why."""
    goal, shared = check.threshold("prefix_gain"), int(check.threshold("prefix_tokens"))
    window, seed = check.threshold("prefix_seconds"), SEEDS.getrandbits(32)
    requests = alternating(seed, 1000, shared)

    def measure() -> Run:
        say, schedule = within(progress, "prefix cache"), arrivals.closed(1)
        return bench.run("submission", f"prefix-{number}", schedule, say, window=window, seed=seed, requests=requests)

    observed = bench.observe(f"prefix-{number}", within(progress, "prefix cache"), measure)
    run, found = observed.run, observed.found
    pairs = gains(run)
    estimate = stats.median_of_pairs(pairs)
    repeated = [run.plan.requests[each.sample.index].shared_tokens or 0 for each in run.answers if each.complete]
    expected_hits = sum(repeated)
    hits = found.prefix_hits or 0.0
    explained = bool(expected_hits) and hits >= HITS * expected_hits
    limits = run.client_limits()
    verdict = stats.decide(estimate, goal) if explained else "failed"
    times = (
        [
            statistics.median(each.ttft for each in run.measured if is_shared(each.sample.index) == kind)
            for kind in (False, True)
        ]
        if len(run.measured) > 1
        else [0.0, 0.0]
    )
    return Finding.of_estimate(
        estimate,
        unit="times sooner",
        expected=(
            f"a prompt whose first {shared} tokens came before is answered at least {goal:g} times sooner, with "
            f"at least {HITS:.0%} of them from the cache"
        ),
        observed=(
            f"{estimate.value or 0:.2f} times sooner: TTFT {times[1] * 1000:.0f} ms against {times[0] * 1000:.0f} ms; "
            f"{hits:.0f} of {expected_hits} tokens came from the cache{complaint(run)}{excuse(limits)}"
        ),
        verdict="inconclusive" if limits and not run.incomplete else verdict,
        hint=None if verdict == "passed" else "broken" if run.incomplete else "slow" if explained else "no_hits",
        evidence=observed.evidence,
    )


def alternating(seed: int, count: int, shared: int) -> tuple[Request, ...]:
    """Requests of one length: in each two, one whose first `shared` tokens are those of all such, and one of its own.

    Which comes first in a pair turns, so that a drift of the machine's speed falls on both.
    """
    form = Completions(model=MODEL, ids=IDS)
    prefixes, answer = Prefixes(groups=1, tokens=shared), Fixed(ANSWER_TOKENS)
    alike = Workload(name="alike", prompt=Fixed(OWN_TOKENS), output=answer, prefixes=prefixes)
    own = Workload(name="own", prompt=Fixed(shared + OWN_TOKENS), output=answer)
    kinds = {
        kind: iter(workload.build(form, [each], seed=seed, count=(count + 1) // 2))
        for kind, each in ((True, alike), (False, own))
    }
    return tuple(next(kinds[is_shared(index)]) for index in range(count))


def is_shared(index: int) -> bool:
    """Whether the request of that number begins like the others of its kind."""
    return index % 4 in (0, 3)


def gains(run: Run) -> list[float]:
    """TTFT of each prompt of its own over that of its pair, which begins like others; without the first pair."""
    measured = {each.sample.index: each for each in run.measured if each.good}
    pairs: list[tuple[Answer, Answer]] = []
    for index in range(2, len(run.plan.requests) - 1, 2):
        if index in measured and index + 1 in measured:
            one, other = measured[index], measured[index + 1]
            pairs.append((one, other) if is_shared(index) else (other, one))
    return [own.ttft / shared.ttft for shared, own in pairs if shared.ttft > 0]


def pressure(check: Check, bench: Bench, progress: Progress, number: int) -> Finding:
    """Whether many long answers at once all flow, without losing their place in the KV cache and starting again."""
    share, flowing = check.threshold("kv_share"), check.threshold("kv_flowing")
    count, tokens = int(check.threshold("kv_streams")), int(check.threshold("kv_output_tokens"))
    window, seed = check.threshold("kv_seconds"), SEEDS.getrandbits(32)
    requests = completions(seed, 40 * count, output_tokens=tokens)

    def measure() -> Run:
        say, schedule = within(progress, "long answers"), arrivals.closed(count)
        return bench.run(
            "submission", f"kv-{number}", schedule, say, window=window, drain=60.0, seed=seed, requests=requests
        )

    observed = bench.observe(f"kv-{number}", within(progress, "long answers"), measure)
    run, n = observed.run, len(observed.run.answers)
    lost = min(n, round(observed.found.preemptions or 0))
    at_once = concurrency(run)
    kept = stats.decide_share(n - lost, n, share, confidence=ONE_SIDED)
    verdict: Outcome = "failed" if run.incomplete or at_once < flowing else kept
    limits = run.client_limits()
    unread = observed.found.preemptions is None
    return Finding.of_estimate(
        stats.share(n - lost, n),
        unit="share of answers that keep their place",
        expected=(
            f"of {count} answers of {tokens} tokens at once, at least {flowing:g} flow on average, and at least "
            f"{share:.0%} keep their place in the KV cache"
        ),
        observed=(
            f"{at_once:.1f} flowed on average; {observed.found.preemptions or 0:.0f} pre-emptions in {n} answers"
            f"{unreadable(observed) if unread else ''}{complaint(run)}{excuse(limits)}"
        ),
        verdict="inconclusive" if limits or unread else verdict,
        hint=None if verdict == "passed" else "broken" if run.incomplete else "preempted" if lost else "few",
        evidence=observed.evidence,
    )


def concurrency(run: Run) -> float:
    """How many answers flowed at once, on average over the window: each between its first and its last token."""
    start, end = run.plan.ramp, run.plan.window_end
    spans = [
        (each.stream.first_token, each.stream.last_token if each.complete else each.sample.end) for each in run.answers
    ]
    inside = [min(last, end) - max(first, start) for first, last in spans if first is not None and last is not None]
    return sum(each for each in inside if each > 0) / run.plan.window


def unreadable(observed: Observed) -> str:
    """Why the server's counters say nothing, to be put behind a figure."""
    said = [each.sentence for each in observed.found.disagreements]
    return f"; {VLLM.preemptions} cannot be read: {said[0] if said else 'it is not there'}"
