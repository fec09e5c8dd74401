"""Starts and ends a cluster many times, and prints what is left: nothing may be, and memory may not grow.

    python -m benchmarks.up_down [--runs 100]

One node. Each cluster is started and ended by this process, as a grading does, so that descriptors, threads and memory
which one start leaves in it are seen, besides processes, network devices, mounts, cgroups and files of the machine.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cluster_start import traces
from clusters import places
from clusters.api import ClusterSpec, NodeSpec
from clusters.embedded import backend, build, prepare
from clusters.progress import Display

WARM = 3
"""Starts before memory is compared: the first ones import modules and fill caches."""

MOST_GROWTH = 4096
"""KiB that this process may grow by after the first starts."""


def own() -> dict[str, int]:
    """What this process holds: descriptors, threads, children, and resident memory in KiB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - names are all that is wanted
        "threads": int(status["Threads"]),
        "children": len(children),
        "memory": int(status["VmRSS"].split()[0]),
    }


def up_and_down(runs: int) -> list[str]:
    """Does it and prints each run; returns what was left, a line each."""
    with tempfile.TemporaryDirectory() as folder, Display(sys.stderr) as display:
        env = {**os.environ, "XDG_STATE_HOME": folder}
        cache = places.cache(env)
        programs, images = build.programs(cache, env, display), prepare.prepare((), cache, env, display)
        state = Path(folder)
        before, first = traces(state), own()
        for number in range(1, runs + 1):
            begun = time.monotonic()
            spec = ClusterSpec(nodes=(NodeSpec("only"),))
            cluster = backend.start(
                "ups-and-downs", spec, programs=programs, images=images, env=env, progress=lambda _: None
            )
            cluster.stop()
            held = own()
            print(f"run {number:3}: {time.monotonic() - begun:5.2f} s, memory {held['memory']} KiB", flush=True)
            if number == WARM:
                first = held
        left = sorted(line for line in traces(state) - before if not line.startswith("socket "))  # it needs a process
        for name in ("descriptors", "threads", "children"):
            if held[name] > first[name]:
                left.append(f"{name} of this process: {first[name]} after run {WARM}, {held[name]} at the end")
        if held["memory"] > first["memory"] + MOST_GROWTH:
            left.append(f"memory of this process grew from {first['memory']} KiB to {held['memory']} KiB")
        return left


def main() -> int:
    """Prints what is left; exit status 1 when that is anything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    left = up_and_down(parser.parse_args().runs)
    print("left behind:", "\n  ".join(left) or "nothing")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
