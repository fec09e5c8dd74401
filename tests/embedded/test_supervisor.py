"""Programs that end are started again, later each time, until they cannot be kept; clock and children are fakes."""

import threading
from pathlib import Path

import pytest

from clusters.api import MachineError, SpecError, StartError
from clusters.embedded.supervisor import Backoff, Restart, Supervisor, record, restarts


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Fake:
    """A program that ends when a test says so; its id is none that the kernel gives."""

    pid = 2**30

    def __init__(self) -> None:
        self.ended: int | None = None

    def status(self) -> int | None:
        return self.ended


class World:
    """A supervisor with all that it touches."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = Clock()
        self.children: list[Fake] = []
        self.noted: list[tuple[str, int]] = []
        self.log = tmp_path / "etcd.log"
        self.log.write_text("no space left on device\n")
        self.supervisor = Supervisor(lambda name, status: self.noted.append((name, status)), clock=self.clock)
        self.supervisor.start("etcd", self.start, self.log)

    def start(self) -> Fake:
        self.children.append(Fake())
        return self.children[-1]

    def fail_at_once(self, times: int) -> None:
        """Each new program ends a moment after its start."""
        for _ in range(times):
            self.children[-1].ended = 1
            self.clock.now += self.supervisor.look() % 60


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_pauses_double_up_to_ten_seconds_and_then_there_are_no_more() -> None:
    backoff = Backoff()
    assert [backoff.after(0.5) for _ in range(10)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, None])


def test_a_program_that_ran_for_a_while_begins_anew() -> None:
    backoff = Backoff()
    assert [backoff.after(ran) for ran in (1, 1, 10, 1)] == pytest.approx([0.1, 0.2, 0.1, 0.2])


def test_a_program_that_ends_while_the_cluster_starts_is_an_error(world: World) -> None:
    world.children[0].ended = 5
    with pytest.raises(StartError) as caught:
        world.supervisor.look()
    assert str(caught.value) == f"etcd ended with status 5; its log {world.log} ends with\nno space left on device"


def test_a_program_that_is_killed_later_is_started_again_after_a_pause(world: World) -> None:
    world.supervisor.keep()
    assert world.supervisor.look() == 60
    world.clock.now += 100
    world.children[0].ended = -9
    assert world.supervisor.look() == pytest.approx(0.1)
    assert world.noted == [("etcd", -9)]
    assert len(world.children) == 1
    assert world.supervisor.pids() == set()
    world.clock.now += 0.11
    assert world.supervisor.look() == 60
    assert len(world.children) == 2
    assert world.supervisor.pids() == {Fake.pid}


def test_a_program_that_cannot_be_kept_ends_the_cluster_with_its_last_words(world: World) -> None:
    world.supervisor.keep()
    with pytest.raises(StartError) as caught:
        world.fail_at_once(100)
    assert str(caught.value) == (
        f"etcd cannot be kept running: it ended with status 1, as 9 times before in a row; its log {world.log} ends "
        "with\nno space left on device"
    )
    assert len(world.children) == 10


def test_a_machine_that_has_no_process_to_give_is_asked_again(world: World) -> None:
    refusals = [OSError(11, "Resource temporarily unavailable"), MachineError("no disk")]

    def start() -> Fake:
        if refusals:
            raise refusals.pop(0)
        return world.start()

    world.supervisor.keep()
    first = Fake()
    world.supervisor.start("proxy", lambda: first if first.ended is None else start(), world.log)
    first.ended = -9
    for _ in range(3):
        world.clock.now += world.supervisor.look()
    assert world.supervisor.look() == 60
    assert world.noted == [("proxy", -9), ("proxy", 1), ("proxy", 1)]


def test_a_program_that_is_dropped_is_not_started_again(world: World) -> None:
    world.supervisor.keep()
    assert world.supervisor.drop("etcd") == Fake.pid
    world.children[0].ended = -9
    assert world.supervisor.look() == 60
    assert len(world.children) == 1


def test_work_is_done_when_its_moment_has_come(world: World) -> None:
    done: list[str] = []
    world.supervisor.keep()
    world.supervisor.at(30, lambda: done.append("lost"))
    assert world.supervisor.look() == 30
    world.clock.now += 30
    assert world.supervisor.look() == 60
    assert done == ["lost"]


def test_work_of_another_thread_is_done_by_the_one_that_looks(world: World) -> None:
    answers: list[object] = []

    def refuse() -> None:
        raise SpecError("no such node")

    def ask() -> None:
        answers.append(world.supervisor.do(threading.current_thread))
        try:
            world.supervisor.do(refuse)
        except SpecError as error:
            answers.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    while thread.is_alive():
        world.supervisor.look()
    assert answers == [threading.current_thread(), "no such node"]


def test_restarts_are_read_as_they_were_recorded(tmp_path: Path) -> None:
    file = tmp_path / "restarts.jsonl"
    assert restarts(file) == ()
    record(file, "etcd", -9)
    (found,) = restarts(file)
    assert found == Restart("etcd", -9, found.at)
    file.write_bytes(file.read_bytes() + b'{"name": "kub')
    assert restarts(file) == (found,)


def test_a_restart_that_cannot_be_recorded_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "gone" / "restarts.jsonl"
    record(file, "etcd", -9)
    assert restarts(file) == ()
