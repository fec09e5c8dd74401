"""Processor time of trees of processes and of all others on this machine, from /proc (proc(5), stat).

Place: conftest.py tells the grader how much other programs used meanwhile; benchmarks look at what a client costs.
Limits: hundredths of a second; what a child used counts on once its parent has waited for it, so a process whose parent
ended first is lost to its tree.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
STEAL = 7
"""Which of `machine_ticks` a hypervisor took away."""


def tree_seconds(roots: Sequence[int], proc: Path = Path("/proc")) -> float:
    """Seconds of user and system time of processes and their descendants, with those they have waited for."""
    return tree_ticks(roots, _stats(proc)) / TICKS


def other_seconds(roots: Sequence[int], proc: Path = Path("/proc")) -> float:
    """Seconds that all but these trees have used, the kernel's threads too, and that a hypervisor took away.

    Only its growth says something. It is not the machine's sum less the trees': what a killed pod had used is lost to
    its tree, and would seem to be another's.
    """
    stolen = machine_ticks((proc / "stat").read_text())[STEAL]
    ticks, found = _trees(roots, _stats(proc))
    return (sum(used for pid, used in ticks.items() if pid not in found) + stolen) / TICKS


def machine_ticks(text: str) -> list[int]:
    """Clock ticks of all processors by what they went to, from the text of /proc/stat: user to steal, eight in all."""
    return [int(word) for word in text.splitlines()[0].split()[1:9]]


def tree_ticks(roots: Sequence[int], stats: Iterable[str]) -> int:
    """Clock ticks of trees of processes, from the texts of all stat files."""
    ticks, found = _trees(roots, stats)
    return sum(ticks.get(pid, 0) for pid in found)


def _trees(roots: Sequence[int], stats: Iterable[str]) -> tuple[dict[int, int], set[int]]:
    """Clock ticks of every process, and which processes are the roots and their descendants."""
    ticks: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for text in stats:
        pid, rest = int(text.partition(" ")[0]), text.rpartition(")")[2].split()
        ticks[pid] = sum(map(int, rest[11:15]))  # utime, stime, cutime, cstime
        children.setdefault(int(rest[1]), []).append(pid)
    found, left = set[int](), list(roots)
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += children.get(pid, [])
    return ticks, found


def _stats(proc: Path) -> list[str]:
    texts = []
    for path in proc.glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            texts.append(path.read_text(errors="replace"))
    return texts
