"""What the data service saw of a run: who joined, who read which samples, what was reported. Pure.

Place: `bench` reads events from the service and hands them to the checks as one `Story` per run. Limits: what pods say
of themselves (uid, rank, attempt) is a claim; the address that they called from is the kernel's.
"""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import msgspec

Kind = Literal["join", "introduce", "batch", "tick", "report", "weights", "finish", "refused"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the service's ledger.

    `n` counts them, `t` are the service's monotonic seconds, `ip` is where it came from; `uid`, `rank` and `attempt`
    (of torchrun) are what the pod says of itself; the rest depends on the kind.
    """

    n: int
    t: float
    kind: Kind
    ip: str
    uid: str = ""
    rank: int = -1
    attempt: int = 0
    step: int = -1
    epoch: int = -1
    micro: int = 0
    indices: tuple[int, ...] = ()
    loss: float | None = None
    draw: float | None = None
    digest: str = ""
    node: str = ""
    pid: int = 0
    world: int = 0
    ticket: str = ""
    members: tuple[dict[str, Any], ...] = ()
    backend: str | None = None
    bytes: int = 0
    sent: int = 0
    what: str = ""
    why: str = ""


class Story:
    """All events of one run, in the order in which they came."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = tuple(events)

    @classmethod
    def read(cls, raw: Sequence[object]) -> Self:
        """Of JSON as the service gives it; raises msgspec.ValidationError when it is something else."""
        return cls(msgspec.convert(raw, type=list[Event]))

    def until(self, end: float) -> Self:
        """What came before a moment."""
        return type(self)([event for event in self.events if event.t < end])

    def of(self, kind: Kind) -> Iterator[Event]:
        """The events of one kind."""
        return (event for event in self.events if event.kind == kind)

    def losses(self) -> dict[int, dict[int, float]]:
        """Reported loss by step and rank; of a step that was done again, what was said last."""
        return self._reported(lambda event: event.loss)

    def draws(self) -> dict[int, dict[int, float]]:
        """Reported draw by step and rank, as `losses`."""
        return self._reported(lambda event: event.draw)

    def _reported(self, figure: Callable[[Event], float | None]) -> dict[int, dict[int, float]]:
        found: dict[int, dict[int, float]] = {}
        for event in self.of("report"):
            said = figure(event)
            if said is not None:
                found.setdefault(event.step, {})[event.rank] = said
        return found

    def batches(self, world: int) -> dict[int, tuple[int, ...]]:
        """The samples of each step that all ranks reported, over all of them: what was read for it last.

        A step that was begun, broken off and done again counts as it was read the last time by each rank.
        """
        read: dict[int, dict[int, dict[int, tuple[int, ...]]]] = {}
        readers: dict[tuple[int, int], int] = {}
        reported: dict[int, set[int]] = {}
        for event, process in self._by_process():
            if event.kind == "batch":
                if readers.get((event.step, event.rank)) != process:
                    readers[event.step, event.rank] = process
                    read.setdefault(event.step, {})[event.rank] = {}
                read[event.step][event.rank][event.micro] = event.indices
            elif event.kind == "report":
                reported.setdefault(event.step, set()).add(event.rank)
        return {
            step: tuple(
                index
                for _, micro in sorted(read.get(step, {}).items())
                for _, indices in sorted(micro.items())
                for index in indices
            )
            for step, ranks in sorted(reported.items())
            if len(ranks) >= world
        }

    def order(self, world: int) -> list[tuple[int, ...]]:
        """The samples of each step from the first one on, up to the first that not all ranks did, or without any."""
        read = self.batches(world)
        return [read[step] for step in itertools.takewhile(lambda step: read.get(step), itertools.count())]

    def strange(self, homes: Mapping[str, Collection[str]]) -> list[Event]:
        """Events that did not come from the pod that they speak for, or that speak for another rank than it joined as.

        A batch may have been asked for before the pod joined anew: it is noted when it is handed out.

        Args:
            homes: the addresses that each pod of the run had, by uid.
        """
        ranks: dict[str, list[int]] = {}
        found = []
        for event in self.events:
            if event.kind == "refused":
                continue
            if event.kind == "join":
                ranks.setdefault(event.uid, []).append(event.rank)
            joined = ranks.get(event.uid, [])
            mine = joined if event.kind == "batch" else joined[-1:]
            if event.ip not in homes.get(event.uid, ()) or event.rank not in mine:
                found.append(event)
        return found

    def _by_process(self) -> Iterator[tuple[Event, int]]:
        """Each event with the number of the join of the process that it came from; -1 before any."""
        joined: dict[str, int] = {}
        for event in self.events:
            if event.kind == "join":
                joined[event.uid] = event.n
            yield event, joined.get(event.uid, -1)

    def done(self, world: int) -> int:
        """The last step that all of so many ranks reported; -1 for none."""
        ranks: dict[int, set[int]] = {}
        for event in self.of("report"):
            ranks.setdefault(event.step, set()).add(event.rank)
        return max((step for step, who in ranks.items() if len(who) >= world), default=-1)
