"""The service-level objective, what is measured under it, and how that is judged. Pure.

Place: `performance` measures these facts and decides meanwhile, by the functions here, what to measure next; judges.py
names the judges. Limits: the objective is calibrated on the starter's configuration just before each load and again
after it; a machine that changes its speed in between, and back, goes unnoticed.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Self

import msgspec

from graders import stats
from graders.judging import Facts, Thresholds
from graders.knee import decide_knee, knee
from graders.rubric import Finding
from graders.sequential import decide_outcomes, share_over_time
from graders.stats import Outcome
from vllm_lab.loads import Alone, Load, because, bottleneck, complaint

ONE_SIDED = 0.975
"""A share is proven by the lower bound of the interval that is printed, which allows for a second try at 95 %."""
LADDER = (1.0, 1.5, 2.0, 3.0, 4.5, 6.0, 9.0)
"""Loads at which the knee is looked for, in times what the starter's values can serve; the goal is one of them."""
SHARE = "share of requests"
STEADY = 1.25
"""A goal is so many times the starter's load: worth as much as the starter's speed is the same before and after it.
Processors that a hypervisor shares out were seen to change theirs by 1.6 times within ten seconds."""


class Objective(msgspec.Struct, frozen=True):
    """Bounds of TTFT and TPOT in seconds, and the requests per second that the starter's configuration can serve."""

    ttft: float
    tpot: float
    capacity: float

    @classmethod
    def of(cls, threshold: Thresholds, alone: Alone) -> Self:
        """Calibrated on what the starter's configuration does for one user."""
        return cls(threshold("slo_ttft_factor") * alone.ttft, threshold("slo_tpot_factor") * alone.tpot, alone.rate)

    @classmethod
    def mean(cls, each: Sequence[Self]) -> Self:
        """That of loads which were calibrated one by one."""
        return cls(*(fmean(getattr(one, name) for one in each) for name in cls.__struct_fields__))

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds by name, for a finding."""
        return {"ttft": self.ttft, "tpot": self.tpot}

    def words(self) -> str:
        """The bounds, for a sentence."""
        return f"TTFT <= {self.ttft * 1000:.0f} ms and TPOT <= {self.tpot * 1000:.1f} ms"


class Paced(msgspec.Struct, frozen=True, kw_only=True):
    """A load of `rate` requests per second, and what the starter did for one user just before and just after it."""

    before: Alone
    after: Alone
    rate: float
    load: Load

    def limits(self, objective: Objective) -> list[str]:
        """Why it says nothing of the server: the client was the bottleneck, or the machine changed its speed."""
        found = bottleneck(self.load.limits(ttft=objective.ttft, tpot=objective.tpot))
        found += bottleneck([*self.before.limits, *self.after.limits])
        change = self.after.rate / self.before.rate
        if not 1 / STEADY <= change <= STEADY:
            found.append(
                f"the machine's speed changed: the starter served {change:.2f} times as much after it as before"
            )
        return found


class Tally(msgspec.Struct, frozen=True):
    """Requests under the objective: which of them met it, in order of time, and of the others how many failed how."""

    outcomes: tuple[bool, ...]
    late: int
    failed: int

    @classmethod
    def of(cls, probes: Sequence["Probe"]) -> Self:
        """All requests of some loads, one load after the other."""
        return cls(
            tuple(outcome for probe in probes for outcome in probe.tally.outcomes),
            sum(probe.tally.late for probe in probes),
            sum(probe.tally.failed for probe in probes),
        )

    @property
    def met(self) -> int:
        """Requests that met it."""
        return sum(self.outcomes)

    @property
    def slow(self) -> int:
        """Requests that began in time and flowed too slowly."""
        return len(self.outcomes) - self.met - self.late - self.failed

    @property
    def hint(self) -> str | None:
        """What most of the requests that did not meet it suffered from; None where all did."""
        hints = {"broken": self.failed, "queueing": self.late, "slow_tokens": self.slow}
        return max(hints, key=lambda key: hints[key]) if any(hints.values()) else None


class Probe(msgspec.Struct, frozen=True):
    """One load under the objective: what came of it, and why it says nothing, if so."""

    tally: Tally
    limits: list[str]

    @classmethod
    def of(cls, paced: Paced, threshold: Thresholds) -> Self:
        """A load, held to the objective that was calibrated just before it."""
        objective, answers = Objective.of(threshold, paced.before), paced.load.answers
        return cls(
            Tally(
                tuple(each.met(ttft=objective.ttft, tpot=objective.tpot) for each in answers),
                late=sum(each.good and each.waited > objective.ttft for each in answers),
                failed=paced.load.failed,
            ),
            paced.limits(objective),
        )

    def outcome(self, share: float) -> Outcome:
        """Whether so large a share is proven or refuted by this load alone, in one look."""
        return "inconclusive" if self.limits else stats.decide(stats.share_over_time(self.tally.outcomes), share)


class ServiceLevel(Facts, frozen=True, kw_only=True):
    """The parts, measured one after the other."""

    parts: tuple[Paced, ...]


def judge_service_level(facts: ServiceLevel, threshold: Thresholds) -> Finding:
    """The share of requests within the objective.

    A part in which the client was the bottleneck, or the machine changed its speed, counts for nothing.
    """
    share, objective = threshold("slo_share"), objective_of(facts.parts, threshold)
    probes = [Probe.of(part, threshold) for part in facts.parts]
    verdict, tally = decided(share, probes), Tally.of(sound(probes))
    limits = [limit for probe in probes for limit in probe.limits]
    rate = fmean(part.rate for part in facts.parts)
    return Finding.of_estimate(
        share_over_time(tally.outcomes),
        unit=SHARE,
        expected=f"at least {share:.0%} of requests with {objective.words()} at {rate:.1f} requests/s",
        observed=(
            f"{tally.met} of {len(tally.outcomes)} requests ({tally.met / max(len(tally.outcomes), 1):.0%}); "
            f"{tally.late} began late, {tally.slow} flowed slowly, {tally.failed} failed"
            f"{complaint([part.load for part in facts.parts])}{because(limits if verdict == 'inconclusive' else [])}"
        ),
        verdict=verdict,
        hint=None if verdict == "passed" else tally.hint,
        bounds=objective.bounds,
    )


def objective_of(loads: Iterable[Paced], threshold: Thresholds) -> Objective:
    """What several loads were held to on average: each has a calibration of its own."""
    return Objective.mean([Objective.of(threshold, load.before) for load in loads])


def sound(probes: Sequence[Probe]) -> list[Probe]:
    """Those that say something of the server."""
    return [probe for probe in probes if not probe.limits]


def decided(share: float, probes: Sequence[Probe]) -> Outcome:
    """Whether these parts together prove or refute it."""
    return decide_outcomes(Tally.of(sound(probes)).outcomes, share, confidence=ONE_SIDED)


class HighestLoad(Facts, frozen=True, kw_only=True):
    """Each load that was put, in order, with its rung of the ladder; of loads at one rung the last counts."""

    rungs: tuple[tuple[float, Paced], ...]


def judge_highest_load(facts: HighestLoad, threshold: Thresholds) -> Finding:
    """The highest load of the ladder at which the objective is proven to hold."""
    share, goal = threshold("slo_share"), threshold("knee_factor")
    last = dict(facts.rungs)
    objective = objective_of(last.values(), threshold)
    probes = {rung: Probe.of(load, threshold) for rung, load in sorted(last.items(), key=lambda each: each[0])}
    outcomes: Mapping[float, Outcome] = {rung: probe.outcome(share) for rung, probe in probes.items()}
    found, verdict = knee(outcomes), decide_knee(outcomes, goal)
    told = ", ".join(f"{each.tally.met} of {len(each.tally.outcomes)} at {rung:g}" for rung, each in probes.items())
    missed = [probe for rung, probe in probes.items() if outcomes[rung] != "passed"]
    limits = [limit for probe in missed for limit in probe.limits]
    most = ", the most that was tried" if found.not_held is None else ""
    return Finding(
        expected=f"{share:.0%} of requests with {objective.words()} at {goal:g} times the starter's load or more",
        observed=f"it holds at {found.held or 0:g} times{most}; in time were {told}{because(limits)}",
        verdict=verdict,
        unit="times the starter's load",
        value=found.held or 0.0,
        n=sum(len(probe.tally.outcomes) for probe in probes.values()),
        interval=None if found.not_held is None else (found.held or 0.0, found.not_held),
        hint=None if verdict == "passed" else next((probe.tally.hint for probe in missed if probe.tally.hint), None),
        bounds=objective.bounds,
    )
