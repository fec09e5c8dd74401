"""What the processes of a container have used: from their cgroup, or from the container's own /proc.

Place: statistics for the kubelet, GPU telemetry and the watcher of limits ask for it. Limits, all of /proc: memory that
processes share counts for each of them, files in memory that no process maps count only in the container's root, and
the time of a process that ended without being waited for is lost.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage(msgspec.Struct, frozen=True):
    """What a container has used.

    Attributes:
        cpu_ns: processor time since its start; it never falls.
        usage: bytes of memory now.
        working_set: `usage` without files that could be dropped.
        rss: bytes of anonymous memory.
        page_faults: since its start; `major_page_faults` are those that read from a disk.
        processes: how many there are, bubblewrap's own included.
        throttled: periods, throttled periods and ns of the processor quota; None where that is not known.
    """

    cpu_ns: int = 0
    usage: int = 0
    working_set: int = 0
    rss: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    processes: int = 0
    throttled: tuple[int, int, int] | None = None


def listed(root: Path) -> list[Path]:
    """The folder of each process in the /proc of a container's root; empty when it has ended."""
    with contextlib.suppress(OSError):
        return [root / "proc" / name for name in os.listdir(root / "proc") if name.isdigit()]  # noqa: PTH208 - quick
    return []


def tree(found: Iterable[Path], files: int = 0) -> Usage:
    """What processes have used.

    Args:
        found: their folders in /proc.
        files: bytes of files in memory that count too.
    """
    ticks = minor = major = resident = shared = processes = 0
    for process in found:
        try:
            stat = (process / "stat").read_text().rpartition(")")[2].split()
            statm = (process / "statm").read_text().split()
        except OSError:  # it has ended
            continue
        processes += 1
        ticks += sum(map(int, stat[11:15]))  # utime, stime, cutime and cstime of proc(5)
        minor += int(stat[7]) + int(stat[8])
        major += int(stat[9]) + int(stat[10])
        resident += int(statm[1])
        shared += int(statm[2])
    memory = resident * _PAGE + files
    rss = (resident - shared) * _PAGE
    return Usage(ticks * _TICK, memory, memory, rss, minor + major, major, processes)


def written(root: Path) -> int:
    """Bytes that a container has written into its root, which is a file system in memory."""
    try:
        disk = os.statvfs(root)
    except OSError:  # the container has ended
        return 0
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def cgroup(folders: Mapping[str, Path], version: Literal["cgroup-v1", "cgroup-v2"]) -> Usage:
    """What the processes of a cgroup have used.

    Args:
        folders: the cgroup's folder of each controller; of v2 they are all the same.
        version: whose files are in them.

    Raises:
        OSError: it is not there any more.
    """
    memory, cpu = _table(folders["memory"] / "memory.stat"), _table(folders["cpu"] / "cpu.stat")
    if version == "cgroup-v1":
        prefix, anonymous = "total_", "total_rss"
        usage = _number(folders["memory"] / "memory.usage_in_bytes")
        cpu_ns = _number(folders["cpuacct"] / "cpuacct.usage")
        throttled_ns = cpu.get("throttled_time", 0)
    else:
        prefix, anonymous = "", "anon"
        usage = _number(folders["memory"] / "memory.current")
        cpu_ns = cpu["usage_usec"] * 1000
        throttled_ns = cpu.get("throttled_usec", 0) * 1000
    return Usage(
        cpu_ns,
        usage,
        max(0, usage - memory.get(f"{prefix}inactive_file", 0)),
        memory.get(anonymous, 0),
        memory.get(f"{prefix}pgfault", 0),
        memory.get(f"{prefix}pgmajfault", 0),
        _number(folders["pids"] / "pids.current"),
        (cpu.get("nr_periods", 0), cpu.get("nr_throttled", 0), throttled_ns),
    )


class Traffic(msgspec.Struct, frozen=True):
    """Counters of a network interface, as the one who uses it sees them."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0

    def other_side(self) -> "Traffic":
        """What the other end of a pair of virtual devices counts."""
        received = (self.rx_bytes, self.rx_packets, self.rx_errors, self.rx_dropped)
        return Traffic(self.tx_bytes, self.tx_packets, self.tx_errors, self.tx_dropped, *received)


def traffic(net_dev: str) -> dict[str, Traffic]:
    """The counters by interface in the text of /proc/net/dev (proc(5))."""
    found = {}
    for line in net_dev.splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = [int(word) for word in rest.split()]
        found[name.strip()] = Traffic(*numbers[0:4], *numbers[8:12])
    return found


def _number(path: Path) -> int:
    return int(path.read_text())


def _table(path: Path) -> dict[str, int]:
    """A file of lines such as "name 5"."""
    pairs = (line.split(" ") for line in path.read_text().splitlines())
    return {name: int(value) for name, value in pairs}
