"""How much processor time a command and all that it started have used, while it runs, from /proc (proc(5), stat).

Place: `runs` looks at it while a client measures. Limits: hundredths of a second; what a child used counts on once its
parent has waited for it, so a process whose parent ended first is lost with it.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def tree_seconds(root: int, proc: Path = Path("/proc")) -> float:
    """Seconds of user and system time of a process and its descendants, with those they have waited for."""
    stats = []
    for path in proc.glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            stats.append(path.read_text(errors="replace"))
    return total_ticks(root, stats) / TICKS


def total_ticks(root: int, stats: Iterable[str]) -> int:
    """Clock ticks of a tree of processes, from the texts of all stat files."""
    ticks: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for text in stats:
        pid, rest = int(text.partition(" ")[0]), text.rpartition(")")[2].split()
        ticks[pid] = sum(map(int, rest[11:15]))  # utime, stime, cutime, cstime
        children.setdefault(int(rest[1]), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return sum(ticks.get(pid, 0) for pid in found)
