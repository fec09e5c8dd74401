"""Facts of lab 03's caches, its upgrade and its loss of a replica that fall short in one way each.

Place: `shortfalls_03_vllm` has them among its own, in the same form. Limits: as there.
"""

import msgspec

from tests.labs.facts_03_vllm import LATE, LATE_WORDS, broken, but, load, loads, turns
from tests.labs.shortfalls import Failure

REPLICAS: dict[str, Failure] = {
    "pre-emptions": (
        "kv_cache",
        but("kv_cache", preemptions=30.0),
        "failed",
        "preempted",
        "15.0 flowed on average; 30 pre-emptions in 40 answers",
    ),
    "few that flow": (
        "kv_cache",
        but("kv_cache", flows=(1.0,) * 4),
        "failed",
        "few",
        "2.0 flowed on average; 0 pre-emptions in 40 answers",
    ),
    "long answers that break": (
        "kv_cache",
        but("kv_cache", load=loads(40, failed=1)),
        "failed",
        "broken",
        "15.0 flowed on average; 0 pre-emptions in 40 answers; most often: it broke",
    ),
    "pre-emptions that nobody counts": (
        "kv_cache",
        but("kv_cache", preemptions=None),
        "inconclusive",
        None,
        "15.0 flowed on average; 0 pre-emptions in 40 answers; vllm:num_preemptions_total cannot be read: it is not "
        "there",
    ),
    "long answers that break while nobody counts pre-emptions": (
        "kv_cache",
        but("kv_cache", load=loads(40, failed=1), preemptions=None, unread=("it began anew during the load",)),
        "failed",
        "broken",
        "15.0 flowed on average; 0 pre-emptions in 40 answers; vllm:num_preemptions_total cannot be read: it began "
        "anew during the load; most often: it broke",
    ),
    "pre-emptions by counters that are wrong elsewhere": (
        "kv_cache",
        but("kv_cache", unread=("finished requests: expected 40, observed 12",)),
        "inconclusive",
        None,
        "15.0 flowed on average; 0 pre-emptions in 40 answers; vllm:num_preemptions_total cannot be read: finished "
        "requests: expected 40, observed 12",
    ),
    "long answers that break beside a late client": (
        "kv_cache",
        but("kv_cache", load=loads(40, failed=1, client=LATE)),
        "inconclusive",
        "broken",
        f"15.0 flowed on average; 0 pre-emptions in 40 answers; most often: it broke; {LATE_WORDS}",
    ),
    "no cache": (
        "prefix_cache",
        but("prefix_cache", hits=0.0),
        "failed",
        "no_hits",
        "4.00 times sooner: TTFT 100 ms against 400 ms; 0 of 15360 tokens came from the cache",
    ),
    "a cache that helps little": (
        "prefix_cache",
        but("prefix_cache", load=turns(1.2)),
        "failed",
        "slow",
        "1.20 times sooner: TTFT 100 ms against 120 ms; 15000 of 15360 tokens came from the cache",
    ),
    "prompts that are refused": (
        "prefix_cache",
        but("prefix_cache", load=load(*map(broken, range(8))), repeated=0),
        "failed",
        "broken",
        "0.00 times sooner: TTFT inf ms against inf ms; 15000 of 0 tokens came from the cache; most often: it broke",
    ),
    "prompts beside a late client": (
        "prefix_cache",
        but("prefix_cache", load=msgspec.structs.replace(turns(1.2), client=LATE)),
        "inconclusive",
        "slow",
        f"1.20 times sooner: TTFT 100 ms against 120 ms; 15000 of 15360 tokens came from the cache; {LATE_WORDS}",
    ),
    "prompts that are refused beside a late client": (
        "prefix_cache",
        but("prefix_cache", load=load(*turns(4.0).answers, broken(20), client=LATE)),
        "inconclusive",
        "broken",
        "4.00 times sooner: TTFT 100 ms against 400 ms; 15000 of 15360 tokens came from the cache; most often: it "
        f"broke; {LATE_WORDS}",
    ),
    "one prompt of many that is refused": (
        "prefix_cache",
        but("prefix_cache", load=load(*turns(4.0).answers, broken(20))),
        "failed",
        "broken",
        "4.00 times sooner: TTFT 100 ms against 400 ms; 15000 of 15360 tokens came from the cache; most often: it "
        "broke",
    ),
    "hits that nobody counts": (
        "prefix_cache",
        but("prefix_cache", hits=None, unread=("pod-1 was not idle after the load",)),
        "inconclusive",
        None,
        "4.00 times sooner: TTFT 100 ms against 400 ms; vllm:prefix_cache_hits_total cannot be read: pod-1 was not "
        "idle after the load",
    ),
    "hits by counters that are wrong elsewhere": (
        "prefix_cache",
        but("prefix_cache", unread=("prompt tokens: expected 1, observed 2",)),
        "inconclusive",
        None,
        "4.00 times sooner: TTFT 100 ms against 400 ms; vllm:prefix_cache_hits_total cannot be read: prompt tokens: "
        "expected 1, observed 2",
    ),
    "an upgrade that a late client saw break": (
        "rolling_upgrade",
        but("rolling_upgrade", load=loads(20, failed=3, client=LATE), failed=3, unanswered=2),
        "inconclusive",
        None,
        f"3 of 20 requests failed in 40 s; the pod was replaced within 31 s; most often: it broke; {LATE_WORDS}",
    ),
    "an upgrade that cannot end beside a late client": (
        "rolling_upgrade",
        but("rolling_upgrade", load=loads(20, client=LATE), took=None, unfinished="it ends", ending=True),
        "failed",
        "stuck",
        "0 of 20 requests failed in 40 s; it ends",
    ),
    "a loss that a late client saw": (
        "replica_loss",
        but("replica_loss", load=loads(60, failed=40, client=LATE)),
        "inconclusive",
        "slow",
        f"40 of 60 requests failed after one of 2 pods was lost; most often: it broke; {LATE_WORDS}",
    ),
    "replicas that never came": (
        "replica_loss",
        but("replica_loss", load=None, pods=0, unready="1 of 2 pods are ready"),
        "failed",
        None,
        "1 of 2 pods are ready",
    ),
    "requests that met no server": (
        "rolling_upgrade",
        but("rolling_upgrade", failed=3, unanswered=2),
        "failed",
        "early",
        "3 of 20 requests failed in 40 s; the pod was replaced within 31 s",
    ),
    "requests that lost their server": (
        "rolling_upgrade",
        but("rolling_upgrade", failed=3, unanswered=1),
        "failed",
        "cut_off",
        "3 of 20 requests failed in 40 s; the pod was replaced within 31 s",
    ),
    "an upgrade that cannot end": (
        "rolling_upgrade",
        but("rolling_upgrade", took=None, unfinished="it ends again and again", ending=True),
        "failed",
        "stuck",
        "0 of 20 requests failed in 40 s; it ends again and again",
    ),
    "an upgrade that takes long": (
        "rolling_upgrade",
        but("rolling_upgrade", took=None, unfinished="it was not done in 40 s"),
        "inconclusive",
        None,
        "0 of 20 requests failed in 40 s; it was not done in 40 s",
    ),
    "one replica": (
        "replica_loss",
        but("replica_loss", pods=1, load=loads(60, failed=40)),
        "failed",
        "alone",
        "40 of 60 requests failed after one of 1 pods was lost; most often: it broke",
    ),
    "a Service that does not notice": (
        "replica_loss",
        but("replica_loss", load=loads(60, failed=40)),
        "failed",
        "slow",
        "40 of 60 requests failed after one of 2 pods was lost; most often: it broke",
    ),
}
