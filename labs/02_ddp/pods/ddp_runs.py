"""The runs of the lab as the data service sees them: who may have what when, and the ledger of what was asked.

Place: `ddp_api` calls these under its lock, with the time. Limits: nothing here waits; a method that says for how long
leaves it to its caller. What pods can make grow has a bound:

    the ledger of a run   LEDGER_BYTES, about; what would exceed them is refused (507)
    refusals in it        REFUSALS; later ones are only counted
    weights of a run      KEPT_BYTES; of what exceeds them the digest is noted and the bytes are not kept
    runs, and their data  RUNS, and the sizes in `ddp_spec`; only the grader makes runs
    first weights         FIRST_WEIGHTS times to an address: nothing notes it, and the answer is large
"""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ddp_data import Array, Data, make_data, make_weights, parameters, to_bytes
from ddp_spec import Drill, Refused, RunSpec, shown

RUNS = 64
LEDGER_BYTES = 64 * 2**20
EVENT_BYTES = 1000
"""What one event takes, and one member of an introduction; the indices of a batch come on top."""
REFUSALS = 500
KEPT_BYTES = 160 * 2**20
"""Two sets of the largest weights that a run may have, and some more."""
FIRST_WEIGHTS = 64
"""Once for each process that begins, also where a pod's begin again and again."""
FINISH = "finish"
"""Instead of a step: the weights that a rank ended with."""
PAGE = 2000
"""Events of one answer, at most."""


@dataclass(frozen=True)
class Caller:
    """Where a request came from, and which process it says it is."""

    ip: str
    uid: str
    rank: int
    attempt: int


@dataclass
class Ledger:
    """What was asked, in order; it is only added to."""

    events: list[dict[str, Any]] = field(default_factory=list)
    room: int = LEDGER_BYTES
    refusals: int = 0
    unlisted: int = 0

    def add(self, now: float, caller: Caller, kind: str, *, more_bytes: int = 0, **more: object) -> None:
        """One event; raises Refused when the ledger is full."""
        if self.room < EVENT_BYTES + more_bytes:
            raise Refused(507, f"the ledger of this run is full after {len(self.events)} events; ask for less")
        self.room -= EVENT_BYTES + more_bytes
        self._append(now, asdict(caller), kind, more)

    def refuse(self, now: float, ip: str, caller: Caller | None, what: str, why: str) -> None:
        """A request that was not served, perhaps of nobody who says who it is; from some number on it only counts."""
        if self.refusals >= REFUSALS:
            self.unlisted += 1
            return
        self.refusals += 1
        who = asdict(caller or Caller(ip=ip, uid="", rank=-1, attempt=0))
        self._append(now, who, "refused", {"what": what[:200], "why": why[:400]})

    def _append(self, now: float, who: Mapping[str, object], kind: str, more: Mapping[str, object]) -> None:
        self.events.append({"n": len(self.events), "t": now, "kind": kind, **who, **more})

    def page(self, since: int) -> list[dict[str, Any]]:
        """Events from number `since` on, one answer's worth."""
        found = self.events[since : since + PAGE]
        return [{**each, "indices": each["indices"].tolist()} if "indices" in each else each for each in found]


class Run:
    """One run: its state, and what it answers."""

    def __init__(self, name: str, spec: RunSpec, data: Data) -> None:
        self.name, self.spec, self.job, self.data = name, spec, spec.job, data
        self.ledger = Ledger()
        self.until = spec.until
        self.begun: set[int] = set()
        self.last_begun = -math.inf
        self.digests: dict[tuple[int, int | str], str] = {}
        self.kept: dict[str, bytes] = {}
        self._first: dict[tuple[tuple[int, ...], bool], bytes] = {}
        self._handed: Counter[str] = Counter()
        """How often first weights went to an address."""
        self._reported: dict[str, set[int]] = {}
        """Steps by the pod whose process reported them since it joined."""
        self._brought: dict[tuple[str, int], str] = {}
        """The same for weights, by their digest."""

    def drill(self, rank: int, kind: str) -> Drill | None:
        """The fault of this kind that a rank is to have."""
        return next((each for each in self.spec.drills if (each.rank, each.kind) == (rank, kind)), None)

    def has_drill(self, caller: Caller, kind: str, step: int) -> Drill | None:
        """The same, once its step is reached: by what was reported, as anybody may ask for a step that is far ahead."""
        found = self.drill(caller.rank, kind)
        reached = max(self._reported.get(caller.uid, ()), default=-1) + 1
        return found if found and min(step, reached) >= found.step else None

    def join(self, caller: Caller, now: float, ticket: str, *, node: str, pid: int, world: int) -> dict[str, object]:
        """The job as this process is told it. The pace begins anew: steps may be done once more."""
        self.ledger.add(now, caller, "join", node=node, pid=pid, world=world, ticket=ticket)
        self.begun.clear()
        self._reported[caller.uid] = set()
        self._brought = {known: digest for known, digest in self._brought.items() if known[0] != caller.uid}
        job, rank = self.job, caller.rank
        environment: dict[str, str | None] = {}
        if self.drill(rank, "wrong_rank"):
            environment["RANK"] = str((rank + 1) % world if world > 1 else rank + 1)
        if self.drill(rank, "rendezvous"):
            environment["MASTER_ADDR"] = f"{self.name}-0.{self.name}-workers"
        short = self.drill(rank, "short_timeout")
        return {
            **asdict(job),
            "run": self.name,
            "ticket": ticket,
            "timeout_seconds": short.seconds if short else job.timeout_seconds,
            "hidden": self.hidden(rank),
            "extra": self.extra(rank),
            "parameters": job.parameters,
            "environment": environment,
        }

    def hidden(self, rank: int) -> tuple[int, ...]:
        """Sizes of the hidden layers as a rank is told them."""
        return self.job.hidden[::-1] if self.drill(rank, "model_order") else self.job.hidden

    def extra(self, rank: int) -> list[int] | None:
        """Inputs and outputs of a layer that a rank builds without using it."""
        return [self.job.outputs, self.job.outputs] if self.drill(rank, "unused") else None

    def first_weights(self, caller: Caller) -> bytes:
        """The weights that the model of a rank begins with, those of an unused layer last; drawn once."""
        if self._handed[caller.ip] >= FIRST_WEIGHTS:
            raise Refused(429, f"the first weights went to this address {FIRST_WEIGHTS} times; keep them")
        self._handed[caller.ip] += 1
        hidden, extra = self.hidden(caller.rank), self.extra(caller.rank)
        if (known := self._first.get((hidden, bool(extra)))) is not None:
            return known
        shapes = parameters(self.job.features, hidden, self.job.outputs)
        if extra:
            shapes += parameters(extra[0], (), extra[1])
        made = to_bytes(make_weights(self.spec.weights_seed, shapes, self.job.dtype))
        return self._first.setdefault((hidden, bool(extra)), made)

    def batch_wait(self, caller: Caller, step: int, now: float) -> float:
        """Seconds until this batch may be handed out, as far as is known now; infinite where others decide."""
        if self.has_drill(caller, "loader", step) or (self.until is not None and step >= self.until):
            return math.inf
        return 0.0 if step in self.begun else max(0.0, self.last_begun + self.spec.pace_seconds - now)

    def batch(self, caller: Caller, now: float, *, epoch: int, step: int, micro: int, rows: Array) -> int:
        """Notes that a batch is handed out, which must not have to wait; how many bytes it has."""
        size = len(rows) * self.data.row_bytes
        named = not self.spec.brief or step in self.spec.weights_at
        indices = array("i", rows.astype("i4").tobytes() if named else b"")
        asked = {"epoch": epoch, "step": step, "micro": micro, "indices": indices, "sent": size}
        self.ledger.add(now, caller, "batch", more_bytes=4 * len(indices), **asked)
        if step not in self.begun:
            self.begun.add(step)
            self.last_begun = now
        return size

    def tick(self, caller: Caller, now: float, step: int) -> float:
        """Notes a forward pass; for how many seconds its answer is to be held back."""
        self.ledger.add(now, caller, "tick", step=step)
        if self.has_drill(caller, "hang", step):
            return math.inf
        slow = self.has_drill(caller, "slow", step)
        return slow.seconds if slow else 0.0

    def introduce(self, caller: Caller, now: float, members: list[dict[str, object]], backend: str | None) -> None:
        """Notes whom a process met in its process group."""
        more_bytes = EVENT_BYTES * len(members)
        self.ledger.add(now, caller, "introduce", more_bytes=more_bytes, members=members, backend=backend)

    def report(self, caller: Caller, now: float, *, step: int, loss: float, draw: float) -> bool:
        """Notes a step that is done; whether the weights after it are wanted."""
        self.ledger.add(now, caller, "report", step=step, loss=loss, draw=draw)
        self._reported.setdefault(caller.uid, set()).add(step)
        return step in self.spec.weights_at

    def bring(self, caller: Caller, now: float, step: int | None, raw: bytes, digest: str) -> None:
        """Weights after a step, or those at the end, with their SHA-256; equal ones are kept once.

        Of a step a process has those that it brought first: time is measured until they are there.
        """
        if step is not None and step not in self.spec.weights_at:
            raise Refused(400, f"the weights after step {step} are not wanted; report says when they are")
        if len(raw) != self.job.weights_bytes:
            raise Refused(400, f"{len(raw)} bytes of weights came, where {self.job.weights_bytes} belong")
        if step is not None:
            if step not in self._reported.get(caller.uid, ()):
                raise Refused(409, f"weights after step {step} came before its report; report it first")
            if self._brought.setdefault((caller.uid, step), digest) != digest:
                raise Refused(409, f"other weights after step {step} came before from this process; they stand")
        if step is None:
            self.ledger.add(now, caller, FINISH, digest=digest)
        else:
            self.ledger.add(now, caller, "weights", step=step, digest=digest, bytes=len(raw))
        self.digests[caller.rank, FINISH if step is None else step] = digest
        wanted = set(self.digests.values())
        self.kept = {known: each for known, each in self.kept.items() if known in wanted}
        if sum(map(len, self.kept.values())) + len(raw) <= KEPT_BYTES:
            self.kept.setdefault(digest, raw)

    def weights(self, rank: int, step: int | str) -> bytes:
        """What a rank brought."""
        digest = self.digests.get((rank, step))
        if digest is None:
            raise Refused(404, f"rank {rank} of run {self.name} brought no weights for step {step}")
        if digest not in self.kept:
            raise Refused(404, f"the weights {digest} were not kept: {KEPT_BYTES} bytes of a run are, at most")
        return self.kept[digest]


class Runs:
    """All runs by name."""

    def __init__(self, draw_ticket: Callable[[], str]) -> None:
        self.draw_ticket = draw_ticket
        self.by_name: dict[str, Run] = {}
        self._run_of: dict[str, str] = {}

    def add(self, name: str, spec: RunSpec, data: Data) -> None:
        """A new run."""
        self.check_new(name)
        self.by_name[name] = Run(name, spec, data)

    def check_new(self, name: str) -> None:
        """Raises Refused where there is no place for this run."""
        if name in self.by_name:
            raise Refused(409, f"the run {name} is there already; a run cannot be changed, give it another name")
        if len(self.by_name) >= RUNS:
            raise Refused(507, f"there are {RUNS} runs, and no more fit; start the service anew")

    def find(self, name: str) -> Run:
        """A run that is there."""
        run = self.by_name.get(name)
        if run is None:
            raise Refused(404, f"there is no run {shown(name)}")
        return run

    def data_for(self, spec: RunSpec) -> Data:
        """The data of a run, shared with one that has the same."""
        job = spec.job
        for run in tuple(self.by_name.values()):  # the lock is not held
            other = run.spec.job
            same = (other.samples, other.features, other.outputs, other.dtype, run.spec.data_seed)
            if same == (job.samples, job.features, job.outputs, job.dtype, spec.data_seed):
                return run.data
        return make_data(spec.data_seed, job.samples, job.features, job.outputs, job.dtype)

    def joined(self, name: str, ip: str) -> str:
        """A process at this address joins a run: its ticket, which nobody else knows."""
        self._run_of[ip] = name
        return self.draw_ticket()

    def run_at(self, ip: str) -> Run | None:
        """The run that a process at this address joined last."""
        return self.by_name.get(self._run_of.get(ip, ""))
