"""Bounds between a server's histograms and gauges and what its client saw. Pure; no bucket is ever interpolated.

Place: `crosscheck` looks at them after its exact identities; they need one observation per answer. Limits: a server's
times are on its own clock, which may run 0.1 % wrong.

The client sends before the server begins to count and reads after it has ended, so of each request the server's TTFT
and E2E are at most the client's. Hence the same holds of the means, and at each edge b of a bucket the server has at
least as many observations up to b as the client. Where the lab bounds how much longer the client may see them (`path`),
the server has at most as many up to b as the client up to b + path, a few excepted.
"""

import math
import statistics
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from graders.ledger import Ledger
from graders.metrics import Histogram, Names
from graders.scrape import Round, series

CLOCK_SECONDS, CLOCK_PART = 0.001, 0.001
"""What two clocks may differ by in a duration: a tick of a timer, and twice the rate at which ntpd slews at most."""
TPOT_PART = 0.05
"""By how much mean TPOT may differ: the engine's stamps against the client's reads, over the same tokens."""
TPOT_SHIFT = 0.25
"""By how much TPOT of one answer may differ."""
SPARE_PART = 0.05
"""Part of the answers (at least one) that may break a bound which is not certain for each of them."""
LITTLE_PART, LITTLE_REQUESTS = 0.1, 0.5
"""By how much gauges may differ from the client's requests in flight: part, and at least so many requests."""
LATE_SECONDS = 1.0
"""How much later than the client a server may count what has ended, when its machine has more work than cores."""
FEWEST_ROUNDS = 6
"""Fewer looks at a gauge say nothing of its average."""
TOLD_PART = 0.9
"""Part of the rounds that must tell a gauge: one that is only told when it suits the server proves nothing."""
WIDEST = 2.5
"""A bucket that ends further above a latency than this many times does not show it."""
ABSURD = 1e9
"""No server holds so many requests; a gauge beyond is cut there, so that sums stay finite."""
ERRORS = 3.0
"""Standard errors that a mean of looks may be off before it counts."""


class Disagreement(msgspec.Struct, frozen=True):
    """What a server and its client do not agree on: the name of the check, and expected against observed in words."""

    name: str
    sentence: str


class LeftOut(Exception):
    """A comparison cannot be made; the message says why."""


def mean(what: str, server: Histogram | None, client: Sequence[float], path: float | None) -> Iterator[Disagreement]:
    """The server's mean is at most the client's, and by no more than `path` seconds below it."""
    theirs, ours = comparable(server, client).mean or 0.0, statistics.fmean(client)
    if theirs > ours + CLOCK_SECONDS + CLOCK_PART * ours:
        yield Disagreement(
            f"mean_{what}",
            f"mean {what.upper()}: expected at most the {_ms(ours)} that the client saw, as it sees each answer later "
            f"than the server, observed {_ms(theirs)} at the server",
        )
    elif path is not None and theirs < ours - path - CLOCK_SECONDS - CLOCK_PART * ours:
        yield Disagreement(
            f"mean_{what}",
            f"mean {what.upper()}: expected at most {_ms(path)} below the {_ms(ours)} that the client saw, observed "
            f"{_ms(theirs)} at the server",
        )


def buckets(what: str, server: Histogram | None, client: Sequence[float], path: float | None) -> Iterator[Disagreement]:
    """At each edge the server has at least the client's observations; see above for the other side."""
    found = comparable(server, client)
    ours = sorted(client)
    spare = max(1.0, SPARE_PART * len(ours))
    worst: dict[str, _Gap] = {}
    for edge, below in zip(found.edges[:-1], found.below[:-1], strict=True):
        slack = CLOCK_SECONDS + CLOCK_PART * edge
        least = bisect_right(ours, edge - slack)
        most = math.inf if path is None else bisect_right(ours, edge + path + slack) + spare
        _keep(worst, "at least", _Gap(least - below, edge, least, below))
        _keep(worst, "at most", _Gap(below - most, edge, most, below))
    yield from _say(f"buckets_{what}", what.upper(), worst)


def path(server: Histogram | None, client: Sequence[float]) -> float:
    """How much longer than the server the client saw TTFT on average, in seconds; 0 where that cannot be told.

    What comes between the engine's stamps and the client's reads, an API server that waits for a processor above all,
    may take as much more or less for the last token of an answer as it does for the first.
    """
    if server is None or server.mean is None or server.count != len(client):
        return 0.0
    return max(0.0, statistics.fmean(client) - server.mean)


def mean_tpot(server: Histogram | None, client: Sequence[float], lag: float) -> Iterator[Disagreement]:
    """The means are within 5 %; `lag` is by how many seconds per token the client's times may be late beside that.

    It is what the client may be late itself, and what the `path` takes, over the tokens after the first.
    """
    theirs, ours = comparable(server, client).mean or 0.0, statistics.fmean(client)
    if abs(theirs - ours) > TPOT_PART * ours + lag:
        yield Disagreement(
            "mean_tpot",
            f"mean TPOT: expected within {_ms(TPOT_PART * ours + lag)} of the {_ms(ours)} that the client saw, "
            f"observed {_ms(theirs)} at the server",
        )


def buckets_tpot(server: Histogram | None, client: Sequence[float], lag: float) -> Iterator[Disagreement]:
    """At each edge both counts agree when each answer of the client may be off by a quarter and a few by more."""
    found = comparable(server, client)
    ours = sorted(client)
    spare = max(1.0, SPARE_PART * len(ours))
    worst: dict[str, _Gap] = {}
    for edge, below in zip(found.edges[:-1], found.below[:-1], strict=True):
        least = bisect_right(ours, edge / (1 + TPOT_SHIFT) - lag) - spare
        most = bisect_right(ours, edge * (1 + TPOT_SHIFT) + lag) + spare
        _keep(worst, "at least", _Gap(least - below, edge, least, below))
        _keep(worst, "at most", _Gap(below - most, edge, most, below))
    yield from _say("buckets_tpot", "TPOT", worst)


def littles_law(names: Names, rounds: Sequence[Round], client: Ledger) -> Iterator[Disagreement]:
    """The average number in the server is arrival rate times time in it (Little 1961, Operations Research 9:383).

    Rate times latency is the client's average number in flight; it is taken at the very moments of the looks at the
    gauges, so that chance in these moments falls on both sides. An engine sets its gauges at the end of each step, so a
    request is not seen for a step that runs when it comes and for its own first one: `Ledger.unseen` seconds. Both
    sides allow 10 % and half a request. A difference counts where it is beyond that by three standard errors, and there
    is none where it is below by as many; else nothing can be told, nor where more than a tenth of the requests have no
    complete answer: nobody knows how long those were in the server.
    """
    if client.open > LITTLE_PART * (client.finished + client.open):
        raise LeftOut(f"{client.open} of {client.finished + client.open} requests have no complete answer")
    looks = [
        ((asked + answered) / 2, inside) for asked, answered, inside in _looks(rounds, names.running, names.waiting)
    ]
    flights = [*client.flights, *client.open_flights]
    begun, ended = min((sent for sent, _ in flights), default=0.0), max((end for _, end in flights), default=0.0)
    looks = [look for look in looks if begun <= look[0] < ended]
    if len(looks) < FEWEST_ROUNDS:
        raise LeftOut(f"the gauges were looked at {len(looks)} times during the load, where {FEWEST_ROUNDS} are needed")
    gauges = [max(-ABSURD, min(inside, ABSURD)) for _, inside in looks]
    # A server may keep a request for a while whose client has gone.
    loose = [(sent, end + LATE_SECONDS) for sent, end in client.open_flights]
    most = [client.in_flight(moment) + sum(sent <= moment < end for sent, end in loose) for moment, _ in looks]
    least = [client.in_flight(moment, unseen=client.unseen) for moment, _ in looks]
    high, low, shown = statistics.fmean(most), statistics.fmean(least), statistics.fmean(gauges)
    above, chance_above = shown - high - max(LITTLE_PART * high, LITTLE_REQUESTS), ERRORS * _error(gauges, most)
    beneath, chance_beneath = low - shown - max(LITTLE_PART * low, LITTLE_REQUESTS), ERRORS * _error(gauges, least)
    if above > chance_above or beneath > chance_beneath:
        yield Disagreement(
            "littles_law",
            f"requests in the server: expected {low:.1f} to {high:.1f} within {LITTLE_PART:.0%}, which is the client's "
            f"rate times latency, observed {shown:.1f} on average by {names.running} and {names.waiting} in "
            f"{len(looks)} scrapes",
        )
    elif above > -chance_above or beneath > -chance_beneath:
        raise LeftOut(f"{len(looks)} scrapes are too few for gauges that change so much")


def counters_during(
    names: Names, rounds: Sequence[Round], ends: tuple[float, float], client: Ledger
) -> Iterator[Disagreement]:
    """While the load runs, the counter of finished requests keeps up with the client, at moments that nobody knew.

    At each round it has at least what had ended for the client a second before one asked, and at most what had been
    sent when the last replica had answered; a busy machine can take long in between.

    Args:
        names: how the server calls the counter.
        rounds: those in passing.
        ends: what the counter said before the load, and after it.
        client: all requests.
    """
    first, last = ends
    if not client.finished <= last - first <= client.finished + client.open:
        raise LeftOut("the counter is wrong at the end already")
    looks = [(asked, answered, value - first) for asked, answered, value in _looks(rounds, names.finished)]
    if not looks:
        raise LeftOut("the counters were not looked at during the load")
    flights = [*client.flights, *client.open_flights]
    begun = min((sent for sent, _ in flights), default=looks[0][0])
    for asked, answered, finished in looks:
        least = sum(end <= asked - LATE_SECONDS for _, end in client.flights)
        most = sum(sent <= answered + CLOCK_SECONDS for sent, _ in flights)
        if not least <= finished <= most:
            yield Disagreement(
                "counters_during",
                f"finished requests {answered - begun:.1f} s into the load: expected {least} to {most}, as the client "
                f"counted, observed {finished:g} by {names.finished}",
            )
            return


def hidden_tail(what: str, server: Histogram, seconds: float) -> Iterator[Disagreement]:
    """Whether a histogram can tell a latency from others: its bucket ends at 2.5 times that many seconds or before.

    vLLM's own buckets do from 2 ms of TTFT, 4 ms of TPOT and 120 ms of E2E on, up to minutes. Not part of
    `crosscheck.compare`, as whoever operates a server may choose its buckets; a lab can ask for it.
    """
    end = next((edge for edge in server.edges if edge >= seconds), math.inf)
    begin = max((edge for edge in server.edges if edge < seconds), default=0.0)
    if end > WIDEST * seconds:
        yield Disagreement(
            "hidden_tail",
            f"{what.upper()} of {_ms(seconds)}: expected a bucket that ends at {_ms(WIDEST * seconds)} or before, "
            f"observed the bucket from {begin:g} to {end:g} s, which hides the tail",
        )


def comparable(server: Histogram | None, client: Sequence[float]) -> Histogram:
    """The histogram; raises LeftOut where it is not of the same requests as the client's values."""
    if not client:
        raise LeftOut("no answer was complete")
    if server is None:
        raise LeftOut("the server tells no such histogram that can be")
    if server.count != len(client):
        raise LeftOut(f"the server observed {server.count:g}, the client {len(client)} complete answers")
    return server


class _Gap(NamedTuple):
    """By how many observations an edge is off, which edge, what was expected there, and what observed."""

    off: float
    edge: float
    expected: float
    observed: float


def _keep(worst: dict[str, _Gap], side: str, gap: _Gap) -> None:
    if gap.off > 0 and (side not in worst or gap.off > worst[side].off):
        worst[side] = gap


def _say(name: str, what: str, worst: Mapping[str, _Gap]) -> Iterator[Disagreement]:
    for side, gap in worst.items():
        yield Disagreement(
            name,
            f"{what} up to {gap.edge:g} s: expected {side} {gap.expected:g} answers, as the client saw, observed "
            f"{gap.observed:g} in the server's buckets",
        )


def _looks(rounds: Sequence[Round], *names: str) -> list[tuple[float, float, float]]:
    """When each round was asked and answered, and the sum of these over all replicas.

    Raises:
        LeftOut: too many rounds tell nothing.
    """
    looks = [
        (min(scrape.asked for scrape in each), max(scrape.answered for scrape in each), sum(values.values()))
        for each in rounds
        for _, values in series([each], *names)
    ]
    if len(looks) < TOLD_PART * len(rounds):
        raise LeftOut(f"{len(rounds) - len(looks)} of {len(rounds)} scrapes during the load tell nothing")
    return looks


def _error(gauges: Sequence[float], flights: Sequence[float]) -> float:
    """Standard error of the mean of gauges, given what is in flight at the same moments.

    The smaller of two: from the differences of the pairs, and from what is left of the gauges beside the mean
    proportion (ratio estimator; Cochran 1977, Sampling Techniques, section 6.4). They are alike where gauges show what
    is in flight; the first is small where that is always the same, the second where a gauge hides the same part of it.
    """
    part = sum(gauges) / sum(flights) if any(flights) else 0.0
    pairs = list(zip(gauges, flights, strict=True))
    apart = statistics.variance(gauge - flight for gauge, flight in pairs)
    beside = sum((gauge - part * flight) ** 2 for gauge, flight in pairs) / (len(pairs) - 1)
    return math.sqrt(min(apart, beside) / len(pairs))


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
