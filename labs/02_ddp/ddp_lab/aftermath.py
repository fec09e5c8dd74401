"""What a ledger tells of a loss: who came back when, and the first step that had not been done before. Pure.

Place: `recovery` follows a training with it, and makes a `Loss` of it. Limits: what was done before who was lost joined
anew counts as done before the loss, for a rank may report a step in the moment in which another is lost.
"""

from ddp_lab.events import Story
from ddp_lab.recovery_facts import Loss, What


def loss_of(story: Story, what: What, rank: int, at: float, *, world: int, uid: str = "", saving: bool = False) -> Loss:
    """The loss of a rank at a time of the service, and what came after it; `first` is None as long as nothing did.

    A new step has to be read and reported once who was lost is there again: in a pod that was not there before, or a
    killed process in its own. Who joins without having been lost brings nothing nearer.

    Args:
        story: of the training.
        what: was lost.
        rank: of it.
        at: when.
        world: how many ranks there are; a step is done when all of them have reported it.
        uid: of the pod whose process was killed.
        saving: whether a checkpoint was being written.
    """
    known = {event.uid for event in story.events if event.t <= at}
    joins = [event for event in story.of("join") if event.t > at]
    back = [event.t for event in joins if event.uid not in known or (what == "process" and event.uid == uid)]
    joined, begun = min(back, default=None), min((event.t for event in joins), default=None)
    before = {event.step for event in story.of("report") if joined is None or event.t < joined}
    last = max(before, default=-1)
    introduced: dict[int, float] = {}
    worked: set[int] = set()
    read: set[int] = set()
    reported: dict[int, dict[int, float]] = {}
    for event in story.events:
        if begun is None or event.t < begun:
            continue
        if event.kind in ("batch", "tick", "report"):
            worked.add(event.step)
        if event.kind == "batch":
            read.add(event.step)
        if joined is None or event.t < joined:
            continue
        if event.kind == "introduce":
            introduced.setdefault(event.rank, event.t)
        elif event.kind == "report":
            reported.setdefault(event.step, {}).setdefault(event.rank, event.t)
    whole = {step: max(times.values()) for step, times in reported.items() if len(times) >= world}
    met = max(introduced.values()) if len(introduced) >= world else None
    first = min((time for step, time in whole.items() if step > last and step in read), default=None)
    return Loss(
        what=what,
        rank=rank,
        step=last,
        saving=saving,
        noticed=None if begun is None else begun - at,
        joined=None if joined is None else joined - at,
        met=None if met is None else met - at,
        first=None if first is None else first - at,
        again=sum(0 <= step <= last for step in worked),
    )
