"""Examines a server in about a second, always in the same way: one run, with probes and scrapes around it.

Place: `test_liars` examines every liar and the honest stub, `benchmarks/honest.py` the honest one again and again.
Limits: small numbers; a lab takes more requests.

The run begins with requests that come alone, then many at once, which take turns: a fresh prompt, one that was answered
before, one of the seed that everybody knows. Meanwhile the metrics are scraped, and health probes come in pulses.
"""

import contextlib
import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from graders import gpu_claims, honesty, workload
from graders.arrivals import Schedule
from graders.crosscheck import Crosscheck, compare
from graders.honesty import Accusation, Groups
from graders.ledger import ledger
from graders.metrics import VLLM, Metrics
from graders.plan import Plan, Request, Target
from graders.sampler import Place, Scrape, brief, fetch
from graders.samples import Run
from graders.scrape import Scrapes
from graders.workers import LEAD_SECONDS, Progress, carry_out
from tests.graders.liars import IDS, KNOWN_SEED
from tests.graders.stub_server import MODEL, word

TTFT, TPOT, TOKENS, PROMPT = 0.01, 0.004, 16, 8
ALONE, APART = 6, 0.08
"""Requests that come alone, and seconds between them."""
MANY, EVERY = 54, 0.01
"""Requests that come together, and seconds between them."""
BACK = 9
"""A repeat is of the fresh one so many turns before."""
PULSE, PROBE = 0.1, 0.015
"""Probes come every so many seconds in every other pulse."""
SCRAPE = 0.025
"""Mean seconds between scrapes of the metrics in passing."""
KEPT = frozenset((*VLLM.brief, *gpu_claims.READINGS))
"""What is kept of these."""


@dataclass
class Sights:
    """What was seen of the server beside its answers."""

    before: Scrape
    after: Scrape
    during: list[Scrape] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What an examination found."""

    run: Run
    crosscheck: Crosscheck
    accusations: tuple[Accusation, ...]

    @property
    def names(self) -> set[str]:
        """Names of the accusations."""
        return {each.name for each in self.accusations}


def plan_for(target: Target, seed: int, turn: int) -> tuple[Plan, Groups]:
    """The plan, and who is in which group of those that come together; each turn has other prompts that are known."""
    fresh = drawn(seed, ALONE + MANY)
    public = drawn(KNOWN_SEED, (turn + 1) * MANY)[turn * MANY :]
    requests = list(fresh[:ALONE])
    groups: dict[str, set[int]] = {"fresh": set(), "known": set(), "repeats": set()}
    for number in range(MANY):
        index, kind = ALONE + number, ("fresh", "repeats", "known")[number % 3]
        groups[kind].add(index)
        before = requests[max(0, index - 1 - 3 * BACK) if number > 3 * BACK else number % ALONE]
        requests.append({"fresh": fresh[index], "known": public[number], "repeats": before}[kind])
    times = [APART * number for number in range(ALONE)]
    times += [APART * ALONE + EVERY * number for number in range(MANY)]
    schedule = Schedule(kind="constant", times=tuple(times))
    plan = Plan(
        target=target,
        requests=tuple(requests),
        schedule=schedule,
        window=times[-1] + EVERY,
        drain=20.0,
        seed=seed,
    )
    return plan, Groups(**{name: frozenset(each) for name, each in groups.items()})


def drawn(seed: int, count: int) -> tuple[Request, ...]:
    return workload.completions(
        seed=seed, count=count, ids=IDS, prompt_tokens=PROMPT, output_tokens=TOKENS, model=MODEL
    )


def examine(target: Target, seed: int, folder: Path, *, turn: int = 0) -> Report:
    """Examines a server at the target with prompts drawn from the seed; `turn` counts examinations of it from 0."""
    plan, groups = plan_for(target, seed, turn)
    place = Place(host=target.host, port=target.port)
    sights = Sights(before=scrape(place, 0), after=scrape(place, 0))
    with watching(place, sights, seed) as progress:
        run = carry_out(plan, count=1, folder=folder, progress=progress)
    sights.after = scrape(place, 1)
    during = tuple((each,) for each in sights.during)
    crosscheck = compare(VLLM, Scrapes(before=(sights.before,), during=during, after=(sights.after,)), ledger([run]))
    found = [Accusation(each.name, each.sentence) for each in crosscheck.disagreements]
    for accusations in (
        honesty.answers(run),
        honesty.response_cache(run, groups),
        honesty.tuned_to_seed(run, groups),
        honesty.drops_under_load(run),
        honesty.healthy_while_probed(run, sights.probes),
        honesty.keep_alive(run),
        honesty.clock(run),
        honesty.coalesced(run),
        honesty.canned(run),
        honesty.tokenizer(run, decode),
        telemetry(sights),
    ):
        found += accusations
    return Report(run, crosscheck, tuple(found))


def telemetry(sights: Sights) -> Iterator[Accusation]:
    """Of the GPUs that the server shows, if any."""
    load = sights.during[-1]
    rest, busy = Metrics.parse(sights.before.text), Metrics.parse(load.text)
    yield from gpu_claims.simulated_gpu(rest, busy, seconds=load.asked - sights.before.asked, every=0.1)


def decode(ids: Sequence[int]) -> str:
    return "".join(map(word, ids))


def scrape(place: Place, number: int) -> Scrape:
    return fetch("stub", place, number, seconds=10.0, clock=time.monotonic)


@contextlib.contextmanager
def watching(place: Place, sights: Sights, seed: int) -> Iterator[Progress]:
    """Probes and scrapes from a thread of its own, once the progress it is told says that many requests come."""
    over, threads = threading.Event(), []

    def progress(words: str) -> None:
        if words.startswith("measuring"):
            due = time.monotonic() + LEAD_SECONDS + ALONE * APART
            threads.append(threading.Thread(target=_watch, args=(place, sights, random.Random(seed), over, due)))
            threads[0].start()

    try:
        yield progress
    finally:
        over.set()
        for each in threads:
            each.join()


def _watch(place: Place, sights: Sights, draw: random.Random, over: threading.Event, begun: float) -> None:
    health = Place(host=place.host, port=place.port, path="/health")
    due = begun
    over.wait(max(0.0, begun - time.monotonic()))
    while not over.is_set():
        now = time.monotonic()
        if now >= due:
            found = scrape(place, 1)
            # Reading all of it each time would be most of the work of an examination.
            sights.during.append(msgspec.structs.replace(found, text=brief(found.text, KEPT)))
            due = time.monotonic() + draw.expovariate(1 / SCRAPE)
        if int((now - begun) / PULSE) % 2:
            sights.probes.append(fetch("stub", health, 0, seconds=10.0, clock=time.monotonic).answered)
        over.wait(max(0.0, min(PROBE, due - time.monotonic())))


def ports(line: str | None) -> dict[str, int]:
    """Ports of the liars, as their process says them."""
    told: dict[str, int] = json.loads(line or "{}")
    return told
