"""What is measured of the caches of one replica, and how that is judged. Pure.

Place: `caches` measures these facts, judges.py names the judges. Limits: a gain that the server's own counters do not
explain is no gain.
"""

import statistics
from collections.abc import Sequence

from graders import stats
from graders.judging import Facts, Thresholds
from graders.metrics import VLLM
from graders.rubric import Finding
from graders.stats import Outcome
from vllm_lab.loads import Answered, Load, complaint, excuse

HITS = 0.9
"""Share of the tokens that prompts have in common and that must come from the cache: the rest is for its block size."""
ONE_SIDED = 0.975


class PrefixCache(Facts, frozen=True, kw_only=True):
    """A load in which every other prompt begins with the same `shared` tokens.

    `repeated` tokens are what prompts had in common with one before, and `hits` what the cache is said to have had of
    prompts, None where the server does not tell; `unread` is why its counters cannot be believed.
    """

    shared: int
    load: Load
    repeated: int
    hits: float | None
    unread: tuple[str, ...] = ()


def judge_prefix_cache(facts: PrefixCache, threshold: Thresholds) -> Finding:
    """How much sooner answers begin whose prompt begins like the ones before, and whether the cache is why."""
    goal, load, estimate = threshold("prefix_gain"), facts.load, stats.median_of_pairs(gains(facts.load.answers))
    explained = bool(facts.repeated) and (facts.hits or 0.0) >= HITS * facts.repeated
    limits, unread = load.limits(), facts.hits is None or bool(facts.unread)
    gained: Outcome = stats.decide(estimate, goal) if explained else "failed"
    verdict: Outcome = "failed" if load.incomplete else "inconclusive" if unread else gained
    verdict = "inconclusive" if limits else verdict
    cached = f"{facts.hits or 0:.0f} of {facts.repeated} tokens came from the cache"
    own, shared = (
        [
            statistics.median(each.waited for each in load.answers if is_shared(each.index) == kind)
            for kind in (False, True)
        ]
        if len(load.answers) > 1
        else [0.0, 0.0]
    )
    return Finding.of_estimate(
        estimate,
        unit="times sooner",
        expected=(
            f"a prompt whose first {facts.shared} tokens came before is answered at least {goal:g} times sooner, with "
            f"at least {HITS:.0%} of them from the cache"
        ),
        observed=(
            f"{estimate.value or 0:.2f} times sooner: TTFT {shared * 1000:.0f} ms against {own * 1000:.0f} ms; "
            f"{doubted(VLLM.prefix_hits, facts.unread) if unread else cached}{complaint([load])}{excuse(limits)}"
        ),
        verdict=verdict,
        hint=_slow_hint(facts, explained) if verdict != "passed" else None,
    )


def _slow_hint(facts: PrefixCache, explained: bool) -> str | None:
    """What kept answers from beginning sooner, as far as it is known."""
    if facts.load.incomplete:
        return "broken"
    if facts.hits is None or facts.unread:
        return None
    return "slow" if explained else "no_hits"


def doubted(counter: str | None, unread: Sequence[str]) -> str:
    """That a counter says nothing, and why."""
    return f"{counter} cannot be read: {(*unread, 'it is not there')[0]}"


def is_shared(index: int) -> bool:
    """Whether the request of that number begins like the others of its kind."""
    return index % 4 in (0, 3)


def gains(answers: Sequence[Answered]) -> list[float]:
    """TTFT of each prompt of its own over that of its pair, which begins like others; without the first pair."""
    good = {each.index: each.waited for each in answers if each.good}
    pairs = [(index, index + 1) for index in sorted(good) if index >= 2 and index % 2 == 0 and index + 1 in good]
    own_first = ((other, one) if is_shared(one) else (one, other) for one, other in pairs)
    return [good[own] / good[shared] for own, shared in own_first if good[shared] > 0]


class KvCache(Facts, frozen=True, kw_only=True):
    """A load of `streams` answers of `tokens` tokens at once.

    `flows` are the seconds of the window in which each of all `answers` flowed, `preemptions` how often one lost its
    place in the KV cache, None where the server does not tell; `unread` is why its counters cannot be believed.
    """

    streams: int
    tokens: int
    load: Load
    flows: tuple[float, ...]
    answers: int
    preemptions: float | None
    unread: tuple[str, ...]


def judge_kv_cache(facts: KvCache, threshold: Thresholds) -> Finding:
    """Whether many long answers at once all flow, without losing their place in the KV cache and starting again."""
    share, flowing = threshold("kv_share"), threshold("kv_flowing")
    n, load, limits = facts.answers, facts.load, facts.load.limits()
    unread = facts.preemptions is None or bool(facts.unread)
    lost = 0 if unread else min(n, round(facts.preemptions or 0))
    at_once = sum(facts.flows) / load.client.window
    kept = stats.decide_share(n - lost, n, share, confidence=ONE_SIDED)
    verdict: Outcome = "failed" if load.incomplete or at_once < flowing else "inconclusive" if unread else kept
    hint = "broken" if load.incomplete else "preempted" if lost else "few" if at_once < flowing else None
    return Finding.of_estimate(
        stats.share(n - lost, n),
        unit="share of answers that keep their place",
        expected=(
            f"of {facts.streams} answers of {facts.tokens} tokens at once, at least {flowing:g} flow on average, and "
            f"at least {share:.0%} keep their place in the KV cache"
        ),
        observed=(
            f"{at_once:.1f} flowed on average; {facts.preemptions or 0:.0f} pre-emptions in {n} answers"
            f"{f'; {doubted(VLLM.preemptions, facts.unread)}' if unread else ''}{complaint([load])}{excuse(limits)}"
        ),
        verdict="inconclusive" if limits else verdict,
        hint=None if verdict == "passed" else hint,
    )
