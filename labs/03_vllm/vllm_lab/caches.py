"""What the caches do for one replica: prompts that begin alike, and long answers that must all fit.

Place: test_vllm.py measures with these, one function a check; what they return is judged in `caches_facts`. Limits: the
server's own counters are read between two moments at which it is idle.
"""

from clusters.api import Progress, within
from graders import arrivals, workload
from graders.check import Check
from graders.crosscheck import Crosscheck
from graders.lengths import Fixed
from graders.plan import Request
from graders.prompts import Prefixes, Workload
from graders.samples import Run
from graders.workload import Completions
from vllm_lab.bench import IDS, SEEDS, Bench, completions
from vllm_lab.caches_facts import KvCache, PrefixCache, is_shared
from vllm_lab.counters_facts import TIMED
from vllm_lab.loads import Load
from vllm_lab.sides import MODEL

OWN_TOKENS = 64
ANSWER_TOKENS = 8


def prefix(check: Check, bench: Bench, progress: Progress, number: int) -> PrefixCache:
    """Answers to prompts that begin like the ones before, in turns with others, and tokens found in the cache.

    They are watched for twice as long the second time: a machine that stands still leaves few pairs, far apart.
    """
    shared, window = int(check.threshold("prefix_tokens")), check.threshold("prefix_seconds") * number
    seed = SEEDS.getrandbits(32)
    requests = alternating(seed, 1000, shared)

    def measure() -> Run:
        say, schedule = within(progress, "prefix cache"), arrivals.closed(1)
        return bench.run("submission", f"prefix-{number}", schedule, say, window=window, seed=seed, requests=requests)

    observed = bench.observe(f"prefix-{number}", within(progress, "prefix cache"), measure)
    run = observed.run
    repeated = [run.plan.requests[each.sample.index].shared_tokens or 0 for each in run.answers if each.complete]
    return PrefixCache(
        shared=shared,
        load=Load.of(run),
        repeated=sum(repeated),
        hits=observed.found.prefix_hits,
        unread=unread(observed.found),
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


def pressure(check: Check, bench: Bench, progress: Progress, number: int) -> KvCache:
    """Many long answers at once, and how many of them lost their place in the KV cache and started again.

    A slow machine gives each user one answer, too few to decide; the second time they are watched for twice as long.
    """
    count, tokens = int(check.threshold("kv_streams")), int(check.threshold("kv_output_tokens"))
    window, seed = check.threshold("kv_seconds") * number, SEEDS.getrandbits(32)
    requests = completions(seed, 40 * count, output_tokens=tokens)

    def measure() -> Run:
        say, schedule = within(progress, "long answers"), arrivals.closed(count)
        return bench.run(
            "submission", f"kv-{number}", schedule, say, window=window, drain=60.0, seed=seed, requests=requests
        )

    observed = bench.observe(f"kv-{number}", within(progress, "long answers"), measure)
    return KvCache(
        streams=count,
        tokens=tokens,
        load=Load.of(observed.run),
        flows=flows(observed.run),
        answers=len(observed.run.answers),
        preemptions=observed.found.preemptions,
        unread=unread(observed.found),
        evidence=observed.evidence,
    )


def unread(found: Crosscheck) -> tuple[str, ...]:
    """Why the server's counters cannot be believed: what client and server count must agree, else no gain is explained.

    Times are compared by the check of the counters, under a load that is made for it.
    """
    return tuple(each.sentence for each in found.disagreements if not each.name.startswith(TIMED))


def flows(run: Run) -> tuple[float, ...]:
    """For how many seconds of the window each answer flowed: between its first and its last token."""
    start, end = run.plan.ramp, run.plan.window_end
    spans = [
        (each.stream.first_token, each.stream.last_token if each.complete else each.sample.end) for each in run.answers
    ]
    inside = [min(last, end) - max(first, start) for first, last in spans if first is not None and last is not None]
    return tuple(each for each in inside if each > 0)
