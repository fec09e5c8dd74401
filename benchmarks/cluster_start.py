"""Times `gpulab up` and `gpulab down`, as a person runs them, with warm caches.

    python benchmarks/cluster_start.py [--runs 10]

Three nodes. Prints each run and the medians; the goals on 2 cores are 4 s to all Ready (kube-proxy and CoreDNS serving)
and 1 s down.
After each `down` it looks for what was left: processes, network devices, mounts, control groups, sockets, state. With
`--runs 100` the last line shows whether the memory of the machine grew; it counts what neither the page cache nor
reclaimable slabs account for.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from clusters.process import run

GPULAB = [str(Path(sys.executable).with_name("gpulab"))]


def traces(state: Path) -> set[str]:
    """What a cluster could leave on this machine, as lines that name it."""
    processes = {
        f"process {path.parent.name} {path.read_bytes().replace(chr(0).encode(), b' ')[:80]!r}"
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if _mentions(path, state)
    }
    devices = {f"device {name}" for name in os.listdir("/sys/class/net")}  # noqa: PTH208 - names are all that is wanted
    mounts = {f"mount {line}" for line in Path("/proc/self/mounts").read_text().splitlines()}
    sockets = {f"socket {line.split()[1]}" for line in Path("/proc/net/tcp").read_text().splitlines() if " 0A " in line}
    files = {f"file {path}" for path in state.glob("gpulab/clusters/[!.]*")}
    groups = {f"control group {path}" for path in Path("/sys/fs/cgroup").rglob("*gpulab*")}
    return processes | devices | mounts | groups | sockets | files


def memory_mb() -> float:
    """Memory of the machine that is in use for good."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    kib = {name: int(value.split()[0]) for name, value in lines.items()}
    return (kib["MemTotal"] - kib["MemFree"] - kib["Buffers"] - kib["Cached"] - kib["SReclaimable"]) / 1024


def _mentions(path: Path, state: Path) -> bool:
    try:
        return str(state).encode() in path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "XDG_STATE_HOME": folder}
        before = traces(Path(folder))
        ups, downs, used = [], [], []
        for number in range(1, options.runs + 1):
            begun = time.monotonic()
            run([*GPULAB, "up"], env=env)
            up = time.monotonic()
            run([*GPULAB, "down"], env=env)
            ups.append(up - begun)
            downs.append(time.monotonic() - up)
            left = traces(Path(folder)) - before
            used.append(memory_mb())
            print(
                f"run {number:2}: up {ups[-1]:.2f} s, down {downs[-1]:.2f} s, left behind: {sorted(left) or 'nothing'}"
            )
        up, down = statistics.median(ups), statistics.median(downs)
        print(f"median of {options.runs}: up {up:.2f} s (goal 4), down {down:.2f} s (goal 1)")
        print(f"memory in use after the first and the last run: {used[0]:.0f} MB, {used[-1]:.0f} MB")


if __name__ == "__main__":
    main()
