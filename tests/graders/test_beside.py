"""When a failure may be the doing of other programs."""

import msgspec
import pytest

from graders.beside import Beside
from graders.rubric import Finding

SLOW = Finding(expected="2 times", observed="1.5 times", verdict="failed", unit="times", value=1.5, hint="low")


class Machine:
    """A clock and what others used."""

    def __init__(self, *looks: tuple[float, float | None]) -> None:
        self.times = iter([time for time, _ in looks])
        self.used = iter([used for _, used in looks])

    def beside(self, cores: int = 2) -> Beside:
        return Beside(lambda: next(self.used), cores, lambda: next(self.times))


@pytest.mark.parametrize(
    ("looks", "cores"),
    [
        ([(10.0, 100.0), (14.0, 102.0)], 0.5),
        ([(10.0, 100.0), (14.0, 99.9)], 0.0),
        ([(10.0, None), (14.0, 102.0)], None),
        ([(10.0, 100.0), (14.0, None)], None),
        ([(10.0, 100.0), (10.0, 102.0)], None),
    ],
)
def test_cores_that_others_used(looks: list[tuple[float, float | None]], cores: float | None) -> None:
    assert Machine(*looks).beside().begin()() == cores


def test_a_failure_beside_busy_programs_is_inconclusive() -> None:
    judged = Machine().beside().judge(SLOW, 0.26)
    assert judged == msgspec.structs.replace(
        SLOW,
        verdict="inconclusive",
        hint=None,
        observed="1.5 times; meanwhile other programs kept 0.3 of 2 cores busy, so this may be their doing; measure "
        "again while the machine is quiet",
    )


@pytest.mark.parametrize("used", [None, 0.0, 0.25])
def test_a_failure_on_a_quiet_machine_is_one(used: float | None) -> None:
    assert Machine().beside().judge(SLOW, used) is SLOW


def test_what_passed_beside_busy_programs_passed() -> None:
    passed = msgspec.structs.replace(SLOW, verdict="passed")
    assert Machine().beside().judge(passed, 2.0) is passed
