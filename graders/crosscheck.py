"""Holds what a server says of itself against what its client saw: named identities and bounds. Pure.

Place: lab checks call `compare` with a round of scrapes from before and one from after everything that the `Ledger`
knows; each disagreement is a finding against the evidence, not a warning. Limits: the server was idle at both scrapes
and had no other client; nothing is read out of a histogram but its count, its sum and its buckets at their edges.

    found = compare(VLLM, window.scrapes, ledger([warm_up, run]), path_seconds=0.25)
    for each in found.disagreements:
        print(each.name, each.sentence)

Names, in the order in which they are looked at; where one of the first two lines disagrees, the rest is left out:

- scrape, replicas, missing_metric: there is nothing to compare.
- restart, counter_reset, idle_before, idle_after, frozen_metrics: the counters do not count this measurement.
- impossible_histogram: no observations can have given it, at either scrape or in between; it is not compared then.
- finished_requests, prompt_tokens, generation_tokens: equal to the client's; where answers are not complete, between
  what these and all answers make.
- usage_tokens: the sums that usage tells are those of the prompts sent and of the token ids that came.
- prefix_cache_queries, prefix_cache_hits, prompt_sources, step_tokens, histogram_counts: the server agrees with itself.
- mean_ttft, mean_e2e, mean_tpot, buckets_ttft, buckets_e2e, buckets_tpot, counters_during, littles_law: see `bounds`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from graders import bounds
from graders.bounds import Disagreement, LeftOut
from graders.ledger import Ledger
from graders.metrics import Change, Histogram, Metrics, Names, change, merge
from graders.sampler import Scrape
from graders.scrape import Round, Scrapes

COUNTED = ("finished_requests", "prompt_tokens", "generation_tokens")
NOT_TOLD = "the server does not tell it"


class Crosscheck(msgspec.Struct, frozen=True, kw_only=True):
    """What came out.

    Attributes:
        disagreements: each with its name and a sentence of what was expected and observed.
        agreed: names of what was compared and agrees.
        left_out: names of what could not be compared, with the reason.
        by_replica: finished requests at each replica; empty where the counters say nothing.
        preemptions: how often a request lost its place in the KV cache, None where the server does not say.
        prefix_queries: prompt tokens looked up in the prefix cache, None where the server does not say.
        prefix_hits: those found there.
        histograms: "ttft", "tpot" and "e2e" of all replicas over the load, those of them that the server tells.
    """

    disagreements: tuple[Disagreement, ...]
    agreed: tuple[str, ...] = ()
    left_out: dict[str, str] = {}
    by_replica: dict[str, float] = {}
    preemptions: float | None = None
    prefix_queries: float | None = None
    prefix_hits: float | None = None
    histograms: dict[str, Histogram] = {}


@dataclass(frozen=True)
class Server:
    """All replicas between two rounds, kept apart and summed."""

    names: Names
    before: Mapping[str, Metrics]
    after: Mapping[str, Metrics]
    changes: Mapping[str, Change]

    def total(self, name: str | None, **labels: str) -> float | None:
        """By how much a counter grew at all replicas together; None where one of them does not have it."""
        if name is None:
            return None
        parts = [each.by.total(name, **labels) for each in self.changes.values()]
        return sum(part for part in parts if part is not None) if None not in parts else None

    def ends(self, name: str) -> tuple[float, float]:
        """What a counter said before and after, at all replicas together."""
        first, last = (sum(each.total(name) or 0.0 for each in end.values()) for end in (self.before, self.after))
        return first, last

    def histogram(self, name: str | None) -> Histogram | None:
        """The observations in between at all replicas together; None where one of them has none that can be."""
        if name is None:
            return None
        parts = [each.by.histogram(name) for each in self.changes.values()]
        possible = [part for part in parts if part and not part.faults()]
        return merge(possible) if len(possible) == len(parts) else None

    def latencies(self) -> dict[str, Histogram | None]:
        """The histograms of time."""
        names = self.names
        return {
            name: self.histogram(metric)
            for name, metric in (("ttft", names.ttft), ("tpot", names.tpot), ("e2e", names.e2e))
        }


def compare(
    names: Names,
    scrapes: Scrapes,
    client: Ledger,
    *,
    path_seconds: float | None = None,
    client_lag: float = 0.002,
) -> Crosscheck:
    """Compares everything that can be compared.

    Args:
        names: how the server calls what it tells.
        scrapes: of all replicas from before the first request of the ledger, from after the last, and in between.
        client: all requests in between.
        path_seconds: how much longer than the server the client may see TTFT and E2E, at most; None when the lab knows
            no such bound, then the server's are only held to be no larger.
        client_lag: by how many seconds the client's own times may be late.
    """
    try:
        server = _read(names, scrapes)
    except _Unusable as error:
        return Crosscheck(
            disagreements=error.disagreements, left_out={"everything else": "there is nothing to compare"}
        )
    if unfit := tuple(_unfit(server, client)):
        why = "the counters do not count this measurement"
        return Crosscheck(disagreements=unfit, left_out={"everything else": why})
    found: list[Disagreement] = []
    agreed: list[str] = []
    left_out: dict[str, str] = {}
    for name, look in _looks(server, client, scrapes.during, path_seconds, client_lag).items():
        if name.startswith("buckets_") and name.replace("buckets", "mean") in {each.name for each in found}:
            left_out[name] = "the means disagree already"
            continue
        try:
            said = list(look())
        except LeftOut as reason:
            left_out[name] = str(reason)
            continue
        found += said
        agreed += [] if said else [name]
    return Crosscheck(
        disagreements=tuple(found),
        agreed=tuple(agreed),
        left_out=left_out,
        by_replica={replica: each.by.total(names.finished) or 0.0 for replica, each in server.changes.items()},
        preemptions=server.total(names.preemptions),
        prefix_queries=server.total(names.prefix_queries),
        prefix_hits=server.total(names.prefix_hits),
        histograms={name: each for name, each in server.latencies().items() if each is not None},
    )


class _Unusable(Exception):
    def __init__(self, disagreements: Sequence[Disagreement]) -> None:
        super().__init__()
        self.disagreements = tuple(disagreements)


def _read(names: Names, scrapes: Scrapes) -> Server:
    """Both rounds, understood; raises _Unusable with why they are not."""
    wrong: list[Disagreement] = []
    rounds: list[dict[str, Metrics]] = []
    for taken, when in ((scrapes.before, "before"), (scrapes.after, "after")):
        rounds.append({})
        for scrape in taken:
            try:
                rounds[-1][scrape.replica] = _parse(scrape)
            except ValueError as error:
                wrong.append(
                    Disagreement("scrape", f"the metrics of {scrape.replica} {when} the load cannot be read: {error}")
                )
    first, last = rounds
    if not wrong and (not first or first.keys() != last.keys()):
        wrong.append(
            Disagreement("replicas", f"the replicas were {_list(first)} before the load and {_list(last)} after it")
        )
    needed = (names.finished, names.prompt_tokens, names.generation_tokens, names.running, names.waiting)
    for replica, metrics in last.items():
        if missing := [name for name in needed if metrics.total(name) is None]:
            wrong.append(Disagreement("missing_metric", f"{replica} does not tell {_list(missing)}"))
    if wrong:
        raise _Unusable(wrong)
    return Server(names, first, last, {replica: change(first[replica], last[replica]) for replica in first})


def _parse(scrape: Scrape) -> Metrics:
    if scrape.failure:
        raise ValueError(scrape.failure)
    return Metrics.parse(scrape.text)


def _unfit(server: Server, client: Ledger) -> Iterator[Disagreement]:
    """Why the counters do not count this measurement."""
    names = server.names
    for replica, each in server.changes.items():
        if each.restarted:
            yield Disagreement("restart", f"{replica} began anew during the load, so its counters lost what was before")
        elif each.fell:
            yield Disagreement(
                "counter_reset", f"{_list(each.fell)} of {replica} went down during the load without a restart"
            )
        for when, metrics in (("before", server.before[replica]), ("after", server.after[replica])):
            busy = (metrics.total(names.running) or 0.0) + (metrics.total(names.waiting) or 0.0)
            if busy:
                yield Disagreement(
                    f"idle_{when}", f"{replica} was not idle {when} the load: {busy:g} requests ran or waited in it"
                )
    counters = (names.finished, names.prompt_tokens, names.generation_tokens)
    if client.finished and not any(server.total(name) for name in counters):
        yield Disagreement(
            "frozen_metrics", f"the client got {client.finished} complete answers, but no counter of the server moved"
        )


def _looks(
    server: Server,
    client: Ledger,
    during: Sequence[Round],
    path_seconds: float | None,
    client_lag: float,
) -> dict[str, Callable[[], Iterator[Disagreement]]]:
    """Every comparison by its name."""
    names = server.names
    times = server.latencies()
    late = client_lag + bounds.path(times["ttft"], client.ttft)
    lag = late * client.finished / max(1, client.later_tokens)
    looks: dict[str, Callable[[], Iterator[Disagreement]]] = {
        "impossible_histogram": partial(_impossible, server),
        **{name: partial(_tokens, server, client, name) for name in COUNTED},
        "usage_tokens": partial(_usage, client),
        "prefix_cache_queries": partial(_queries, server),
        "prefix_cache_hits": partial(_hits, server, client),
        "prompt_sources": partial(_sources, server),
        "step_tokens": partial(_steps, server),
        "histogram_counts": partial(_counts, server, client),
        "mean_tpot": partial(bounds.mean_tpot, times["tpot"], client.tpot, lag),
        "buckets_tpot": partial(bounds.buckets_tpot, times["tpot"], client.tpot, lag),
        "counters_during": partial(bounds.counters_during, names, during, server.ends(names.finished), client),
        "littles_law": partial(bounds.littles_law, names, during, client),
    }
    for name, seen in (("ttft", client.ttft), ("e2e", client.e2e)):
        looks[f"mean_{name}"] = partial(bounds.mean, name, times[name], seen, path_seconds)
        looks[f"buckets_{name}"] = partial(bounds.buckets, name, times[name], seen, path_seconds)
    return looks


def _impossible(server: Server) -> Iterator[Disagreement]:
    """Histograms that no observations can have given, by replica; in between only where both ends are possible."""
    for replica, each in server.changes.items():
        for name in server.names.histograms:
            looked = {
                "before the load": server.before[replica].histogram(name),
                "after the load": server.after[replica].histogram(name),
                "between the two scrapes": each.by.histogram(name),
            }
            for when, histogram in looked.items():
                if histogram and (faults := histogram.faults()):
                    yield Disagreement("impossible_histogram", f"{name} of {replica} {when}: {faults[0]}")
                    break


def _tokens(server: Server, client: Ledger, name: str) -> Iterator[Disagreement]:
    """One of the counters that the client can count itself."""
    sure, loose, metric = {
        "finished_requests": (client.finished, client.open, server.names.finished),
        "prompt_tokens": (client.prompt_tokens, client.open_prompt_tokens, server.names.prompt_tokens),
        "generation_tokens": (client.output_tokens, client.open_output_tokens, server.names.generation_tokens),
    }[name]
    yield from _between(name, sure, sure + loose, server.total(metric), metric)


def _usage(client: Ledger) -> Iterator[Disagreement]:
    yield from _equal("usage_tokens", "prompt tokens sent", client.prompt_tokens, client.usage_prompt_tokens, "usage")
    yield from _equal("usage_tokens", "tokens that came", client.output_tokens, client.usage_output_tokens, "usage")


def _queries(server: Server) -> Iterator[Disagreement]:
    """Each prompt token is looked up once, when its request is admitted; nothing where the cache is off."""
    names = server.names
    queries = _told(server.total(names.prefix_queries))
    if not queries:
        raise LeftOut("the prefix cache was not asked")
    what = f"prompt tokens by {names.prompt_tokens}"
    yield from _equal("prefix_cache_queries", what, server.total(names.prompt_tokens), queries, names.prefix_queries)


def _hits(server: Server, client: Ledger) -> Iterator[Disagreement]:
    """Hits are what the prompts took from the cache, by the server's own sources and by usage.

    A request that lost its place before its first token finds its own blocks again, which only some counters count.
    """
    names = server.names
    hits, queries = _told(server.total(names.prefix_hits)), server.total(names.prefix_queries)
    if queries is not None and hits > queries:
        yield Disagreement(
            "prefix_cache_hits",
            f"prefix cache hits: expected at most the {queries:g} tokens of {names.prefix_queries}, observed {hits:g} "
            f"by {names.prefix_hits}",
        )
        return
    if server.total(names.preemptions):
        raise LeftOut("there were pre-emptions, after which a request may find its own tokens in the cache")
    cached = server.total(names.prompt_sources, source=names.source_cached)
    if cached is not None:
        what = f"prompt tokens from {names.source_cached} by {names.prompt_sources}"
        yield from _equal("prefix_cache_hits", what, cached, hits, names.prefix_hits)
    if client.cached_tokens is not None and not client.open:
        yield from _equal("prefix_cache_hits", "cached tokens by usage", client.cached_tokens, hits, names.prefix_hits)


def _sources(server: Server) -> Iterator[Disagreement]:
    names = server.names
    parts = _told(server.total(names.prompt_sources))
    what = f"prompt tokens by {names.prompt_tokens}"
    yield from _equal("prompt_sources", what, server.total(names.prompt_tokens), parts, names.prompt_sources)


def _steps(server: Server) -> Iterator[Disagreement]:
    """The engine's steps compute the prompt tokens that no cache had, and the tokens that come out."""
    names = server.names
    steps = server.histogram(names.step_tokens)
    computed = _told(server.total(names.prompt_sources, source=names.source_computed))
    made = server.total(names.generation_tokens) or 0.0
    if steps is None:
        raise LeftOut(NOT_TOLD)
    what = "tokens computed or generated"
    yield from _equal("step_tokens", what, computed + made, steps.sum, f"{names.step_tokens}_sum")


def _counts(server: Server, client: Ledger) -> Iterator[Disagreement]:
    """Histograms that observe each finished request once, or its tokens; the first that the client counts otherwise."""
    names = server.names
    requests = (client.finished, client.finished + client.open)
    expected: list[tuple[str, tuple[float, float]]] = [
        (f"{metric}_count", requests) for metric in (names.ttft, names.e2e, names.tpot) if metric
    ]
    for metric, sure, loose in (
        (names.request_prompt_tokens, client.prompt_tokens, client.open_prompt_tokens),
        (names.request_generation_tokens, client.output_tokens, client.open_output_tokens),
    ):
        expected += [(f"{metric}_count", requests), (f"{metric}_sum", (sure, sure + loose))] if metric else []
    for sample, (least, most) in expected:
        observed = server.total(sample)
        if observed is not None and not least <= observed <= most:
            yield from _between("histogram_counts", least, most, observed, sample)
            return


def _told(value: float | None) -> float:
    if value is None:
        raise LeftOut(NOT_TOLD)
    return value


def _equal(name: str, what: str, expected: float | None, observed: float, metric: str | None) -> Iterator[Disagreement]:
    if expected is not None and expected != observed:
        yield Disagreement(name, f"{what}: expected {expected:.10g}, observed {observed:.10g} by {metric}")


def _between(name: str, least: float, most: float, observed: float | None, metric: str) -> Iterator[Disagreement]:
    if not least <= _told(observed) <= most:
        expected = f"{least:.10g}" if least == most else f"{least:.10g} to {most:.10g}"
        yield Disagreement(
            name,
            f"{name.replace('_', ' ')}: expected {expected}, as the client counted, observed {observed:.10g} by "
            f"{metric}",
        )


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
