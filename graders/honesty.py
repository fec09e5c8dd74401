"""Does a server treat a measurement as it treats its users? Accusations by name, over all answers of a run. Pure.

Place: the suite of liars and `benchmarks/honest.py` examine a `Run` with it, beside `crosscheck`, which holds the
server's counters against it. No lab calls it yet: where a lab fixes image, model and arguments, none needs to. Limits:
a server is accused of what it did to this run; that it did nothing else is not proven. Pace that a busy machine can
give is only held against a server where half of its answers or more show it. An accusation is a name and a sentence
with what was found; those of single answers have the names of `faults`.
"""

import json
import math
import statistics
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from graders import contrast
from graders.samples import Answer, Run

HELD = 0.5
"""Share of answers held back from which on it is the server's doing; a machine that stalls holds all its streams."""
SAME = 0.5
"""Share of answers that are also those of other prompts from which on they are canned; two may agree by chance."""
FEWEST_TOKENS = 8
"""Shorter answers may well be the same for two prompts."""
REGULAR = 0.9
"""Share of the reads with the same number of tokens from which on they were written like that."""
CLOCK_SECONDS = 5.0
"""A server's clock may be off by so much; machines without time servers drift seconds in a week."""
GRACE_SECONDS, GAP_SECONDS = 0.03, 0.06
"""A request counts as probed so long after a probe, and as unprobed when none was for the second time."""
KEPT_SECONDS = 3.5
"""The client does not use a connection again that was idle for much longer."""
REOPENED = 0.5
"""Share of the requests that found their idle connections gone from which on they were not kept."""

UNFINISHED = "unfinished when the drain ended"
NO_ANSWER = ("no_answer", "status", "error_inside", "broken_off")


class Accusation(msgspec.Struct, frozen=True):
    """What a server is accused of: its name, and a sentence with what was found."""

    name: str
    sentence: str


class Groups(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of a run, by index, that came under the same load in turn.

    `fresh` have prompts that nobody can know, `known` those of a public seed, sent to this server for the first time;
    `repeats` have the prompt of a fresh one that had ended before.
    """

    fresh: frozenset[int]
    known: frozenset[int] = frozenset()
    repeats: frozenset[int] = frozenset()


def answers(run: Run) -> Iterator[Accusation]:
    """Faults of single answers, each name once, with how many it concerns."""
    measured = run.measured
    faults = [fault for each in measured for fault in each.faults]
    for name, count in Counter(fault.name for fault in faults).items():
        if name == "held_back" and count < HELD * len(measured):
            continue
        first = next(fault.sentence for fault in faults if fault.name == name)
        yield Accusation(name, f"{count} of {len(measured)} answers: {first}")


def response_cache(run: Run, groups: Groups) -> Iterator[Accusation]:
    """A prefix cache saves the time of a prompt, never that of its answer."""
    fresh, repeats = _tpot(run, groups.fresh), _tpot(run, groups.repeats)
    if factor := contrast.slower(fresh, repeats):
        yield Accusation(
            "response_cache",
            f"answers to {len(repeats)} repeated prompts came {factor:.1f} times as fast, {_ms(repeats)} per token "
            f"against {_ms(fresh)}, which only a cache of answers explains",
        )


def tuned_to_seed(run: Run, groups: Groups) -> Iterator[Accusation]:
    """Prompts of a public seed are no easier than others."""
    for what, figure in (("per token", _tpot), ("to the first token", _ttft)):
        fresh, known = figure(run, groups.fresh), figure(run, groups.known)
        if factor := contrast.slower(fresh, known):
            yield Accusation(
                "tuned_to_seed",
                f"prompts of the public seed were served {factor:.1f} times as fast, {_ms(known)} {what} against "
                f"{_ms(fresh)} for prompts drawn in this run",
            )
            return


def drops_under_load(run: Run) -> Iterator[Accusation]:
    """Requests are refused when others are on their way, and served when not."""
    looks = _on_their_way(run)
    levels = sorted({others for others, _ in looks})[:-1] if any(refused for _, refused in looks) else []
    found: list[tuple[float, str]] = []
    for level in levels:
        many = [refused for others, refused in looks if others > level]
        few = [refused for others, refused in looks if others <= level]
        if contrast.fails_more(many, few, looks=len(levels)):
            sentence = (
                f"{sum(many)} of {len(many)} requests failed while more than {level} others were on their way, "
                f"{sum(few)} of {len(few)} otherwise"
            )
            found.append((statistics.fmean(many) - statistics.fmean(few), sentence))
    if found:
        yield Accusation("drops_under_load", max(found)[1])


def healthy_while_probed(run: Run, probes: Sequence[float]) -> Iterator[Accusation]:
    """Requests soon after a health probe fare better than others; `probes` are when their answers came (monotonic)."""
    moments = sorted(probes)
    probed, alone = [], []
    for each in run.measured:
        if each.sample.sent is None:
            continue
        sent = run.t0 + each.sample.sent
        before = bisect_right(moments, sent)
        since = sent - moments[before - 1] if before else math.inf
        if since <= GRACE_SECONDS:
            probed.append(_refused(each))
        elif since > GAP_SECONDS:
            alone.append(_refused(each))
    if contrast.fails_more(alone, probed):
        yield Accusation(
            "healthy_while_probed",
            f"{sum(alone)} of {len(alone)} requests failed when no health probe was near, {sum(probed)} of "
            f"{len(probed)} within {1000 * GRACE_SECONDS:.0f} ms after one",
        )


def keep_alive(run: Run) -> Iterator[Accusation]:
    """Connections that the client keeps are closed, without a word in the answer's head."""
    workers = max(1, len(run.workers))
    found = [gone for worker in range(workers) for gone in _kept(run, worker, workers)]
    if found and sum(found) >= max(1.0, REOPENED * len(found)):
        yield Accusation(
            "closes_connections",
            f"{sum(found)} of {len(found)} requests found that the server had closed its idle connections, though no "
            "answer said connection: close",
        )


def clock(run: Run) -> Iterator[Accusation]:
    """`created` lies between sending and the first token, by a clock that is about right."""
    off = []
    for each in run.answers:
        sent, first = each.sample.sent, each.stream.first_token
        if each.stream.created is None or sent is None or first is None:
            continue
        created = each.stream.created - run.started_at
        off.append(created - first if created > first else min(0.0, created + 1.0 - sent))
    if off and abs(middle := statistics.median(off)) > CLOCK_SECONDS:
        yield Accusation(
            "clock", f"the server's clock is {abs(middle):.0f} s {'ahead' if middle > 0 else 'behind'}, by `created`"
        )


def coalesced(run: Run) -> Iterator[Accusation]:
    """Tokens come in groups, in one chunk or several chunks in one read; the pace within a group cannot be seen."""
    chunks = [len(chunk.ids) for each in run.answers for chunk in each.stream.token_chunks if chunk.ids]
    reads = [size for each in run.answers for size in _by_read(each)[:-1]]
    for sizes, what in ((chunks, "chunk"), (reads, "read")):
        size = statistics.median_low(sizes) if sizes else 1
        share = sum(each == size for each in sizes) / len(sizes) if sizes else 0.0
        if size > 1 and (what == "chunk" or share >= REGULAR):
            yield Accusation(
                "coalesced_chunks",
                f"{share:.0%} of the {what}s carry {size} tokens, so the pace of single tokens cannot be seen",
            )
            return


def canned(run: Run) -> Iterator[Accusation]:
    """Different prompts get different answers."""
    prompts: dict[tuple[int, ...], set[str]] = {}
    for each in run.answers:
        ids = tuple(token for chunk in each.stream.chunks for token in chunk.ids or ())
        if len(ids) >= FEWEST_TOKENS:
            prompts.setdefault(ids, set()).add(_prompt(run, each))
    asked = sum(len(each) for each in prompts.values())
    same = sum(len(each) for each in prompts.values() if len(each) > 1)
    if same > max(1, SAME * asked):
        yield Accusation(
            "canned_tokens", f"{same} of {asked} prompts got an answer that is, token by token, also another prompt's"
        )


def tokenizer(run: Run, decode: Callable[[Sequence[int]], str]) -> Iterator[Accusation]:
    """The text that came is that of the token ids; `decode` is the model's tokenizer."""
    whole = [each for each in run.answers if each.complete and each.stream.has_ids]
    wrong = []
    for each in whole:
        text = "".join(chunk.text for chunk in each.stream.chunks)
        if text != decode([token for chunk in each.stream.chunks for token in chunk.ids or ()]):
            wrong.append(text)
    if wrong:
        yield Accusation(
            "tokenizer",
            f"the text of {len(wrong)} of {len(whole)} answers is not that of their token ids, as in {wrong[0][:40]!r}",
        )


def _on_their_way(run: Run) -> list[tuple[int, bool]]:
    """Of each measured request: how many others were on their way when it was sent, and whether it was not served."""
    flights = [(each.sample.sent, each.sample.end) for each in run.answers if each.sample.sent is not None]
    begun, ended = sorted(sent for sent, _ in flights), sorted(end for _, end in flights)
    return [
        (bisect_right(begun, sent) - bisect_right(ended, sent) - (each.sample.end > sent), _refused(each))
        for each in run.measured
        if (sent := each.sample.sent) is not None
    ]


def _refused(answer: Answer) -> bool:
    """Whether the server did not serve it; one that the drain's end cut off was only slow."""
    if answer.sample.failure == UNFINISHED:
        return False
    return any(fault.name in NO_ANSWER for fault in answer.faults)


def _kept(run: Run, worker: int, workers: int) -> Iterator[bool]:
    """Of each request that should have found a connection idle, by what the client does, whether it was gone."""
    mine = [each for each in run.answers if _worker(run, each, workers) == worker and each.sample.sent is not None]
    starts = [(each.sample.started, 1, number) for number, each in enumerate(mine)]
    ends = [(each.sample.end, 0, number) for number, each in enumerate(mine)]
    idle = [0.0] * len(range(worker, run.plan.schedule.streams or 0, workers))
    for moment, begins, number in sorted(starts + ends):
        answer = mine[number]
        if begins:
            while idle and moment - idle[-1] >= KEPT_SECONDS:
                idle.pop()
            if idle:
                idle.pop()
                yield answer.sample.resent or answer.sample.connected is not None
        elif answer.sample.failure is None and answer.stream.headers.get("connection", "").lower() != "close":
            idle.append(moment)


def _worker(run: Run, answer: Answer, workers: int) -> int:
    """Which worker sent it: requests, or streams, are dealt to workers in turn."""
    return answer.sample.index % (run.plan.schedule.streams or workers) % workers


def _by_read(answer: Answer) -> list[int]:
    """Tokens by read, of the reads with any."""
    counts = Counter(chunk.time for chunk in answer.stream.token_chunks for _ in chunk.ids or (0,))
    return [counts[time] for time in sorted(counts)]


def _prompt(run: Run, answer: Answer) -> str:
    fields: Mapping[str, object] = msgspec.json.decode(run.plan.requests[answer.sample.index].body)
    return json.dumps(fields.get("prompt") or fields.get("messages"))


def _tpot(run: Run, indices: frozenset[int]) -> list[float]:
    found = (each.stream.tpot for each in run.answers if each.sample.index in indices and each.complete)
    return [each for each in found if each is not None]


def _ttft(run: Run, indices: frozenset[int]) -> list[float]:
    return [
        each.stream.first_token - each.sample.sent
        for each in run.answers
        if each.sample.index in indices
        and each.complete
        and each.stream.first_token is not None
        and each.sample.sent is not None
    ]


def _ms(values: Sequence[float]) -> str:
    return f"{1000 * statistics.median(values):.1f} ms"
