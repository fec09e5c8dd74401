"""What the kernel counted in a pod, between two counts; test_02_ddp_trainers.py has a kernel count."""

from typing import Any

import msgspec
import pytest

from ddp_lab.counted import Counted, Meanwhile

EARLIER = Counted(at=10.0, sent=500, cpu=3.0, newest=40, ids=100, tasks=(1, 7, 40))


def later(**changes: Any) -> Counted:
    return msgspec.structs.replace(EARLIER, at=14.0, **changes)


def test_cores_bytes_and_tasks_between_two_counts() -> None:
    found = later(sent=1300, cpu=5.0, newest=44, tasks=(1, 7, 42, 44)).since(EARLIER)
    assert found == Meanwhile(cores=0.5, sent=200.0, ended=2)


def test_nothing_is_told_of_what_is_mostly_counting() -> None:
    assert msgspec.structs.replace(EARLIER, at=11.0).since(EARLIER) is None


@pytest.mark.parametrize(
    ("newest", "tasks", "ended"),
    [(40, (1, 7, 40), 0), (41, (1, 7, 40), 1), (41, (41,), 0), (3, (1, 2, 7, 40, 99), 60), (3, (1, 7), 62)],
    ids=["none", "one", "one is there", "ids begin again", "and all are gone"],
)
def test_tasks_that_came_and_went(newest: int, tasks: tuple[int, ...], ended: int) -> None:
    assert later(newest=newest, tasks=tasks).ended(EARLIER) == ended


def test_a_kernel_that_does_not_tell_the_newest_task_tells_of_none() -> None:
    assert later(newest=0, tasks=(1, 7, 50)).ended(msgspec.structs.replace(EARLIER, newest=0)) == 0
