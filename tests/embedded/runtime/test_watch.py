"""Limits by watching: what is looked at, and when a container is killed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from clusters.embedded.runtime import watch

PAGE = 4096


def process(folder: Path, *, resident: int, proportional: int) -> Path:
    """A folder in /proc of a process, with KiB of memory that it has mapped, and that count for it."""
    folder.mkdir(parents=True)
    (folder / "statm").write_text(f"9999 {resident * 1024 // PAGE} 0 0 0 0 0\n")
    half = proportional // 2
    rollup = f"55-56 ---p 00000000 00:00 0    [rollup]\nRss:  {resident} kB\nPss_Anon: {half} kB\nPss_File: 77 kB\n"
    (folder / "smaps_rollup").write_text(f"{rollup}Pss_Shmem:  {half} kB\n")
    return folder


class Container:
    """What the watcher sees of a container, and what it did to it."""

    def __init__(self, *processes: Path, limit: int = 0, in_memory: int = 0) -> None:
        self.id, self.processes, self.in_memory = "c", list(processes), in_memory
        self.config = SimpleNamespace(linux=SimpleNamespace(resources=SimpleNamespace(memory_limit_in_bytes=limit)))
        self.ended: list[tuple[str, bool]] = []

    def end(self, why: str = "", *, out_of_memory: bool = False) -> None:
        self.ended.append((why, out_of_memory))


def look(container: Any) -> float:
    return watch.look(container)


def test_a_container_with_more_than_its_limit_is_killed(tmp_path: Path) -> None:
    found = process(tmp_path / "1", resident=1024, proportional=1024)
    over = Container(found, found, limit=(2 << 20) - 1)
    assert look(over) > 1
    assert over.ended == [("", True)]
    within = Container(found, limit=2 << 20)
    assert look(within) == 0.5
    assert within.ended == []


def test_shared_memory_counts_once(tmp_path: Path) -> None:
    found = process(tmp_path / "1", resident=1024, proportional=512)
    sharing = Container(found, found, limit=1 << 20)
    assert look(sharing) == 1.0
    assert sharing.ended == []


def test_files_in_its_root_count(tmp_path: Path) -> None:
    over = Container(process(tmp_path / "1", resident=4, proportional=4), limit=1 << 20, in_memory=1 << 20)
    look(over)
    assert over.ended == [("", True)]


def test_a_container_without_a_limit_may_have_any_memory(tmp_path: Path) -> None:
    free = Container(process(tmp_path / "1", resident=1 << 30, proportional=1 << 30))
    assert look(free) == 0.0
    assert free.ended == []


def test_too_many_processes_are_killed(tmp_path: Path) -> None:
    many = Container(*[tmp_path / "ended"] * 1025)
    look(many)
    assert many.ended == [("it had 1025 processes; a container may have 1024", False)]


def test_a_process_that_has_ended_uses_nothing(tmp_path: Path) -> None:
    assert watch.resident(tmp_path) == watch.proportional(tmp_path) == 0
