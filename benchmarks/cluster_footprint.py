"""Memory and idle processor use of the running cluster.

    gpulab up && python benchmarks/cluster_footprint.py [--seconds 30]

Memory is the proportional set size (smaps_rollup, proc(5)) summed over the holder and all that descends from it;
processor use is the growth of user and system time over the window. Goals with three nodes: at most 700 MB, and at most
5 % of one core for each node.
"""

import argparse
import os
import re
import time
from pathlib import Path

from clusters import backends
from clusters.embedded.backend import EmbeddedCluster
from clusters.process import descendants

TICKS = os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """Proportional set size in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)[0]) / 1000


def processor(pid: int) -> float:
    """Seconds of processor time used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def name(pid: int) -> str:
    """What a process calls itself, with the module of a Python process."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return words[words.index("-m") + 1] if "-m" in words else Path(words[0]).name


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    cluster = backends.find("embedded", backends.DEFAULT_NAME, os.environ)
    if not isinstance(cluster, EmbeddedCluster):
        raise SystemExit("no cluster runs; start one with `gpulab up`")
    pids = descendants(cluster.holder)
    before = {pid: processor(pid) for pid in pids}
    time.sleep(options.seconds)
    shares = {pid: (processor(pid) - before[pid]) / options.seconds * 100 for pid in pids}
    for pid in pids:
        print(f"{name(pid):32} {memory(pid):7.1f} MB {shares[pid]:6.2f} %")
    nodes = len(cluster.spec.nodes)
    print(
        f"{nodes} nodes, {len(pids)} processes: {sum(map(memory, pids)):.0f} MB proportional set size "
        f"(goal 700 with 3 nodes), "
        f"{sum(shares.values()):.1f} % of one core idle, {sum(shares.values()) / nodes:.1f} % a node (goal 5)"
    )


if __name__ == "__main__":
    main()
