"""What the processes of a container have used, of processes in a PID namespace of their own."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clusters.embedded.gpu.attribution import Holder
from clusters.embedded.runtime import processes, usage
from clusters.embedded.runtime.container import State
from clusters.process import Child
from clusters.wait import until
from tests.patience import PATIENCE

# Two children that work, and one that has ended after some work and was waited for.
WORK = """
python3 -c "
import time
while time.process_time() < 0.35: pass
"
python3 -c "
kept = bytearray(60 << 20)
while True: pass
" &
echo started > "$1"
wait
"""


@pytest.fixture
def init(machine: None, tmp_path: Path) -> Iterator[int]:
    """Process 1 of a PID namespace, from here."""
    enter = [
        "unshare",
        *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]),
        "--pid",
        "--mount-proc",
        "--fork",
    ]
    child = Child([*enter, "--kill-child", "sh", "-c", WORK, "sh", str(tmp_path / "started")], log=tmp_path / "log")
    until((tmp_path / "started").exists, bool, what="the processes to start", seconds=PATIENCE)
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    yield int(children[0])
    child.stop()


def container(init: int | None, *, quota: int = 0) -> Any:
    resources = SimpleNamespace(cpu_quota=quota, cpu_period=100_000)
    config = SimpleNamespace(linux=SimpleNamespace(resources=resources), metadata=SimpleNamespace(name="main"))
    used = (
        None if init is None else usage.tree(usage.listed(Path(f"/proc/{init}/root")))
    )  # house: the kernel's name for a root
    return SimpleNamespace(id="c", usage=lambda: used, config=config, state=State.RUNNING)


def test_time_and_memory_of_all_processes_count_also_of_those_that_ended(init: int) -> None:
    first = processes.usage(container(init))
    assert first is not None
    assert first.cpu_seconds >= 0.3  # of 0.35, as the kernel cuts user and system time to hundredths each
    later = until(
        lambda: processes.usage(container(init)),
        lambda found: found is not None and found.cpu_seconds > first.cpu_seconds and found.memory_bytes > 60 << 20,
        what="time to be used",
        seconds=PATIENCE,
    )
    assert later is not None
    assert later.memory_bytes < 1 << 30
    assert later.id == "c"


def test_a_container_that_does_not_run_has_used_nothing() -> None:
    assert processes.usage(container(None)) is None


def test_a_limit_says_how_many_processors_a_container_may_use() -> None:
    machine = len(os.sched_getaffinity(0))
    assert processes.cores(container(None)) == machine
    assert processes.cores(container(None, quota=50_000)) == 0.5
    assert processes.cores(container(None, quota=100_000_000)) == machine


def test_the_holder_of_a_device_is_found_by_its_pod_and_name() -> None:
    metadata = SimpleNamespace(namespace="ns", name="pod")
    running, ended = container(os.getpid()), container(None)
    ended.state = State.EXITED
    pod = SimpleNamespace(config=SimpleNamespace(metadata=metadata), containers={"0": ended, "1": running})
    pods: Any = SimpleNamespace(all=lambda: [pod])
    found = processes.held(pods, Holder("ns", "pod", "main"))
    assert found is not None
    assert 0 < found.cpu_seconds <= time.monotonic() * (os.cpu_count() or 1) * 1000
    for other in (Holder("other", "pod", "main"), Holder("ns", "other", "main"), Holder("ns", "pod", "other")):
        assert processes.held(pods, other) is None
