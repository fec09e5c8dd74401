"""What recording a run's GPUs costs: processor time of grader and cluster with the recorder and without, in turns.

    python benchmarks/gpu_recorder.py [--rounds 6] [--seconds 10]

On a cluster of one node without GPUs and two with two simulated ones each, at rest. It goes round four times a second,
so that the cost stands out from what the cluster does anyway, and a round's cost is then spread over the usual pause.
The goal is at most 0.5 % of one core.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import kubernetes

from clusters import backends
from clusters.api import Cluster, ClusterSpec, Gpus, NodeSpec
from clusters.progress import Display
from clusters.usage import tree_seconds
from graders.gpu_recorder import EVERY_SECONDS, GPUS, GpuRecorder
from graders.gpu_telemetry import decode
from graders.record import Record

GOAL = 0.5
PAUSE = 0.25
NODES = 2
L4S = Gpus(model="NVIDIA-L4", count=2, source="simulated")


def used(cluster: Cluster) -> float:
    """Processor seconds of this process and of all that the cluster runs."""
    return tree_seconds((os.getpid(), *cluster.roots))


def at_rest(cluster: Cluster, seconds: float) -> float:
    """Processor seconds a second without the recorder."""
    before = used(cluster)
    time.sleep(seconds)
    return (used(cluster) - before) / seconds


def recording(cluster: Cluster, core: kubernetes.client.CoreV1Api, seconds: float) -> tuple[float, float, int]:
    """Processor seconds a second with it, those of its own thread, and how many rounds there were."""
    with tempfile.TemporaryDirectory() as folder:
        record = Record(Path(folder) / "run")
        before = used(cluster)
        with GpuRecorder(core, record, every=PAUSE) as recorder:
            time.sleep(seconds)
        after = used(cluster)
        record.close()
        looks = decode((record.folder / "evidence" / GPUS).read_bytes())
        if any(look.failure for look in looks):
            raise SystemExit(f"an exporter told nothing: {next(look.failure for look in looks if look.failure)}")
        return (after - before) / seconds, recorder.seconds / seconds, len(looks) // NODES


def main() -> None:
    """Prints what a round costs, and that as a share of a core; ends with 1 beyond the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    spec = ClusterSpec(nodes=(NodeSpec("system"), *(NodeSpec(f"gpu-{place}", gpus=L4S) for place in range(NODES))))
    with Display(sys.stderr) as display:
        cluster = backends.launch("embedded", "gpu-recorder", spec, (), env=os.environ, progress=display)
    try:
        settings = kubernetes.client.Configuration()
        kubernetes.config.load_kube_config(str(cluster.kubeconfig), client_configuration=settings)
        settings.proxy, settings.retries = None, False
        core = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(settings))
        time.sleep(options.seconds)  # until the start has settled
        whole, own = [], []
        for _ in range(options.rounds):
            without = at_rest(cluster, options.seconds)
            with_it, thread, rounds = recording(cluster, core, options.seconds)
            whole.append((with_it - without) * options.seconds / rounds * 1000)
            own.append(thread * options.seconds / rounds * 1000)
    finally:
        cluster.stop()
    cost, share = statistics.median(whole), statistics.median(whole) / EVERY_SECONDS / 10
    print(
        f"a round of {NODES} nodes with 2 GPUs each: median {cost:.1f} ms of processor time ({min(whole):.1f} to "
        f"{max(whole):.1f}), {statistics.median(own):.1f} of it the grader's; every {EVERY_SECONDS:g} s that is "
        f"{share:.2f} % of a core (goal {GOAL})"
    )
    if share > GOAL:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
