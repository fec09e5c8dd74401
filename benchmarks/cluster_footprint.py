"""Memory and idle processor use of clusters of 1, 3, 6 and 12 nodes, started for it one after the other.

    python benchmarks/cluster_footprint.py [--nodes 1 3 6 12] [--seconds 30] [--detail]

Memory is the proportional set size (smaps_rollup, proc(5)) summed over the holder and all that descends from it;
processor use is the growth of user and system time over the window. Goals with three nodes: at most 700 MB, and at most
5 % of one core for each node.
"""

import argparse
import os
import re
import sys
import time
from pathlib import Path

from clusters import backends
from clusters.api import ClusterSpec, NodeSpec
from clusters.embedded.backend import EmbeddedCluster
from clusters.process import descendants
from clusters.progress import Display

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


def measure(cluster: EmbeddedCluster, seconds: float, *, detail: bool) -> str:
    """One row of the table, after `seconds` to settle and as many to be measured."""
    time.sleep(seconds)
    pids = descendants(cluster.holder)
    before = {pid: processor(pid) for pid in pids}
    time.sleep(seconds)
    shares = {pid: (processor(pid) - before[pid]) / seconds * 100 for pid in pids}
    if detail:
        for pid in pids:
            print(f"{name(pid):32} {memory(pid):7.1f} MB {shares[pid]:6.2f} %")
    nodes, idle = len(cluster.spec.nodes), sum(shares.values())
    return f"{nodes:5} {len(pids):9} {sum(map(memory, pids)):9.0f} {idle:10.1f} {idle / nodes:12.1f}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 3, 6, 12])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--detail", action="store_true", help="a line per process too")
    options = parser.parse_args()
    print("nodes processes memory MB % of a core % of it/node")
    for count in options.nodes:
        spec = ClusterSpec(nodes=tuple(NodeSpec(f"node-{index}") for index in range(1, count + 1)))
        with Display(sys.stderr) as display:
            cluster = backends.launch("embedded", "footprint", spec, (), env=os.environ, progress=display)
        try:
            assert isinstance(cluster, EmbeddedCluster)
            print(measure(cluster, options.seconds, detail=options.detail), flush=True)
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
